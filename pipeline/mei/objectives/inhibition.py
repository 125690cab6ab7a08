"""The most inhibiting input."""

from __future__ import annotations

import torch

from pipeline.mei.view import View

from .objectives import objectives


@objectives.register("inhibition")
def inhibition(view: View, images: torch.Tensor) -> torch.Tensor:
    """Minus the response of the unit."""
    return -view.rates(images)


inhibition.own_unit = True  # type: ignore[attr-defined]  # functions have attributes
