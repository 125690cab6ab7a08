"""Losses: prediction (n, units) against response (n, units), both normalised by the sd."""

from __future__ import annotations

from collections.abc import Callable

import torch

from pipeline.registry import Registry

losses = Registry("loss")

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@losses.register("poisson", default=True)
def poisson(*, epsilon: float = 1e-8) -> Loss:
    """Return the Poisson loss, mean of ``rate - response log(rate + epsilon)``.

    Parameters
    ----------
    epsilon : float
        Keeps the logarithm finite.
    """

    def loss(rate: torch.Tensor, response: torch.Tensor) -> torch.Tensor:
        return (rate - response * torch.log(rate + epsilon)).mean()

    return loss


@losses.register("gaussian")
def gaussian() -> Loss:
    """Return the mean squared error."""

    def loss(rate: torch.Tensor, response: torch.Tensor) -> torch.Tensor:
        return (rate - response).square().mean()

    return loss


@losses.register("anscombe")
def anscombe(*, offset: float = 0.375) -> Loss:
    """Return the squared error of square roots, which have equal variance for Poisson counts.

    Parameters
    ----------
    offset : float
        Added before the root; negative sums count as 0.
    """

    def root(x: torch.Tensor) -> torch.Tensor:
        return (x + offset).clamp_min(1e-6).sqrt()

    def loss(rate: torch.Tensor, response: torch.Tensor) -> torch.Tensor:
        return (root(rate) - root(response)).square().mean()

    return loss
