"""Is one model better than another on the same units: CNN and LN, ensemble and member."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import wilcoxon

from pipeline.rng import generator


@dataclass(frozen=True)
class Comparison:
    """Paired difference of a measure over units."""

    difference: float  # mean over units of the first less the second
    low: float  # 95 % of a bootstrap over units
    high: float
    share_better: float  # of the units, where the first is higher; ties count half
    p: float  # Wilcoxon signed rank, two-sided
    n_units: int  # with both known


def compare(
    first: ArrayLike, second: ArrayLike, *, n_samples: int = 2000, seed: int = 0
) -> Comparison:
    """Compare one measure of two models unit by unit.

    Parameters
    ----------
    first, second : array, shape (units,)
        The measure, such as ``evaluate(...).per_unit["single_trial"]``; units that lack either
        are left out.
    n_samples : int
        Bootstrap samples of units.
    seed : int
        Names the samples.

    Raises
    ------
    ValueError
        If shapes differ, or no unit has both.

    Examples
    --------
    >>> found = compare([0.5, 0.6, 0.7, 0.4], [0.4, 0.5, 0.6, 0.3])
    >>> round(found.difference, 3)
    0.1
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError(
            f"measures must be (units,) of one length; got {first.shape}, {second.shape}"
        )
    difference = first - second
    difference = difference[np.isfinite(difference)]
    n = len(difference)
    if not n:
        raise ValueError("no unit has both measures")
    draws = generator(seed, "bootstrap comparison").integers(0, n, (n_samples, n))
    low, high = np.percentile(difference[draws].mean(1), [2.5, 97.5])
    better = (difference > 0).mean() + 0.5 * (difference == 0).mean()
    p = float(wilcoxon(difference).pvalue) if difference.any() else 1.0
    return Comparison(float(difference.mean()), float(low), float(high), float(better), p, n)
