"""Receptive-field filters in model pixels, and how images reach them."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.errors import DataError


@lru_cache(maxsize=32)
def area_matrix(n_out: int, n_in: int) -> NDArray[np.float32]:
    """Return the matrix (n_out, n_in) that averages a line of pixels by overlap."""
    edges = np.arange(n_out + 1) * (n_in / n_out)
    pixels = np.arange(n_in)
    low = np.maximum(edges[:-1, None], pixels)
    high = np.minimum(edges[1:, None], pixels + 1)
    matrix = np.clip(high - low, 0, None) / (n_in / n_out)
    return matrix.astype(np.float32)


def to_model_pixels(images: NDArray, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Area-average images (n, H, W) to (n, h, w) of the same aspect ratio.

    Raises
    ------
    DataError
        If the aspect ratios differ by more than 1 %.
    """
    images = np.asarray(images)
    if images.ndim != 3:
        raise ValueError(f"images must be (n, height, width), got shape {images.shape}")
    height, width = images.shape[1:]
    if abs(width / height * shape[0] / shape[1] - 1) > 0.01:
        raise DataError(
            "wrong aspect ratio", found=f"{height} x {width}", expected=f"that of {shape}"
        )
    if (height, width) == tuple(shape):
        return images.astype(np.float32)
    rows, columns = area_matrix(shape[0], height), area_matrix(shape[1], width)
    out = np.empty((len(images), *shape), np.float32)
    for start in range(0, len(images), 256):  # bounds the float copy of large images
        part = images[start : start + 256].astype(np.float32)
        out[start : start + 256] = rows @ (part @ columns.T)
    return out


def gabors(
    *,
    y_px: NDArray,
    x_px: NDArray,
    sigma_px: NDArray,
    aspect: NDArray,
    wavelength_px: NDArray,
    orientation_rad: NDArray,
    phase_rad: NDArray,
    shape: tuple[int, int],
) -> NDArray[np.float32]:
    """Draw Gabor filters of zero mean and unit norm, shape (units, height, width).

    `sigma_px` is the envelope across the stripes, `sigma_px * aspect` along them; at phase 0 the
    center is bright.
    """
    yy, xx = np.mgrid[: shape[0], : shape[1]].astype(np.float64)

    def column(values: NDArray) -> NDArray:
        return np.asarray(values, np.float64)[:, None, None]

    dy, dx = yy - column(y_px), xx - column(x_px)
    cos, sin = np.cos(column(orientation_rad)), np.sin(column(orientation_rad))
    across, along = dx * cos + dy * sin, -dx * sin + dy * cos
    envelope = np.exp(
        -0.5 * (across / column(sigma_px)) ** 2
        - 0.5 * (along / column(sigma_px) / column(aspect)) ** 2
    )
    carrier = np.cos(2 * np.pi * across / column(wavelength_px) + column(phase_rad))
    # subtracting a multiple of the envelope removes the mean without leaving the receptive field
    filters = envelope * carrier
    filters -= envelope * (filters.sum((1, 2)) / envelope.sum((1, 2)))[:, None, None]
    filters /= np.sqrt((filters**2).sum((1, 2), keepdims=True))
    return filters.astype(np.float32)


def cubic_shift_matrices(shift_px: torch.Tensor, n: int) -> torch.Tensor:
    """Return matrices (batch, n, n) that read a line of pixels at `index + shift`.

    Catmull-Rom interpolation; beyond the edge lies the mean (0 of a z-scored image).
    """
    index = torch.arange(n, dtype=shift_px.dtype)
    distance = (index[None, :, None] + shift_px[:, None, None] - index[None, None, :]).abs()
    near = 1.5 * distance**3 - 2.5 * distance**2 + 1
    far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    return torch.where(distance < 1, near, torch.where(distance < 2, far, 0.0))


def shift_receptive_fields(images: torch.Tensor, shift_xy_px: torch.Tensor) -> torch.Tensor:
    """Move what the filters see: all receptive fields shifted by (x, y) right and down.

    Parameters
    ----------
    images : tensor, shape (n, height, width)
        Z-scored images.
    shift_xy_px : tensor, shape (n, 2)
        Displacement of every receptive field (model pixels), x first.
    """
    rows = cubic_shift_matrices(shift_xy_px[:, 1], images.shape[1])
    columns = cubic_shift_matrices(shift_xy_px[:, 0], images.shape[2])
    return rows @ images @ columns.transpose(1, 2)
