"""How much contrast there is around each feature: what divisive normalization divides by."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import nn
from torch.autograd.function import once_differentiable

USUAL = 0.6  # upper quartile on simulated natural images (median 0.46); sets the unit of strengths
CACHED = 2**15  # numbers of a part: 128 KiB
LEAST_VARIANCE = 1e-4  # keeps the square root differentiable where an image is even


class LocalContrast(nn.Module):
    """The gain that the contrast under a Gaussian window leaves, less that of a usual contrast.

    It is ``(floor + usual) / (floor + contrast) - 1``: 0 where the contrast is usual, more where
    it is less. A channel times ``1 + strength * gain`` is divided by the contrast at a strength of
    1, and left alone at 0. There is one value for every step of a convolution of that `kernel`,
    `stride` and `padding` (px); beyond the image are zeros, as around every block.

    Parameters
    ----------
    kernel, stride, padding : int
        Of the first block of the core.
    sigma_px : float
        Width of the Gaussian (px), cut off at the kernel's size.
    floor : float
        Contrast that is always added (sd of the training images).

    References
    ----------
    Heeger (1992), Visual Neuroscience 9, 181-197: cells of V1 are divided by local contrast.
    Burg et al. (2021), PLoS Computational Biology 17, e1009028: the same as a layer that learns.
    """

    def __init__(
        self, kernel: int, stride: int, padding: int, sigma_px: float, floor: float
    ) -> None:
        super().__init__()
        if sigma_px <= 0 or floor <= 0:
            raise ValueError(f"sigma_px and floor must be > 0, got {sigma_px}, {floor}")
        self.kernel, self.stride, self.padding = kernel, stride, padding
        self.sigma_px, self.floor = sigma_px, floor

    @property
    def settings(self) -> tuple[float, ...]:
        """All that it depends on."""
        return self.kernel, self.stride, self.padding, self.sigma_px, self.floor

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map images (n, 1, h, w) to the gain (n, 1, h', w')."""
        along = (_window(n, *self._geometry(images), self.padding) for n in images.shape[2:])
        rows, columns = (window.to(images.dtype) for window in along)
        return self._gain(rows @ images @ columns.T, rows @ images.square() @ columns.T)

    def of_crops(self, pixels: torch.Tensor, steps: int) -> torch.Tensor:
        """Map square crops, each a column of pixels, to the gain at their middle steps.

        Parameters
        ----------
        pixels : tensor, shape (..., h * h, n)
            Zero outside of the image.
        steps : int
            Along each axis; the crops hold all that these see.

        Returns
        -------
        tensor, shape (..., steps * steps, n)
        """
        size = math.isqrt(pixels.shape[-2])
        under = _square_window(size, *self._geometry(pixels), steps).to(pixels.dtype)
        return self._gain(under @ pixels, under @ pixels.square())

    def _geometry(self, like: torch.Tensor) -> tuple[int, int, float, torch.device]:
        return self.kernel, self.stride, self.sigma_px, like.device

    def _gain(self, mean: torch.Tensor, square: torch.Tensor) -> torch.Tensor:
        """Return the gain left by the contrast that two weighted means tell."""
        contrast = ((square - mean.square()).clamp_min(0) + LEAST_VARIANCE).sqrt()
        return (self.floor + USUAL) / (self.floor + contrast) - 1


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # what is kept must serve trainings, whoever asks first
def _window(
    size: int, kernel: int, stride: int, sigma_px: float, device: torch.device, padding: int
) -> torch.Tensor:
    """Return the Gaussian along one axis at every step, shape (steps, size)."""
    centre = stride * torch.arange((size + 2 * padding - kernel) // stride + 1)
    centre = centre - padding + (kernel - 1) / 2
    away = torch.arange(size) - centre[:, None]
    line = torch.exp(-(away**2) / (2 * sigma_px**2)) * (away.abs() <= kernel // 2)
    axis = torch.arange(kernel) - (kernel - 1) / 2
    return (line / torch.exp(-(axis**2) / (2 * sigma_px**2)).sum()).to(device)


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _square_window(
    size: int, kernel: int, stride: int, sigma_px: float, device: torch.device, steps: int
) -> torch.Tensor:
    """Return the Gaussian at the middle steps of a crop, shape (steps * steps, size * size)."""
    window = _window(size, kernel, stride, sigma_px, device, 0)
    first = (len(window) - steps) // 2
    window = window[first : first + steps]
    return torch.kron(window, window)


def scale_channels(x: torch.Tensor, calm: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
    """Multiply x (n, channels, h, w) by 1 + calm (n, 1, h, w) times the strength of a channel."""
    rows, gains = x.permute(0, 2, 3, 1), calm.permute(0, 2, 3, 1)
    scaled = _Scaled.apply(rows.reshape(-1, len(strength)), gains.reshape(-1, 1), strength)
    return scaled.view(rows.shape).permute(0, 3, 1, 2)


class _Scaled(torch.autograd.Function):
    """Pixels in rows (m, channels) times ``1 + calm strength``; sums over them are products.

    A few rows at a time: what is in between stays in the cache of a core, and the memory is
    walked through once each way.
    """

    @staticmethod
    def forward(ctx, x: torch.Tensor, calm: torch.Tensor, strength: torch.Tensor):
        ctx.save_for_backward(x, calm, strength)
        out = torch.empty_like(x)
        for part in _parts(x):
            torch.mul(x[part], _scale(calm[part], strength), out=out[part])
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, calm, strength = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        of_x = torch.empty_like(x)
        of_calm = torch.empty_like(calm) if wanted[1] else None
        of_strength = torch.zeros_like(strength) if wanted[2] else None
        for part in _parts(x):
            torch.mul(gradient[part], _scale(calm[part], strength), out=of_x[part])
            if not any(wanted[1:]):
                continue
            each = gradient[part] * x[part]
            if of_calm is not None:
                torch.mv(each, strength, out=of_calm[part, 0])
            if of_strength is not None:
                of_strength += calm[part, 0] @ each
        return of_x, of_calm, of_strength


def _scale(calm: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
    return (calm * strength).add_(1)


def _parts(rows: torch.Tensor) -> list[slice]:
    """Return slices of rows that fit a core's cache; all of them on another device."""
    step = max(1, CACHED // rows.shape[1] if rows.device.type == "cpu" else len(rows))
    return [slice(start, start + step) for start in range(0, len(rows), step)]
