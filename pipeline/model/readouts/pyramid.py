"""The readout of Walker et al. (2019): one point in every level of a Laplace pyramid."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from .base import Readout, combine, readouts, sample, total


class PyramidReadout(Readout):
    """A point shared by all levels of the Laplace pyramid of the features."""

    place: torch.Tensor
    features: torch.Tensor
    taps: torch.Tensor

    def __init__(
        self,
        channels: int,
        size: tuple[int, int],
        n_units: int,
        scale_n: int,
        downsample: bool,
        gamma: float,
    ) -> None:
        super().__init__()
        self.scale_n, self.downsample, self.gamma = scale_n, downsample, gamma
        taps = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
        self.register_buffer("taps", taps, False)
        self.place = nn.Parameter(torch.empty(n_units, 2).uniform_(-0.1, 0.1))
        weights = torch.full((n_units, (scale_n + 1) * channels), 1 / channels)
        self.features = nn.Parameter(weights)
        self.bias = nn.Parameter(torch.zeros(n_units))

    def _blur(self, x: torch.Tensor) -> torch.Tensor:
        channels = x.shape[1]
        for taps in (self.taps[:, None], self.taps[None, :]):
            kernel = taps.expand(channels, 1, *taps.shape)
            pad = (taps.shape[0] // 2, taps.shape[1] // 2)
            x = F.conv2d(x, kernel, padding=pad, groups=channels)
        return x

    def levels(self, features: torch.Tensor) -> list[torch.Tensor]:
        """Return the band-passed levels, finest first, and the rest."""
        levels = []
        for _ in range(self.scale_n):
            low = self._blur(features)
            if self.downsample:
                low = low[:, :, ::2, ::2]
                up = F.interpolate(low, features.shape[2:], mode="bilinear", align_corners=False)
                levels.append(features - up)
            else:
                levels.append(features - low)
            features = low
        return [*levels, features]

    def forward(
        self,
        features: torch.Tensor,
        shift: torch.Tensor | None = None,
        noise: Callable[..., torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Return (n, units)."""
        grid = self.place.clamp(-1, 1).expand(len(features), -1, -1)
        if shift is not None:
            grid = grid + shift[:, None, :]
        levels = self.levels(features)
        weights = self.features.split(features.shape[1], dim=1)
        # level by level: all of them side by side would be 150 MB for a batch of 1,000 units
        read = [combine(sample(level, grid), w) for level, w in zip(levels, weights, strict=True)]
        return total(read) + self.bias

    def forward_units(
        self, features: torch.Tensor, units: torch.Tensor, shift: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the output of unit ``units[i]`` for features i, shape (n,)."""
        grid = self.place[units].clamp(-1, 1)
        grid = (grid if shift is None else grid + shift)[:, None, :]
        read = torch.cat([sample(level, grid) for level in self.levels(features)], dim=1)
        return (read.squeeze(2) * self.features[units]).sum(1) + self.bias[units]

    def regulariser(self) -> torch.Tensor:
        """Mean absolute feature weight."""
        return self.gamma * self.features.abs().mean()


@readouts.register("pyramid")
def pyramid(
    channels: int,
    size: tuple[int, int],
    n_units: int,
    *,
    scale_n: int = 5,
    downsample: bool = True,
    gamma: float = 1.0,
) -> PyramidReadout:
    """Build the published spatial-transformer readout on a Laplace pyramid.

    Parameters
    ----------
    channels, size, n_units
        Of the features, and of the population.
    scale_n : int
        Band-passed levels; the low-pass rest is one more.
    downsample : bool
        Halve the size from level to level.
    gamma : float
        Weight of the mean absolute feature weight.

    References
    ----------
    Walker et al. (2019), doi:10.1038/s41593-019-0517-x; REFERENCE 2.8.
    """
    return PyramidReadout(channels, size, n_units, scale_n, downsample, gamma)
