"""Tests per neuron and over the population, on summed moments."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from pipeline.rng import generator


@dataclass(frozen=True)
class Comparison:
    """One kind against another, per neuron; arrays of shape (neurons,), NaN where not known."""

    difference: NDArray[np.float64]
    ratio: NDArray[np.float64]
    t: NDArray[np.float64]
    df: NDArray[np.float64]
    p: NDArray[np.float64]
    p_adjusted: NDArray[np.float64]
    significant: NDArray[np.bool_]  # either way; the sign of the difference says which
    scored: NDArray[np.bool_]  # enough trials of both


def compare(
    mean_a: ArrayLike,
    variance_a: ArrayLike,
    n_a: ArrayLike,
    mean_b: ArrayLike,
    variance_b: ArrayLike,
    n_b: ArrayLike,
    *,
    alpha: float = 0.05,
    min_trials: int = 3,
) -> Comparison:
    """Test every neuron by Welch's two-sided t, corrected by Benjamini and Hochberg.

    Parameters
    ----------
    mean_a, variance_a, n_a, mean_b, variance_b, n_b : arrays, shape (neurons,)
        Mean, variance over trials (ddof 1) and number of trials.
    alpha : float
        False discovery rate.
    min_trials : int
        Fewest trials of each kind for a neuron to be scored.

    Notes
    -----
    If neither kind varies at all (a silent neuron), t is 0/0: p is 1 where the means are equal and
    NaN, not significant, where they differ: without a variance nothing can be said.

    References
    ----------
    Welch (1947), doi:10.2307/2332510; Benjamini and Hochberg (1995),
    doi:10.1111/j.2517-6161.1995.tb02031.x
    """
    mean_a, variance_a, n_a, mean_b, variance_b, n_b = (
        np.asarray(v, np.float64) for v in (mean_a, variance_a, n_a, mean_b, variance_b, n_b)
    )
    scored = (n_a >= min_trials) & (n_b >= min_trials) & np.isfinite(mean_a) & np.isfinite(mean_b)
    with np.errstate(invalid="ignore", divide="ignore"):  # unscored and silent neurons, see Notes
        difference = np.where(scored, mean_a - mean_b, np.nan)
        ratio = np.where(scored & (mean_b > 0), mean_a / mean_b, np.nan)
        part_a, part_b = variance_a / n_a, variance_b / n_b
        t = difference / np.sqrt(part_a + part_b)
        df = (part_a + part_b) ** 2 / (part_a**2 / (n_a - 1) + part_b**2 / (n_b - 1))
        p = 2 * stats.t.sf(np.abs(t), df)
    still = scored & (part_a + part_b <= 1e-24 * (mean_a**2 + mean_b**2))
    t, df = np.where(still, np.nan, t), np.where(still, np.nan, df)
    p = np.where(still, np.where(mean_a == mean_b, 1.0, np.nan), p)
    adjusted = benjamini_hochberg(p)
    with np.errstate(invalid="ignore"):
        significant = adjusted <= alpha
    return Comparison(difference, ratio, t, df, p, adjusted, significant, scored)


def benjamini_hochberg(p: ArrayLike) -> NDArray[np.float64]:
    """Return p values adjusted for the false discovery rate; NaN stay out and stay NaN."""
    p = np.asarray(p, np.float64)
    adjusted = np.full(p.shape, np.nan)
    known = np.flatnonzero(np.isfinite(p))
    order = known[np.argsort(p[known], kind="stable")]
    scaled = p[order] * len(order) / np.arange(1, len(order) + 1)
    adjusted[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return adjusted


@dataclass(frozen=True)
class Population:
    """One kind against another over all neurons.

    Attributes
    ----------
    n : int
        Neurons scored.
    fraction, fraction_low, fraction_high : float
        Share of neurons with a larger mean response to the first kind, and its interval.
    fraction_significant, fraction_opposite : float
        Share significantly above and below.
    median_difference, difference_low, difference_high : float
        Median over neurons of the difference, with its interval.
    median_ratio : float
        Median over neurons of the ratio of the mean responses (NaN if none is defined).
    wilcoxon_w, wilcoxon_p : float
        Two-sided signed-rank test of the differences.
    bootstrap_p : float
        Two-sided, of the median difference being zero.
    """

    n: int
    fraction: float
    fraction_low: float
    fraction_high: float
    fraction_significant: float
    fraction_opposite: float
    median_difference: float
    difference_low: float
    difference_high: float
    median_ratio: float
    wilcoxon_w: float
    wilcoxon_p: float
    bootstrap_p: float


def population(
    comparison: Comparison,
    sem: ArrayLike,
    *,
    animal: ArrayLike | None = None,
    confidence: float = 0.95,
    n_bootstrap: int = 2000,
    seed: int = 0,
) -> Population:
    """Test the differences of all scored neurons together.

    The bootstrap is hierarchical: animals (if given) are drawn, neurons within them, and each
    neuron's difference is drawn anew from its own t distribution, which stands for drawing its
    trials (Saravanan et al. 2020, doi:10.51628/001c.13927).

    Parameters
    ----------
    comparison : Comparison
    sem : array, shape (neurons,)
        Standard error of each difference.
    animal : array, shape (neurons,), optional
        Animal of each neuron; None if all are from one.
    """
    use = comparison.scored & np.isfinite(comparison.difference)
    difference, n = comparison.difference[use], int(use.sum())
    nan = float("nan")
    if n == 0:
        return Population(0, *([nan] * 12))
    above = float((difference > 0).mean())
    significant = comparison.significant[use]
    ratio = comparison.ratio[use]
    w, p = _wilcoxon(difference)
    rng = generator(seed, "bootstrap")
    groups = _groups(None if animal is None else np.asarray(animal)[use], n)
    error = np.nan_to_num(np.asarray(sem, np.float64)[use])
    df = np.nan_to_num(comparison.df[use], nan=1e6)
    medians, fractions = np.empty(n_bootstrap), np.empty(n_bootstrap)
    for i in range(n_bootstrap):
        picked = [groups[g] for g in rng.integers(len(groups), size=len(groups))]
        rows = np.concatenate([g[rng.integers(len(g), size=len(g))] for g in picked])
        drawn = difference[rows] + error[rows] * rng.standard_t(df[rows])
        medians[i], fractions[i] = np.median(drawn), (difference[rows] > 0).mean()
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    low, high = np.quantile(medians, tails)
    if len(groups) == 1:
        fraction_low, fraction_high = wilson(int((difference > 0).sum()), n, confidence)
    else:
        fraction_low, fraction_high = np.quantile(fractions, tails)
    side = min((medians <= 0).sum(), (medians >= 0).sum())
    return Population(
        n=n,
        fraction=above,
        fraction_low=float(fraction_low),
        fraction_high=float(fraction_high),
        fraction_significant=float((significant & (difference > 0)).mean()),
        fraction_opposite=float((significant & (difference < 0)).mean()),
        median_difference=float(np.median(difference)),
        difference_low=float(low),
        difference_high=float(high),
        median_ratio=float(np.nanmedian(ratio)) if np.isfinite(ratio).any() else nan,
        wilcoxon_w=w,
        wilcoxon_p=p,
        bootstrap_p=float(min(1.0, 2 * (side + 1) / (n_bootstrap + 1))),
    )


def wilson(hits: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return Wilson's interval of a proportion (doi:10.1080/01621459.1927.10502953)."""
    z = float(stats.norm.ppf((1 + confidence) / 2))
    share, scale = hits / n, 1 + z**2 / n
    center = (share + z**2 / (2 * n)) / scale
    half = z / scale * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return max(0.0, float(center - half)), min(1.0, float(center + half))


def _wilcoxon(difference: NDArray) -> tuple[float, float]:
    if not np.any(difference):
        return 0.0, 1.0
    result = stats.wilcoxon(difference, zero_method="wilcox", alternative="two-sided")
    return float(result.statistic), float(result.pvalue)


def _groups(animal: NDArray | None, n: int) -> list[NDArray[np.intp]]:
    if animal is None:
        return [np.arange(n)]
    return [np.flatnonzero(animal == name) for name in np.unique(animal)]
