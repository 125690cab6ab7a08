"""Modulators: from behavior to a gain of every unit."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

from pipeline.registry import Registry

modulators = Registry("modulator")


class ExpMLP(nn.Module):
    """Log gain of every unit from z-scored behavior (n, columns).

    `after` says whether the gain multiplies the rate after the output nonlinearity, so that it
    can fall below 1, or what goes into it, as published.
    """

    offsets = False

    def __init__(
        self, inputs: int, n_units: int, hidden: int, layers: int, skip: bool, after: bool
    ) -> None:
        super().__init__()
        self.after = after
        sizes = [inputs, *[hidden] * layers]
        chain = [nn.Linear(a, b) for a, b in pairwise(sizes)]
        self.hidden = nn.ModuleList(chain)
        self.out = nn.Linear(hidden, n_units)
        self.skip = nn.Linear(inputs, n_units, bias=False) if skip else None
        for layer in chain:
            nn.init.xavier_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
        nn.init.normal_(self.out.weight, 0, 0.01)
        nn.init.zeros_(self.out.bias)
        if self.skip is not None:
            nn.init.zeros_(self.skip.weight)

    def forward(self, behavior: torch.Tensor) -> torch.Tensor:
        """Return the gain (n, units)."""
        x = behavior
        for layer in self.hidden:
            x = F.relu(layer(x)) if not self.after else torch.tanh(layer(x))
        log_gain = self.out(x)
        if self.skip is not None:
            log_gain = log_gain + self.skip(behavior)
        return log_gain.clamp(-5, 5).exp()


class GainOffset(nn.Module):
    """Gain of every unit, and an offset of what goes into the output nonlinearity before it."""

    after, offsets = True, True

    def __init__(self, inputs: int, n_units: int, hidden: int) -> None:
        super().__init__()
        self.gain = ExpMLP(inputs, n_units, hidden, 1, skip=True, after=True)
        self.offset = nn.Linear(inputs, n_units, bias=False)  # at the mean state there is none
        nn.init.zeros_(self.offset.weight)

    def forward(self, behavior: torch.Tensor) -> torch.Tensor:
        """Return gain and offset, side by side (n, units, 2)."""
        return torch.stack([self.gain(behavior), self.offset(behavior)], dim=2)


@modulators.register("exp_mlp", default=True)
def exp_mlp(inputs: int, n_units: int, *, hidden: int = 16, skip: bool = True) -> ExpMLP:
    """Build the gain ``exp(MLP(behavior))``, multiplied after the output nonlinearity.

    Parameters
    ----------
    inputs, n_units : int
        Columns of the behavior, and units.
    hidden : int
        Tanh units that all neurons share.
    skip : bool
        A linear path beside them.
    """
    return ExpMLP(inputs, n_units, hidden, 1, skip, after=True)


@modulators.register("exp_mlp_2019")
def exp_mlp_2019(inputs: int, n_units: int, *, hidden: int = 10, layers: int = 2) -> ExpMLP:
    """Build the published modulator, 3 -> 10 -> 10 -> units, exp, before the nonlinearity.

    Parameters
    ----------
    inputs, n_units : int
        Columns of the behavior, and units.
    hidden, layers : int
        Width and number of the ReLU layers.
    """
    return ExpMLP(inputs, n_units, hidden, layers, False, after=False)


@modulators.register("gain_offset")
def gain_offset(inputs: int, n_units: int, *, hidden: int = 16) -> GainOffset:
    """Build ``(ELU(x + W behavior) + 1) exp(MLP(behavior))``: activity that no image evokes too.

    Parameters
    ----------
    inputs, n_units : int
        Columns of the behavior, and units.
    hidden : int
        Tanh units of the gain that all neurons share.
    """
    return GainOffset(inputs, n_units, hidden)


@modulators.register("none")
def none(inputs: int, n_units: int) -> None:
    """Leave behavior out."""
    return None
