"""Losses: prediction (n, units) against response (n, units), both normalized by the sd."""

from __future__ import annotations

from collections.abc import Callable

import torch

from pipeline.registry import Registry

losses = Registry("loss")

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@losses.register("quasi_poisson", default=True)
def quasi_poisson(*, floor: float = 0.1, gain_variance: float = 2.0) -> Loss:
    """Return squared errors divided by twice the variance that responses of that rate have.

    The variance is ``floor + rate + gain_variance rate^2``: noise of the measurement, of spikes,
    and of a gain that differs from trial to trial, in the sd of all responses of a unit. It is a
    weight and has no gradient, so that with both at 0 the gradient is that of the Poisson loss,
    which trusts silence too much: 37 % of simulated responses have rates below 0.05.

    Parameters
    ----------
    floor : float
        Variance where the rate is 0.
    gain_variance : float
        Variance of the gain. Single trials of real neurons are heavy-tailed: their sd grows in
        proportion to the rate, and more than the gain of the whole animal explains.

    References
    ----------
    Wedderburn (1974), Biometrika 61, 439-447: quasi-likelihood needs mean and variance only.
    """
    if floor <= 0 or gain_variance < 0:
        raise ValueError(f"floor must be > 0, gain_variance >= 0; got {floor}, {gain_variance}")

    def loss(rate: torch.Tensor, response: torch.Tensor) -> torch.Tensor:
        known = rate.detach()
        variance = floor + known + gain_variance * known.square()
        return ((rate - response).square() / (2 * variance)).mean()

    return loss


@losses.register("poisson")
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
