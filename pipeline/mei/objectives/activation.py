"""The most exciting input."""

from __future__ import annotations

import torch

from pipeline.mei.view import View

from .objectives import objectives


@objectives.register("activation", default=True)
def activation(view: View, images: torch.Tensor) -> torch.Tensor:
    """Response of the unit, the mean over the members of an ensemble."""
    return view.rates(images)


activation.own_unit = True  # type: ignore[attr-defined]  # functions have attributes
