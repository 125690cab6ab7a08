"""An input on whose effect the members of an ensemble agree."""

from __future__ import annotations

import torch

from pipeline.mei.view import View
from pipeline.model.combination import spread

from .objectives import objectives


@objectives.register("cautious")
def cautious(view: View, images: torch.Tensor, *, weight: float = 0.5) -> torch.Tensor:
    """Mean response minus `weight` standard deviations over the ensemble's members."""
    members = view.members(images)
    if len(members) == 1:
        return members[0]
    mean, shares = view.combine(members), view.shares()
    variance = members.var(0, unbiased=True) if shares is None else spread(members, mean, shares)
    return mean - weight * (variance + 1e-12).sqrt()


cautious.own_unit = True  # type: ignore[attr-defined]  # functions have attributes
