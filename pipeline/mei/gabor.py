"""Gabors in closed form: a bank of them, and one that a gradient can move."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray

COLUMNS = ("y_px", "x_px", "sigma_px", "wavelength_px", "orientation_rad", "phase_rad")
CHUNK = 2048


def bank_parameters(
    shape: tuple[int, int],
    *,
    phases_deg: tuple[float, ...],
    wavelengths_px: tuple[float, ...],
    orientations: int,
    sigmas_px: tuple[float, ...],
    n_dy: int,
    n_dx: int,
    max_shift: float,
) -> NDArray[np.float64]:
    """Return the parameters (n, 6), columns as `COLUMNS`, of a bank on a grid of places.

    Shifts are fractions of height and width from the center, as published.
    """
    h, w = shape
    ys = (h - 1) / 2 + h * np.linspace(-max_shift, max_shift, n_dy)
    xs = (w - 1) / 2 + w * np.linspace(-max_shift, max_shift, n_dx)
    angles = np.arange(orientations) * np.pi / orientations
    phases = np.deg2rad(phases_deg)
    return np.array(list(product(ys, xs, sigmas_px, wavelengths_px, angles, phases)), np.float64)


def draw(parameters: torch.Tensor, shape: tuple[int, int], norm: float) -> torch.Tensor:
    """Draw Gabors (n, h, w) of zero mean and a given L2 norm; differentiable.

    ``exp(-(dx^2 + dy^2) / 2 sigma^2) cos(2 pi (dx cos t + dy sin t) / wavelength + phase)``, the
    stripes across the direction t. The envelope is separable, so that only the cosine is
    computed per pixel.
    """
    y, x, sigma, wavelength, angle, phase = parameters.unbind(1)
    rows = torch.arange(shape[0], dtype=parameters.dtype, device=parameters.device)
    columns = torch.arange(shape[1], dtype=parameters.dtype, device=parameters.device)
    dy, dx = rows - y[:, None], columns - x[:, None]
    width = 2 * sigma[:, None] ** 2
    envelope_y, envelope_x = torch.exp(-(dy**2) / width), torch.exp(-(dx**2) / width)
    k = 2 * torch.pi / wavelength
    along_y = (k * torch.sin(angle))[:, None] * dy + phase[:, None]
    along_x = (k * torch.cos(angle))[:, None] * dx
    # cos(a + b) = cos a cos b - sin a sin b: outer products instead of a cosine a pixel
    images = (envelope_y * along_y.cos())[:, :, None] * (envelope_x * along_x.cos())[:, None]
    images = (
        images - (envelope_y * along_y.sin())[:, :, None] * (envelope_x * along_x.sin())[:, None]
    )
    images = images - images.mean((1, 2), keepdim=True)
    return images * (norm / images.square().sum((1, 2), keepdim=True).sqrt().clamp_min(1e-12))


def drawn_bank(
    parameters: NDArray, shape: tuple[int, int], norm: float, device: torch.device
) -> Iterator[tuple[int, torch.Tensor]]:
    """Yield the first index and the z-scored images (n, h, w) of every chunk of a bank."""
    table = torch.as_tensor(parameters, dtype=torch.float32, device=device)
    for start in range(0, len(table), CHUNK):
        yield start, draw(table[start : start + CHUNK], shape, norm)


def describe(parameters: NDArray) -> dict[str, float]:
    """Return one Gabor's parameters as JSON, angles in degrees."""
    values = dict(zip(COLUMNS, (float(value) for value in parameters), strict=True))
    values["orientation_deg"] = float(np.rad2deg(values.pop("orientation_rad")) % 180)
    values["phase_deg"] = float(np.rad2deg(values.pop("phase_rad")) % 360)
    return values
