"""What a readout is."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import torch
from numpy.typing import NDArray
from torch import nn

from pipeline.registry import Registry

readouts = Registry("readout")


class Readout(nn.Module):
    """Base of all readouts: (n, channels, h, w) to (n, units).

    A registered function takes ``(channels, size, n_units)`` and returns one of these.

    Attributes
    ----------
    place : tensor, shape (units, 2), or None
        Where each unit reads, (x, y) in -1..1 over the feature map, its edges at -1 and 1.
    bias : Parameter, shape (units,)
    """

    place: torch.Tensor | None
    bias: nn.Parameter

    def forward(
        self,
        features: torch.Tensor,
        shift: torch.Tensor | None = None,
        noise: Callable[..., torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Return (n, units).

        Parameters
        ----------
        features : tensor, shape (n, channels, h, w)
        shift : tensor, shape (n, 2), optional
            Displacement (x, y) of all places by gaze.
        noise : function, optional
            ``noise(*shape)`` gives standard normal numbers; given in training only.
        """
        raise NotImplementedError

    def forward_units(
        self, features: torch.Tensor, units: torch.Tensor, shift: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the output of unit ``units[i]`` for features i, shape (n,)."""
        raise NotImplementedError

    def regulariser(self) -> torch.Tensor:
        """Penalty to add to the loss."""
        raise NotImplementedError

    def set_cortex(self, um_xyz: NDArray | None) -> None:
        """Take the cells' positions in the cortex, shape (units, 3) (um), where they matter."""

    def start_at(self, place: torch.Tensor) -> None:
        """Start reading at places, shape (units, 2)."""
        if self.place is None:
            raise ValueError(f"{type(self).__name__} has no places to start at")
        self.place.copy_(place)


def sample(features: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    """Read features (n, channels, h, w) bilinearly at (n, units, 2) -> (n, channels, units).

    A place beyond the edge reads the edge: gaze may carry a cell there.
    """
    grid = grid.unsqueeze(2)
    read = nn.functional.grid_sample(
        features, grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    return read.squeeze(3)


def combine(read: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    """Weigh what was read (n, channels, units) by the features (units, channels) -> (n, units).

    A product and a sum: as a matrix product per unit it is copied about, and twice as slow.
    """
    return (read * features.T.contiguous()).sum(1)


def total(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the sum of at least one tensor, added up in order."""
    return functools.reduce(torch.add, parts)
