"""What is done to the finished image: ``f(frames (n, C, h, w), scene) -> frames``, z-scored.

The ascent's constraint is applied once more afterwards.
"""

from __future__ import annotations

import torch

from pipeline.registry import Registry

from .scene import Scene

finishes = Registry("finish")


@finishes.register("none", default=True)
def none(frames: torch.Tensor, scene: Scene) -> torch.Tensor:
    """Leave the image as the ascent left it."""
    return frames


@finishes.register("compact")
def compact(
    frames: torch.Tensor,
    scene: Scene,
    *,
    window: float = 1.5,
    boost: float = 0.0,
    boost_from: float = 0.03,
) -> torch.Tensor:
    """Window the image around its peak, and lift high spatial frequencies if wanted.

    Receptive fields are compact, but the image of a trained network has faint structure all over
    the pixels it sees. The window costs 1.5 % of the network's response; that of the true neuron
    rises by 1 % where trials are few and falls by 1 % where they are not. Natural images have
    little power at high frequencies, so that networks of very few trials underrate these.

    Parameters
    ----------
    frames : tensor, shape (n, C, h, w)
    scene : Scene
    window : float
        Width of the Gaussian window in widths of the image's own envelope; 0 for none.
    boost : float
        Power of the spatial frequency by which amplitudes are multiplied; 0 for none.
    boost_from : float
        (cycles/px) below it nothing changes.
    """
    h, w = frames.shape[-2:]
    if boost:
        fy = torch.fft.fftfreq(h, device=frames.device)[:, None]
        fx = torch.fft.rfftfreq(w, device=frames.device)[None]
        gain = (fy**2 + fx**2).sqrt().clamp_min(boost_from).pow(boost)
        frames = torch.fft.irfft2(torch.fft.rfft2(frames) * gain, s=(h, w))
    return frames * _window(frames, window) if window else frames


def _window(frames: torch.Tensor, width: float) -> torch.Tensor:
    """Return a Gaussian window (n, 1, h, w) shaped like each image's envelope.

    The envelope is the amplitude of the monogenic signal (image and Riesz transform in
    quadrature), which does not depend on phase. Its fourth power is weighed: faint structure far
    away hardly counts, and for a Gaussian envelope of covariance S the moments are S / 4.
    """
    h, w = frames.shape[-2:]
    fy = torch.fft.fftfreq(h, device=frames.device)[:, None]
    fx = torch.fft.rfftfreq(w, device=frames.device)[None]
    radius = (fy**2 + fx**2).sqrt()
    radius[0, 0] = 1
    spectrum = torch.fft.rfft2(frames)
    energy = frames.square()
    for direction in (fy, fx):
        energy = energy + torch.fft.irfft2(spectrum * (-1j * direction / radius), s=(h, w)).square()
    weight = energy.sum(1).square()
    weight = weight / weight.sum((1, 2), keepdim=True).clamp_min(1e-30)
    y = torch.arange(h, dtype=frames.dtype, device=frames.device)[:, None]
    x = torch.arange(w, dtype=frames.dtype, device=frames.device)[None]
    cy, cx = (((weight * axis).sum((1, 2)))[:, None, None] for axis in (y, x))
    dy, dx = y - cy, x - cx
    syy, sxx, sxy = (4 * (weight * d).sum((1, 2)) for d in (dy * dy, dx * dx, dy * dx))
    # 0.25 px^2: an image of one bright pixel has a width too
    syy, sxx = (syy + 0.25)[:, None, None], (sxx + 0.25)[:, None, None]
    sxy = sxy[:, None, None]
    distance = (sxx * dy**2 - 2 * sxy * dy * dx + syy * dx**2) / (syy * sxx - sxy**2)
    return torch.exp(-distance / (2 * width**2))[:, None]
