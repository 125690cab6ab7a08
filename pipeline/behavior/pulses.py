"""Pulses in an analog stream, or in a channel of a movie that a laboratory gave its trigger."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.errors import DataError

LEAST_STEP = 6.0  # between the two levels, in robust standard deviations of either
POLARITIES = ("auto", "rising", "falling")


def pulse_onsets(
    values: ArrayLike, *, polarity: str = "auto", back: float = 0.25
) -> NDArray[np.int64]:
    """Return the samples at which pulses begin.

    The two levels are medians, so that no artifact sets the range. A pulse begins at the first
    sample beyond the middle between them.

    Parameters
    ----------
    values : array, shape (samples,)
        A voltage, or the mean of every page of a trigger's channel; NaN is no sample.
    polarity : 'auto', 'rising' or 'falling'
        Which way a pulse goes; by itself away from the level at which the stream begins.

    back : float
        Share of the step to which the signal has to fall before another pulse may begin. Give 0.9
        where a sample is the mean of a page and the pause between pulses is shorter than a page.

    Returns
    -------
    array, shape (pulses,)
        Rising numbers of samples, from 0.

    Raises
    ------
    DataError
        If there are no two levels.
    ValueError
        If the polarity is none, or `back` is not between 0 and 1.

    Examples
    --------
    >>> pulse_onsets([0, 0, 5, 5, 0, 0, 5, 0]).tolist()
    [2, 6]
    """
    if polarity not in POLARITIES:
        raise ValueError(f"polarity {polarity!r} is none of {POLARITIES}")
    if not 0 < back < 1:
        raise ValueError(f"back must lie between 0 and 1, got {back}")
    signal = np.asarray(values, np.float64)
    if signal.ndim != 1:
        raise DataError("is no stream of samples", found=signal.shape, expected="(samples,)")
    rows = np.flatnonzero(np.isfinite(signal))
    known = signal[rows]
    low, high = _levels(known)
    if polarity == "auto":
        begin = float(np.median(known[: max(1, min(5, len(known) // 10))]))
        polarity = "rising" if abs(begin - low) <= abs(begin - high) else "falling"
    height = (known - low) / (high - low)
    if polarity == "falling":
        height = 1 - height
    state = np.where(height > max(0.5, (1 + back) / 2), 1, np.where(height < back, 0, -1))
    decided = np.flatnonzero(state >= 0)
    up = np.flatnonzero(np.diff(state[decided]) == 1)
    begins = decided[up + 1]
    beyond = np.flatnonzero((height[1:] > 0.5) & (height[:-1] <= 0.5)) + 1
    if len(beyond) and len(begins):  # back to the middle of the step
        first = np.minimum(np.searchsorted(beyond, decided[up], side="right"), len(beyond) - 1)
        middle = beyond[first]
        begins = np.where((middle > decided[up]) & (middle <= begins), middle, begins)
    return rows[begins].astype(np.int64)


def _levels(known: NDArray[np.float64]) -> tuple[float, float]:
    """Return the lower and the upper level of a stream: medians on either side of a threshold."""
    unfit = "has no two levels"
    expected = "a stream with pulses that stand out of the noise"
    if len(known) < 2 or not np.ptp(known) > 0:
        raise DataError(unfit, found=f"{len(known)} samples of one level", expected=expected)
    best: tuple[float, float] | None = None
    least = -np.inf
    for share in (0.0, 0.1, 1.0):  # of artifacts at either end, per cent
        first, last = np.percentile(known, [share, 100 - share])
        middle = (first + last) / 2
        for _ in range(50):
            upper = known > middle
            if not upper.any() or upper.all():
                break
            low, high = float(np.median(known[~upper])), float(np.median(known[upper]))
            if middle == (low + high) / 2:
                break
            middle = (low + high) / 2
        if not upper.any() or upper.all():
            continue
        noise = max(_spread(known[~upper]), _spread(known[upper]))
        clear = (high - low) / noise if noise > 0 else np.inf
        crossings = int((np.diff(upper.astype(int)) == 1).sum())
        if clear >= LEAST_STEP and crossings > least:
            best, least = (low, high), crossings
    if best is None:
        raise DataError(unfit, found=f"{known.min():.4g} to {known.max():.4g}", expected=expected)
    return best


def _spread(values: NDArray[np.float64]) -> float:
    return 1.4826 * float(np.median(np.abs(values - np.median(values))))
