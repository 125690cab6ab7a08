"""An input that tells a neuron from its neighbors."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pipeline.mei.view import View

from .objectives import objectives


@objectives.register("contrast", revision=2)
def contrast(
    view: View,
    images: torch.Tensor,
    *,
    weight: float = 1.0,
    neighbours: Sequence[int] | None = None,
    epsilon: float = 1e-3,
) -> torch.Tensor:
    """Log response of the unit minus `weight` times that of its neighbors' mean.

    Parameters
    ----------
    view : View
    images : tensor, shape (n, C, h, w)
    weight : float
        0 is plain activation, in its logarithm.
    neighbours : sequence of int, optional
        Units it is set against (its own column does not count); default all of the model's.
    epsilon : float
        Added to responses, so that a silent neighbor does not count without end (response units).
    """
    rates = view.all_units(images)
    rows = torch.arange(len(rates), device=rates.device)
    own = rates[rows, view.units]
    others = torch.ones_like(rates)
    if neighbours is not None:
        others = torch.zeros_like(rates)
        others[:, list(neighbours)] = 1
    others[rows, view.units] = 0
    mean = (rates * others).sum(1) / others.sum(1).clamp_min(1)
    return (own.clamp_min(0) + epsilon).log() - weight * (mean.clamp_min(0) + epsilon).log()
