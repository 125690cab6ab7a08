"""How much contrast there is around each feature: what divisive normalisation divides by."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import nn

USUAL = 0.6  # local contrast of z-scored natural images in the middle of their range
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
        rows, columns = (self.window(n, self.padding, images) for n in images.shape[2:])
        return self._gain_under(images, rows, columns)

    def of_crops(self, crops: torch.Tensor, steps: int) -> torch.Tensor:
        """Map square crops (n, 1, h, h), zero outside of the image, to the middle steps' gain."""
        window = self.central_window(crops.shape[2], steps, crops)
        return self._gain_under(crops, window, window)

    def _gain_under(
        self, images: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor
    ) -> torch.Tensor:
        mean = rows @ images @ columns.T
        square = rows @ images.square() @ columns.T
        return self.gain(self.spread(mean, square))

    def central_window(self, size: int, steps: int, like: torch.Tensor) -> torch.Tensor:
        """Return the Gaussian at the middle `steps` of a crop that holds all they see."""
        window = self.window(size, 0, like)
        first = (len(window) - steps) // 2
        return window[first : first + steps]

    def window(self, size: int, padding: int, like: torch.Tensor) -> torch.Tensor:
        """Return the Gaussian along one axis at every step, shape (steps, size)."""
        made = _window(size, self.kernel, self.stride, padding, self.sigma_px, like.device)
        return made.to(like.dtype)

    @staticmethod
    def spread(mean: torch.Tensor, square: torch.Tensor) -> torch.Tensor:
        """Return the standard deviation under the window from the two weighted means."""
        return ((square - mean.square()).clamp_min(0) + LEAST_VARIANCE).sqrt()

    def gain(self, contrast: torch.Tensor) -> torch.Tensor:
        """Return the gain left by a contrast."""
        return (self.floor + USUAL) / (self.floor + contrast) - 1


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # what is kept must serve trainings, whoever asks first
def _window(
    size: int, kernel: int, stride: int, padding: int, sigma_px: float, device: torch.device
) -> torch.Tensor:
    centre = stride * torch.arange((size + 2 * padding - kernel) // stride + 1)
    centre = centre - padding + (kernel - 1) / 2
    away = torch.arange(size) - centre[:, None]
    line = torch.exp(-(away**2) / (2 * sigma_px**2)) * (away.abs() <= kernel // 2)
    axis = torch.arange(kernel) - (kernel - 1) / 2
    return (line / torch.exp(-(axis**2) / (2 * sigma_px**2)).sum()).to(device)


def scale_channels(x: torch.Tensor, calm: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
    """Multiply x (n, channels, h, w) by 1 + calm (n, 1, h, w) times the strength of a channel."""
    rows = _Scaled.apply(x.permute(0, 2, 3, 1), calm.permute(0, 2, 3, 1), strength)
    return rows.permute(0, 3, 1, 2)


class _Scaled(torch.autograd.Function):
    """Pixels in rows (..., channels) times ``1 + calm strength``; sums over them are products."""

    @staticmethod
    def forward(ctx, x: torch.Tensor, calm: torch.Tensor, strength: torch.Tensor):
        scale = (calm * strength).add_(1)
        ctx.save_for_backward(x, calm, strength, scale)
        return x * scale

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x, calm, strength, scale = ctx.saved_tensors
        each = (gradient * x).flatten(0, -2)
        return gradient * scale, (each @ strength).view_as(calm), calm.flatten() @ each
