"""Readouts of one place per unit, sampled around it in training: a point, or a small square."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import nn

from .base import Readout, combine, readouts, sample, total
from .together import read_together


class PointReadout(Readout):
    """Bilinear reading around one place per unit, then a linear combination of what is read.

    `taps` squared places are read, one feature px apart; `features` holds their channels, tap by
    tap, row by row.
    """

    place: torch.Tensor
    half_size: torch.Tensor

    def __init__(
        self,
        channels: int,
        size: tuple[int, int],
        n_units: int,
        init_sigma_px: float,
        gamma: float,
        taps: int = 1,
    ) -> None:
        super().__init__()
        if taps < 1:
            raise ValueError(f"taps must be >= 1, got {taps}")
        self.gamma, self.taps = gamma, taps
        self.register_buffer("half_size", torch.tensor([size[1] / 2, size[0] / 2]), False)
        self.place = nn.Parameter(torch.empty(n_units, 2).uniform_(-0.1, 0.1))
        self.log_sigma_px = nn.Parameter(torch.full((n_units, 2), init_sigma_px).log())
        inputs = taps * taps * channels
        self.features = nn.Parameter(torch.empty(n_units, inputs).normal_(0, 0.2 * inputs**-0.5))
        self.bias = nn.Parameter(torch.zeros(n_units))

    def forward(
        self,
        features: torch.Tensor,
        shift: torch.Tensor | None = None,
        noise: Callable[..., torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Return (n, units); if there is noise, every unit's place is drawn anew for the batch."""
        place = self.place
        if noise is not None:
            # one draw for all images of a batch: they can then be read together, and there are
            # hundreds of batches to find a place in
            place = place + noise(*place.shape) * self.log_sigma_px.exp() / self.half_size
        if shift is None:
            return read_together(features, place, self.features, self.taps) + self.bias
        return self._read(features, place + shift[:, None, :], self.features) + self.bias

    def forward_units(
        self, features: torch.Tensor, units: torch.Tensor, shift: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the output of unit ``units[i]`` for features i, shape (n,)."""
        grid = self.place[units]
        if shift is not None:
            grid = grid + shift
        taps = self._taps(grid, self.features[units])
        read = [(sample(features, at[:, None]).squeeze(2) * w).sum(1) for at, w in taps]
        return total(read) + self.bias[units]

    def _read(
        self, features: torch.Tensor, grid: torch.Tensor, weights: torch.Tensor
    ) -> torch.Tensor:
        return total([combine(sample(features, at), w) for at, w in self._taps(grid, weights)])

    def _taps(
        self, grid: torch.Tensor, weights: torch.Tensor
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield where each tap reads around the places (..., 2), and its weights of channels."""
        along = torch.arange(self.taps, device=self.half_size.device) - (self.taps - 1) / 2
        offsets = (torch.stack([x, y]) / self.half_size for y in along for x in along)
        by_tap = weights.unflatten(-1, (self.taps**2, -1)).unbind(-2)
        for offset, weight in zip(offsets, by_tap, strict=True):
            yield grid + offset, weight

    def regulariser(self) -> torch.Tensor:
        """Absolute feature weights: mean over units and channels of the sum over taps."""
        return self.gamma * self.taps**2 * self.features.abs().mean()


@readouts.register("square", default=True)
def square(
    channels: int,
    size: tuple[int, int],
    n_units: int,
    *,
    taps: int = 2,
    init_places: bool = True,
    init_sigma_px: float = 0.1,
    gamma: float = 0.1,
) -> PointReadout:
    """Build the recommended readout: a square of points around a place of each unit.

    A cell that pools over space, or looks for a bend, needs features of several places; one
    vector of channels cannot say where they are, and a core that provides every combination needs
    many more channels.

    Parameters
    ----------
    channels, size, n_units, init_places, init_sigma_px, gamma
        As for `point`.
    taps : int
        Points along each side, one feature px apart; each has channels of its own. 3 predict no
        better than 2.
    """
    return PointReadout(channels, size, n_units, init_sigma_px, gamma, taps)


@readouts.register("point")
def point(
    channels: int,
    size: tuple[int, int],
    n_units: int,
    *,
    init_places: bool = True,
    init_sigma_px: float = 0.1,
    gamma: float = 0.1,
) -> PointReadout:
    """Build a point readout with Gaussian places.

    Parameters
    ----------
    channels, size, n_units
        Of the features, and of the population.
    init_places : bool
        Start from where the training responses say that the receptive fields are, instead of
        the center (`build_encoder` does it).
    init_sigma_px : float
        Initial spread of the sampled places (feature px); learned. Places that start from the
        responses need little search, and a wider spread blurs what is read; start it at 0.5
        without them.
    gamma : float
        Weight of the mean absolute feature weight.

    References
    ----------
    Lurz et al. (2021), ICLR, openreview.net/forum?id=Tp7kI90Htd
    """
    return PointReadout(channels, size, n_units, init_sigma_px, gamma)
