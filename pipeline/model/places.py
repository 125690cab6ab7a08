"""First guesses of where receptive fields are, from the responses to natural images."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

WAVELENGTHS_PX = (5.0, 9.0)  # at an image height of 36 px
ORIENTATIONS = 4
STRIDE_PX = 2


def _gabor_pair(wavelength: float, angle: float) -> torch.Tensor:
    """Even and odd Gabor of zero mean and unit norm, shape (2, 1, k, k)."""
    sigma = 0.45 * wavelength
    half = int(np.ceil(2 * sigma))
    yy, xx = np.mgrid[-half : half + 1, -half : half + 1]
    along = np.cos(angle) * xx + np.sin(angle) * yy
    envelope = np.exp(-(xx**2 + yy**2) / (2 * sigma**2))
    pair = []
    for phase in (0, np.pi / 2):
        gabor = envelope * np.cos(2 * np.pi * along / wavelength - phase)
        gabor -= envelope * gabor.sum() / envelope.sum()
        pair.append(gabor / np.sqrt((gabor**2).sum()))
    return torch.as_tensor(np.stack(pair)[:, None].astype(np.float32))


def receptive_field_places(
    images: NDArray[np.float32], responses: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Find where in the image each unit is driven.

    Responses are correlated with what Gabors of several sizes and orientations (linear, for
    simple cells, and their energy, for complex ones) see at every place; the place where the
    squared correlations sum to most is the guess.

    Parameters
    ----------
    images : array, shape (trials, h, w)
        Z-scored.
    responses : array, shape (trials, units)

    Returns
    -------
    array, shape (units, 2)
        (y, x) in pixels.
    """
    n, height, _ = images.shape
    stimulus = torch.as_tensor(images)[:, None]
    answer = torch.as_tensor(responses).float()
    answer = answer - answer.mean(0)
    answer = answer / answer.norm(dim=0).clamp_min(1e-12)
    scale = height / 36
    score = torch.zeros(())
    for wavelength in WAVELENGTHS_PX:
        for angle in np.arange(ORIENTATIONS) * np.pi / ORIENTATIONS:
            kernel = _gabor_pair(wavelength * scale, angle)
            pad = kernel.shape[-1] // 2
            seen = F.conv2d(stimulus, kernel, stride=STRIDE_PX, padding=pad)
            energy = seen.square().sum(1, keepdim=True).sqrt()
            drive = torch.cat([seen, energy], dim=1)
            size = drive.shape[2:]
            for channel in drive.unbind(1):
                flat = channel.reshape(n, -1)
                flat = flat - flat.mean(0)
                flat = flat / flat.norm(dim=0).clamp_min(1e-12)
                square = (answer.T @ flat).square()
                score = score + square
    maps = score.reshape(-1, 1, *size)
    axis = torch.arange(-3.0, 4.0)
    taps = torch.exp(-(axis**2) / 2)
    taps = taps / taps.sum()
    maps = F.conv2d(maps, taps.reshape(1, 1, -1, 1), padding=(3, 0))
    maps = F.conv2d(maps, taps.reshape(1, 1, 1, -1), padding=(0, 3))[:, 0]
    peak = maps.flatten(1).argmax(1)
    row, column = peak // size[1], peak % size[1]
    return STRIDE_PX * torch.stack([row, column], dim=1).double().numpy()
