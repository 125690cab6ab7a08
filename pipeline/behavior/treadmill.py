"""Running speed from the counts of a rotary encoder."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.errors import DataError
from pipeline.registry import Registry

treadmill_methods = Registry("treadmill method")
WRAP = 2**32  # the encoder's counter has 32 bits
MOST_STILL = 100_000  # rows of one pause of the wheel


@dataclass(frozen=True)
class SpeedResult:
    """Running speed; `speed_cm_s` is NaN where packets are missing.

    Attributes
    ----------
    time_s : array, shape (samples,)
        Increasing times on the clock of the input (s): every sample, in every gap one time more,
        so that interpolation between samples does not bridge it, and times at which the wheel
        stood still and nothing was logged.
    speed_cm_s : array, shape (samples,)
        Forward positive if counts rise.
    """

    time_s: NDArray[np.float64]
    speed_cm_s: NDArray[np.float64]


def unwrap_counts(counts: ArrayLike) -> NDArray[np.float64]:
    """Return counts without wrap, starting at 0; signed and unsigned 32-bit counters alike.

    A step is taken to be the shortest way around: fewer than 2**31 counts between samples.
    """
    raw = np.asarray(counts)
    steps = np.diff(raw.astype(np.int64))
    half = WRAP // 2
    shortest = np.mod(steps + half, WRAP) - half
    return np.concatenate([[0.0], np.cumsum(shortest)]) if len(raw) else np.zeros(0)


def _checked(time_s: ArrayLike, counts: ArrayLike) -> tuple[NDArray, NDArray]:
    time, raw = np.asarray(time_s, np.float64), np.asarray(counts)
    if time.ndim != 1 or raw.shape != time.shape:
        raise DataError(
            "treadmill times and counts differ in length", found=f"{time.shape}, {raw.shape}"
        )
    if not np.isfinite(time).all() or np.any(np.diff(time) <= 0):
        raise DataError(
            "time does not increase", field="time_s", remedy="remove repeated treadmill samples"
        )
    if raw.dtype.kind not in "iuf":
        raise DataError("counts are not numbers", field="counts", found=raw.dtype)
    good = np.isfinite(raw) if raw.dtype.kind == "f" else np.ones(len(raw), bool)
    time, raw = time[good], raw[good]
    if raw.dtype.kind == "f" and np.any(raw != np.round(raw)):
        raise DataError("counts are not whole numbers", field="counts")
    if len(raw) and (raw.min() < -(WRAP // 2) or raw.max() >= WRAP):
        raise DataError(
            "counts do not fit into 32 bits", field="counts", found=f"{raw.min()} to {raw.max()}"
        )
    return time, raw.astype(np.int64)


def _smoothed_slope(time: NDArray, position: NDArray, sigma_s: float) -> NDArray[np.float64]:
    """Slope of a local straight line with Gaussian weights; exact for uneven samples."""
    step = float(np.median(np.diff(time)))
    reach = max(1, int(np.ceil(3 * sigma_s / step)))
    sums = np.zeros((5, len(time)))  # of w, w t, w x, w t^2, w t x around every sample
    for shift in range(-reach, reach + 1):
        here = slice(max(0, -shift), len(time) - max(0, shift))
        there = slice(max(0, shift), len(time) - max(0, -shift))
        if here.start >= here.stop:
            continue
        t, x = time[there] - time[here], position[there] - position[here]
        # a neighbor at least has weight, however small the kernel is
        weight = np.exp(-0.5 * (t / max(sigma_s, step / 2)) ** 2)
        for row, term in enumerate((1.0, t, x, t * t, t * x)):
            sums[row, here] += weight * term
    w, wt, wx, wtt, wtx = sums
    return (w * wtx - wt * wx) / (w * wtt - wt**2)


@treadmill_methods.register("local_slope", default=True, revision=2)
def local_slope(
    time_s: ArrayLike,
    counts: ArrayLike,
    diameter_cm: float,
    counts_per_rev: float,
    *,
    smoothing_s: float = 0.1,
    max_gap_s: float | None = None,
    max_speed_cm_s: float = 300.0,
) -> SpeedResult:
    """Fit a straight line to the wheel's position around every sample.

    Parameters
    ----------
    time_s : array, shape (samples,)
        Increasing times (s).
    counts : array of int, shape (samples,)
        Readings of a 32-bit counter, signed or unsigned, that may wrap; NaN for a lost reading.
    diameter_cm : float
        Of the wheel, where the animal runs.
    counts_per_rev : float
        Counts in one turn; negative if counts fall when the animal runs forward.
    smoothing_s : float
        Standard deviation of the Gaussian weights (s).
    max_gap_s : float, optional
        Samples further apart are a gap (s); default: 3.5 times the median interval, i.e. three
        packets lost in a row. It is no gap if the count changed by one at most: the wheel stood
        still, and logs that write a row for every count write none then.
    max_speed_cm_s : float
        A step that is faster is a reset of the counter, and handled as a gap.

    Returns
    -------
    SpeedResult
        At the times of the samples, with one NaN in every gap, and rows of the mean speed,
        `max_gap_s` apart, where the wheel stood still.

    Raises
    ------
    DataError
        If lengths differ, time does not increase or counts are no 32-bit integers.
    ValueError
        If the wheel's diameter or resolution is not usable.
    """
    if not diameter_cm > 0 or not np.isfinite(counts_per_rev) or counts_per_rev == 0:
        raise ValueError(
            f"wheel of {diameter_cm} cm with {counts_per_rev} counts a turn; both must not be 0"
        )
    time, raw = _checked(time_s, counts)
    if len(time) < 2:
        return SpeedResult(time, np.full(len(time), np.nan))
    interval = np.diff(time)
    limit = 3.5 * float(np.median(interval)) if max_gap_s is None else max_gap_s
    cm = unwrap_counts(raw) * (np.pi * diameter_cm / counts_per_rev)
    steps = np.diff(cm)
    broken = (interval > limit) | (np.abs(steps) > max_speed_cm_s * interval)
    still = broken & (np.abs(np.diff(unwrap_counts(raw))) <= 1)
    mean = np.divide(steps, interval)
    edges = np.concatenate([[0], np.flatnonzero(broken) + 1, [len(time)]])
    times, speeds = [], []
    for first, end in itertools.pairwise(edges):
        piece = slice(first, end)
        if end - first < 2:  # alone: what is known of it are the pauses about it
            about = [row for row in (first - 1, end - 1) if 0 <= row < len(still) and still[row]]
            slope = np.array([mean[about].mean() if about else np.nan])
        else:
            slope = _smoothed_slope(time[piece], cm[piece], smoothing_s)
        times.append(time[piece])
        speeds.append(slope)
        if end == len(time):
            continue
        if still[end - 1]:
            rows = max(1, int(min(interval[end - 1] / max(limit, 1e-9), MOST_STILL)))
            between = np.linspace(time[end - 1], time[end], rows + 2)[1:-1]
            times.append(between)
            speeds.append(np.full(rows, mean[end - 1]))
        else:
            times.append(np.array([(time[end - 1] + time[end]) / 2]))
            speeds.append(np.array([np.nan]))
    return SpeedResult(np.concatenate(times), np.concatenate(speeds))


def running_periods(
    time_s: ArrayLike,
    speed_cm_s: ArrayLike,
    *,
    threshold_cm_s: float = 1.0,
    max_pause_s: float = 2.0,
    min_duration_s: float = 1.0,
) -> NDArray[np.float64]:
    """Return begin and end (s) of every period of running, shape (periods, 2).

    Parameters
    ----------
    time_s, speed_cm_s : array, shape (samples,)
        As in `SpeedResult`; a NaN ends a period.
    threshold_cm_s : float
        The animal runs where its speed, either way, is at least this.
    max_pause_s : float
        Shorter pauses (s) do not end a period, unless samples are missing there.
    min_duration_s : float
        Shorter periods (s) are dropped.

    Examples
    --------
    >>> speed = [0, 0, 4, 5, 4, 0, 0]  # one sample a second
    >>> running_periods(range(7), speed, max_pause_s=0).tolist()
    [[2.0, 4.0]]
    """
    time, speed = np.asarray(time_s, np.float64), np.asarray(speed_cm_s, np.float64)
    with np.errstate(invalid="ignore"):
        runs = np.abs(speed) >= threshold_cm_s
    change = np.flatnonzero(np.diff(np.concatenate([[False], runs, [False]]).astype(int)))
    missing = np.concatenate([[0], np.cumsum(np.isnan(speed))])
    periods: list[list[int]] = []
    for first, end in change.reshape(-1, 2):
        last = end - 1
        if (
            periods
            and time[first] - time[periods[-1][1]] < max_pause_s
            and missing[first] == missing[periods[-1][1]]
        ):
            periods[-1][1] = last
        else:
            periods.append([first, last])
    out = np.array([[time[a], time[b]] for a, b in periods]).reshape(-1, 2)
    return out[out[:, 1] - out[:, 0] >= min_duration_s]
