"""What a day 2 could detect, simulated from the variance of day 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from pipeline.closed_loop.planning.noise import NoiseModel
from pipeline.closed_loop.verdict.statistics import benjamini_hochberg
from pipeline.rng import generator


@dataclass(frozen=True)
class Power:
    """Simulated power; arrays of shape (ratios,).

    Attributes
    ----------
    ratio : array
        Reference over control mean response.
    per_neuron : array
        Mean share of neurons found significantly above (Welch, Benjamini-Hochberg).
    population : array
        Share of simulated days with a significant Wilcoxon test and a positive median.
    detectable_per_neuron, detectable_population : float
        Smallest ratio with the asked power (interpolated); NaN if it is beyond the largest.
    """

    ratio: NDArray[np.float64]
    per_neuron: NDArray[np.float64]
    population: NDArray[np.float64]
    detectable_per_neuron: float
    detectable_population: float


def simulate_power(
    noise: NoiseModel,
    *,
    n_neurons: int,
    repeats: int,
    ratios: Sequence[float] = (1.0, 1.05, 1.1, 1.2, 1.3, 1.5, 1.75, 2.0, 2.5, 3.0),
    match_precision: float = 1.0,
    effect: ArrayLike | None = None,
    normalization: str = "sd",
    alpha: float = 0.05,
    power: float = 0.8,
    n_simulations: int = 100,
    seed: int = 0,
) -> Power:
    """Simulate day 2 with gamma-distributed responses and test it as the outcome will.

    Parameters
    ----------
    noise : NoiseModel
        Neurons are drawn from it with replacement.
    n_neurons, repeats : int
        Neurons found again, and presentations of each image.
    ratios : sequence of float
        True ratio of the responses to reference and control, in the median over neurons; 1 gives
        the false-positive rate.
    match_precision : float
        Share of the neurons that are the right cell; the others respond alike to both.
    effect : array, shape (neurons of `noise`,), optional
        Each neuron's log ratio over the median one (`relative_effect`); default: all alike. Some
        show the effect early and some never, which flattens the power curve.
    normalization : {"sd", "zscore", "raw"}
        Unit in which the outcome compares neurons: a test over neurons whose differences are not
        divided by their sd hears the loudest.
    alpha : float
        Level of the population test and false discovery rate of the neurons.
    power : float
        Wanted share.

    Notes
    -----
    Every trial is drawn: mean and variance of few skewed trials are not independent. Of 100
    simulated days the share with a significant test is known to 5 points.
    """
    if repeats < 2 or n_neurons < 2:
        raise ValueError(f"power needs >= 2 neurons and repeats, got {n_neurons} and {repeats}")
    ratios_ = np.asarray(ratios, np.float64)
    known = len(noise.control_mean)
    effect = np.broadcast_to(1.0 if effect is None else np.asarray(effect, np.float64), known)
    unit = np.ones(known) if normalization == "raw" else np.where(noise.sd > 0, noise.sd, np.inf)
    per_neuron, whole = np.empty(len(ratios_)), np.empty(len(ratios_))
    for k, ratio in enumerate(ratios_):
        # the same neurons and trials at every ratio make a smooth curve
        rng = generator(seed, "power", n_neurons, repeats)
        pick = rng.integers(known, size=(n_simulations, n_neurons))
        picked = noise.take(pick).drawn(rng)
        base = np.maximum(picked.control_mean, 1e-12)
        right = rng.random(pick.shape) < match_precision
        own = ratio ** effect[pick]
        sums = []
        for mean in (base * np.where(right, own, 1.0), base):
            variance = np.maximum(picked.variance(mean), 1e-24)
            sums.append(_draw(rng, mean, variance, repeats))
        (mean_a, part_a), (mean_b, part_b) = sums
        total = part_a + part_b
        df = total**2 / ((part_a**2 + part_b**2) / (repeats - 1))
        difference = mean_a - mean_b
        p = 2 * stats.t.sf(np.abs(difference) / np.sqrt(total), df)
        found = np.array([benjamini_hochberg(row) <= alpha for row in p]) & (difference > 0)
        per_neuron[k] = found.mean()
        scaled = difference / unit[pick]
        signed = stats.wilcoxon(scaled, axis=1).pvalue
        whole[k] = ((signed <= alpha) & (np.median(scaled, axis=1) > 0)).mean()
    return Power(
        ratios_,
        per_neuron,
        whole,
        _crossing(ratios_, per_neuron, power),
        _crossing(ratios_, whole, power),
    )


def relative_effect(
    reference: ArrayLike, control: ArrayLike, *, most: float = 1.5
) -> NDArray[np.float64]:
    """Return how differently neurons gain from their images, by predicted responses.

    Parameters
    ----------
    reference, control : arrays, shape (neurons,)
        Predicted responses.
    most : float
        Largest spread of the result, half of the range of its middle 68 %: predictions that hardly
        favor the reference say little of the spread.

    Returns
    -------
    array, shape (neurons,)
        Log ratio of every neuron over the median one, 1 in the median. Neurons of unknown ratio
        stand for the others; fewer than five known say nothing: all 1.
    """
    a, b = np.asarray(reference, np.float64), np.asarray(control, np.float64)
    known = np.isfinite(a) & np.isfinite(b) & (a > 0) & (b > 0)
    if known.sum() < 5:
        return np.ones(len(known))
    effect = np.log(a[known] / b[known])
    low, middle, high = np.quantile(effect, [0.16, 0.5, 0.84])
    limit = 2 * most / (high - low) if high > low else 0.0  # all alike
    scale = min(1 / middle, limit) if middle > 0 else limit
    relative = 1 + scale * (effect - middle)
    missing = int((~known).sum())
    every = np.empty(len(known))
    every[known] = relative
    every[~known] = np.quantile(relative, (np.arange(missing) + 0.5) / max(missing, 1))
    return every


def power_table(
    noise: NoiseModel, designs: Sequence[tuple[int, int]], **params: Any
) -> list[dict[str, float]]:
    """Return the detectable ratio of several designs (n_neurons, repeats).

    Parameters
    ----------
    designs : sequence of (int, int)
    **params
        As `simulate_power`.
    """
    rows = []
    for n_neurons, repeats in designs:
        result = simulate_power(noise, n_neurons=n_neurons, repeats=repeats, **params)
        rows.append(
            {
                "n_neurons": n_neurons,
                "repeats": repeats,
                "detectable_per_neuron": result.detectable_per_neuron,
                "detectable_population": result.detectable_population,
            }
        )
    return rows


def _draw(
    rng: np.random.Generator, mean: NDArray, variance: NDArray, repeats: int
) -> tuple[NDArray, NDArray]:
    """Draw gamma trials; return their mean and the squared standard error of it."""
    mean = np.maximum(mean, 1e-12)  # a neuron that a control leaves silent: trials of 0, not NaN
    variance = np.maximum(variance, 1e-24)
    trials = rng.gamma(mean**2 / variance, variance / mean, size=(repeats, *mean.shape))
    return trials.mean(0), np.maximum(trials.var(0, ddof=1), 1e-24) / repeats


def _crossing(ratio: NDArray, value: NDArray, wanted: float) -> float:
    above = np.flatnonzero(value >= wanted)
    if not len(above):
        return float("nan")
    k = int(above[0])
    if k == 0:
        return float(ratio[0])
    low, high = value[k - 1], value[k]
    return float(ratio[k - 1] + (ratio[k] - ratio[k - 1]) * (wanted - low) / (high - low))
