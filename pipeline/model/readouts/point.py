"""The recommended readout: one point per unit, sampled around its place in training."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from .base import Readout, combine, readouts, sample
from .together import read_together


class PointReadout(Readout):
    """Bilinear reading at one place per unit, then a linear combination of the channels."""

    def __init__(
        self,
        channels: int,
        size: tuple[int, int],
        n_units: int,
        init_sigma_px: float,
        gamma: float,
    ) -> None:
        super().__init__()
        self.gamma = gamma
        self.register_buffer("half_size", torch.tensor([size[1] / 2, size[0] / 2]), False)
        self.place = nn.Parameter(torch.empty(n_units, 2).uniform_(-0.1, 0.1))
        self.log_sigma_px = nn.Parameter(torch.full((n_units, 2), init_sigma_px).log())
        self.features = nn.Parameter(
            torch.empty(n_units, channels).normal_(0, 0.2 * channels**-0.5)
        )
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
            return read_together(features, place, self.features) + self.bias
        read = sample(features, place + shift[:, None, :])
        return combine(read, self.features) + self.bias

    def forward_units(
        self, features: torch.Tensor, units: torch.Tensor, shift: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the output of unit ``units[i]`` for features i, shape (n,)."""
        grid = self.place[units]
        if shift is not None:
            grid = grid + shift
        read = sample(features, grid[:, None, :]).squeeze(2)
        return (read * self.features[units]).sum(1) + self.bias[units]

    def regulariser(self) -> torch.Tensor:
        """Mean absolute feature weight."""
        return self.gamma * self.features.abs().mean()


@readouts.register("point", default=True)
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
        the centre (`build_encoder` does it).
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
