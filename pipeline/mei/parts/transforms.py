"""What is done to the image before the model sees it: ``f(images, scene, rng, fraction)``.

`rng` is that of the step, the same for all images, so that a batch changes nothing; `fraction` is
how much of the ascent has passed.
"""

from __future__ import annotations

import numpy as np
import torch

from pipeline.registry import Registry

from .scene import Scene

transforms = Registry("transform")


@transforms.register("none", default=True)
def none(
    images: torch.Tensor, scene: Scene, rng: np.random.Generator, fraction: float
) -> torch.Tensor:
    """Show the image as it is."""
    return images


@transforms.register("jitter")
def jitter(
    images: torch.Tensor,
    scene: Scene,
    rng: np.random.Generator,
    fraction: float,
    *,
    max_px: int = 1,
    until: float = 0.7,
) -> torch.Tensor:
    """Shift the image by whole pixels, at most `max_px` each way, until late in the ascent.

    Leads to maxima that do not depend on a pixel. Too late an end (0.8) leaves units of high
    frequency with an image for shifted copies: correlation with a linear unit's filter down to
    0.83.

    Parameters
    ----------
    max_px : int
        Largest shift each way (px).
    until : float
        Share of the ascent after which nothing is shifted.
    """
    dy, dx = rng.integers(-max_px, max_px + 1, 2)
    if fraction >= until:
        return images
    return torch.roll(images, (int(dy), int(dx)), (2, 3))
