"""What the image must obey: ``f(images, background, outside, scene) -> images, background``.

Where only the receptive field's crop is ascended, the rest of the frame, `outside` pixels a
channel, is uniform at `background` (n, C) and counts in mean and norm.
"""

from __future__ import annotations

import torch

from pipeline.registry import Registry

from .scene import Scene

constraints = Registry("constraint")


@constraints.register("norm", default=True)
def norm(
    images: torch.Tensor,
    background: torch.Tensor,
    outside: int,
    scene: Scene,
    *,
    keep_mean: bool = True,
    clip: bool = False,
    rounds: int = 5,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Fix the L2 norm about mean gray and keep the frame's mean (each channel's).

    With `clip` the image stays within gray levels 0-255 too; what that costs in norm the rest of
    the image makes up for, in up to `rounds` rounds.

    Parameters
    ----------
    keep_mean : bool
        Keep the frame's mean, each channel's.
    clip : bool
        Keep within gray levels 0-255 as well.
    rounds : int
        How often norm and clipping alternate at most.
    """
    pixels = images.shape[2] * images.shape[3]
    for _ in range(rounds):
        if keep_mean:
            mean = (images.sum((2, 3)) + outside * background) / (pixels + outside)
            images, background = images - mean[..., None, None], background - mean
        square = images.square().sum((1, 2, 3)) + outside * background.square().sum(1)
        gain = scene.norm / square.sqrt().clamp_min(1e-12)
        images, background = images * gain[:, None, None, None], background * gain[:, None]
        if not clip:
            return images, background
        clipped = images.clamp(scene.low, scene.high)
        if torch.equal(clipped, images):
            break
        images = clipped
    return images, background.clamp(scene.low, scene.high)


@constraints.register("grey_range")
def grey_range(
    images: torch.Tensor, background: torch.Tensor, outside: int, scene: Scene
) -> tuple[torch.Tensor, torch.Tensor]:
    """Stay within gray levels 0-255, nothing else (Walker et al. 2019)."""
    return images.clamp(scene.low, scene.high), background.clamp(scene.low, scene.high)
