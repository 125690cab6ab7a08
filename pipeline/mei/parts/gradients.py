"""Preconditioning of the gradient: ``f(gradient (n, C, h, w), fraction)``, image by image."""

from __future__ import annotations

import torch
from torch.nn import functional

from pipeline.registry import Registry

gradients = Registry("gradient preconditioner")


@gradients.register("none", default=True)
def none(gradient: torch.Tensor, fraction: float) -> torch.Tensor:
    """Take the gradient as it is."""
    return gradient


@gradients.register("spectral_2019")
def spectral_2019(gradient: torch.Tensor, fraction: float, *, power: float = 0.1) -> torch.Tensor:
    """Damp high frequencies by ``1 / max(1, (fx^2 + fy^2)^power)``, mean gain 1.

    Frequencies are cycles per image, in the order of the FFT (Walker et al. 2019 built the grid
    symmetric about the center, off by one).

    Parameters
    ----------
    power : float
        Exponent of the squared frequency; 0 damps nothing.
    """
    h, w = gradient.shape[-2:]
    fy = torch.fft.fftfreq(h, 1 / h, device=gradient.device)[:, None]
    fx = torch.fft.rfftfreq(w, 1 / w, device=gradient.device)[None]
    gain = 1 / (fy**2 + fx**2).pow(power).clamp_min(1)
    # the half plane of a real transform holds all but its first (and, if even, last) column twice
    twice = torch.full((w // 2 + 1,), 2.0, device=gradient.device)
    twice[0] = 1
    if w % 2 == 0:
        twice[-1] = 1
    gain = gain / ((gain * twice).sum() / (h * w))
    return torch.fft.irfft2(torch.fft.rfft2(gradient) * gain, s=(h, w))


@gradients.register("gaussian")
def gaussian(
    gradient: torch.Tensor, fraction: float, *, sigma_px: float = 1.0, until: float = 1.0
) -> torch.Tensor:
    """Blur the gradient by a Gaussian, zero beyond the frame, up to a fraction of the ascent.

    A prior with a price: on a true neuron a constant 1.5 px costs 18 % of the drive.

    Parameters
    ----------
    sigma_px : float
        Width of the Gaussian (px).
    until : float
        Share of the ascent after which nothing is blurred.
    """
    return blur(gradient, sigma_px) if fraction < until else gradient


def blur(images: torch.Tensor, sigma_px: float, mode: str = "constant") -> torch.Tensor:
    """Blur (n, C, h, w) by a Gaussian; beyond the frame lies 0, or its edge (`replicate`)."""
    reach = max(1, round(4 * sigma_px))
    x = torch.arange(-reach, reach + 1, dtype=images.dtype, device=images.device)
    kernel = torch.exp(-0.5 * (x / max(sigma_px, 1e-6)) ** 2)
    kernel = kernel / kernel.sum()
    n, c, h, w = images.shape
    out = functional.pad(images.reshape(n * c, 1, h, w), [reach] * 4, mode=mode)
    out = functional.conv2d(out, kernel.reshape(1, 1, -1, 1))
    return functional.conv2d(out, kernel.reshape(1, 1, 1, -1)).reshape(n, c, h, w)
