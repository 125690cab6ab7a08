"""A point readout whose places follow from where the cells lie in the cortex."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pipeline.errors import DataError

from .base import readouts
from .point import PointReadout

FIT_ROUNDS = 10


class CorticalReadout(PointReadout):
    """Place = a linear map of the cortical position that all units share, and an own offset.

    V1 is a map of the visual field: what many neighbors say of where they look holds for a cell
    that fires too rarely to say it itself.
    """

    cortex: torch.Tensor

    def __init__(
        self,
        channels: int,
        size: tuple[int, int],
        n_units: int,
        init_sigma_px: float,
        gamma: float,
        offset_gamma: float | None,
    ) -> None:
        super().__init__(channels, size, n_units, init_sigma_px, gamma)
        del self._parameters["place"]  # follows from what is learned here
        self.offset_gamma = offset_gamma
        self.register_buffer("cortex", torch.zeros(n_units, 2))  # z-scored x, y
        self.map = nn.Linear(2, 2)
        nn.init.zeros_(self.map.weight)
        nn.init.zeros_(self.map.bias)
        offset = torch.zeros(n_units, 2)
        self.offset = nn.Parameter(offset, requires_grad=offset_gamma is not None)

    @property
    def place(self) -> torch.Tensor:  # type: ignore[override]  # a parameter in the base
        """Where each unit reads, (x, y) in -1..1, shape (units, 2)."""
        return self.map(self.cortex) + self.offset

    def set_cortex(self, um_xyz: NDArray | None) -> None:
        """Take the cells' positions in the cortex, shape (units, 3) (um)."""
        if um_xyz is None or not np.isfinite(um_xyz[:, :2]).all():
            raise DataError(
                "the cortical readout needs the position of every cell",
                field="um_xyz",
                remedy="use the point readout, or give positions",
            )
        xy = um_xyz[:, :2] - um_xyz[:, :2].mean(0)
        scale = xy.std()  # one for both axes
        self.cortex.copy_(torch.as_tensor(xy / (scale if scale > 0 else 1.0)))

    def start_at(self, place: torch.Tensor) -> None:
        """Fit the map to first guesses, robustly; every unit starts where the map says."""
        cortex = self.cortex.cpu().double().numpy()
        design = np.column_stack([cortex, np.ones(len(cortex))])
        guess = place.double().numpy()
        weight = np.ones(len(guess))
        for _ in range(FIT_ROUNDS):  # Huber's weights: far guesses pull with a bounded force
            root = np.sqrt(weight)[:, None]
            solution = np.linalg.lstsq(design * root, guess * root, rcond=None)[0]
            residual = guess - design @ solution
            distance = np.hypot(*residual.T)
            spread = max(1.4826 * float(np.median(distance)), 1e-6)
            weight = np.minimum(1.0, spread / np.maximum(distance, 1e-12))
        self.map.weight.copy_(torch.as_tensor(solution[:2].T))
        self.map.bias.copy_(torch.as_tensor(solution[2]))
        self.offset.zero_()

    def regulariser(self) -> torch.Tensor:
        """Mean absolute feature weight, and the mean squared offset (feature px)."""
        penalty = super().regulariser()
        if self.offset_gamma is None:
            return penalty
        return penalty + self.offset_gamma * (self.offset * self.half_size).square().mean()


@readouts.register("cortical")
def cortical(
    channels: int,
    size: tuple[int, int],
    n_units: int,
    *,
    init_places: bool = True,
    init_sigma_px: float = 0.5,
    gamma: float = 0.02,
    offset_gamma: float | None = 0.01,
) -> CorticalReadout:
    """Build a point readout whose places are predicted from cortical position.

    Parameters
    ----------
    channels, size, n_units
        Of the features, and of the population.
    init_places, init_sigma_px, gamma
        As for `point`.
    offset_gamma : float or None
        Weight of the mean squared distance from the predicted place (feature px squared): the
        larger, the more a cell looks where its neighbors do. None: exactly there.

    References
    ----------
    Lurz et al. (2021), ICLR, openreview.net/forum?id=Tp7kI90Htd, predict places from cortical
    position too.
    """
    return CorticalReadout(channels, size, n_units, init_sigma_px, gamma, offset_gamma)
