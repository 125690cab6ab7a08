"""An input of a wanted effect."""

from __future__ import annotations

import torch

from pipeline.mei.view import View

from .objectives import objectives


@objectives.register("target")
def target(view: View, images: torch.Tensor, *, level: float) -> torch.Tensor:
    """Minus the squared distance of the response from `level` (response units).

    Parameters
    ----------
    level : float
        Response that is wanted (response units).
    """
    return -((view.rates(images) - level) ** 2)


target.own_unit = True  # type: ignore[attr-defined]  # functions have attributes
