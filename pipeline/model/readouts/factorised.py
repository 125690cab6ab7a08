"""A factorised readout: a mask over space times weights over channels."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from .base import Readout, combine, readouts


class FactorisedReadout(Readout):
    """Every unit has a spatial mask and a channel vector; gaze cannot move it."""

    def __init__(self, channels: int, size: tuple[int, int], n_units: int, gamma: float) -> None:
        super().__init__()
        self.gamma, self.size, self.place = gamma, size, None
        self.mask = nn.Parameter(torch.empty(n_units, *size).normal_(0, 0.01))
        self.features = nn.Parameter(torch.empty(n_units, channels).normal_(0, channels**-0.5))
        self.bias = nn.Parameter(torch.zeros(n_units))

    def forward(
        self,
        features: torch.Tensor,
        shift: torch.Tensor | None = None,
        noise: Callable[..., torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Return (n, units)."""
        read = torch.einsum("nchw,uhw->ncu", features, self.mask)
        return combine(read, self.features) + self.bias

    def forward_units(
        self, features: torch.Tensor, units: torch.Tensor, shift: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the output of unit ``units[i]`` for features i, shape (n,)."""
        read = torch.einsum("nchw,nhw->nc", features, self.mask[units])
        return (read * self.features[units]).sum(1) + self.bias[units]

    def regulariser(self) -> torch.Tensor:
        """L1 of the implied full weights, mean over units."""
        return self.gamma * (self.mask.abs().sum((1, 2)) * self.features.abs().sum(1)).mean()


@readouts.register("factorised")
def factorised(
    channels: int, size: tuple[int, int], n_units: int, *, gamma: float = 1e-3
) -> FactorisedReadout:
    """Build a factorised readout.

    Parameters
    ----------
    channels, size, n_units
        Of the features, and of the population.
    gamma : float
        Weight of the L1 norm.

    References
    ----------
    Klindt et al. (2017), NeurIPS, arXiv:1711.02653
    """
    return FactorisedReadout(channels, size, n_units, gamma)
