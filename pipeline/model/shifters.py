"""Shifters: from gaze to a displacement of all receptive fields."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

from pipeline.registry import Registry

shifters = Registry("shifter")


class MLPShifter(nn.Module):
    """Tanh layers from z-scored gaze (n, 2) to a shift (x, y) in -1..1 of the feature map."""

    moves_images = False

    def __init__(self, hidden: int, layers: int) -> None:
        super().__init__()
        sizes = [2, *[hidden] * (layers - 1), 2]
        chain = [nn.Linear(a, b) for a, b in pairwise(sizes)]
        self.layers = nn.ModuleList(chain)
        for layer in chain:
            nn.init.xavier_normal_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, gaze: torch.Tensor) -> torch.Tensor:
        """Return (n, 2)."""
        for layer in self.layers:
            gaze = torch.tanh(layer(gaze))
        return gaze

    def regulariser(self) -> torch.Tensor | float:
        """No penalty."""
        return 0.0


class AffineShifter(nn.Module):
    """``tanh(W gaze + b)``, starting from no shift; without ``b`` if images are moved."""

    def __init__(self, gamma: float, moves_images: bool) -> None:
        super().__init__()
        self.gamma, self.moves_images = gamma, moves_images
        self.layer = nn.Linear(2, 2, bias=not moves_images)
        for parameter in self.layer.parameters():
            nn.init.zeros_(parameter)

    def forward(self, gaze: torch.Tensor) -> torch.Tensor:
        """Return (n, 2)."""
        return torch.tanh(self.layer(gaze))

    def regulariser(self) -> torch.Tensor:
        """Penalize the squared weights."""
        return self.gamma * self.layer.weight.square().sum()


@shifters.register("mlp")
def mlp(*, hidden: int = 5, layers: int = 3) -> MLPShifter:
    """Build the published shifter, 2 -> 5 -> 5 -> 2 with tanh.

    Parameters
    ----------
    hidden, layers : int
        Width of the hidden layers, and number of all layers.
    """
    return MLPShifter(hidden, layers)


@shifters.register("affine")
def affine(*, gamma: float = 1e-4) -> AffineShifter:
    """Build an affine shifter: a pupil that moves by pixels moves the field almost linearly.

    Parameters
    ----------
    gamma : float
        Weight of its squared weights.
    """
    return AffineShifter(gamma, moves_images=False)


@shifters.register("affine_image", default=True)
def affine_image(*, gamma: float = 1e-4) -> AffineShifter:
    """Build an affine shifter that moves the image under the fields, not places on features.

    Fine stripes cannot be interpolated between features that are two pixels apart, but they can
    between pixels. Mean gaze moves nothing.

    Parameters
    ----------
    gamma : float
        Weight of its squared weights.
    """
    return AffineShifter(gamma, moves_images=True)


def move_images(images: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """Read images (n, c, h, w) where displaced receptive fields look, cubically interpolated.

    `shift` (n, 2) is the displacement (x, y), half the width or height being 1. Beyond the edge
    lies the mean.
    """
    still = torch.eye(2, 3, dtype=shift.dtype, device=shift.device)
    grid = F.affine_grid(still[None], [1, 1, *images.shape[2:]], False) + shift[:, None, None]
    return F.grid_sample(images, grid, mode="bicubic", padding_mode="zeros", align_corners=False)


@shifters.register("none")
def none() -> None:
    """Leave gaze out."""
    return None
