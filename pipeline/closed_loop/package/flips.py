"""Flips in the signal of a photodiode: steps of a sampled trace, and by how much a log is off."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter
from scipy.signal import find_peaks

WINDOW_S = 0.05  # of the medians before and after a step
START = 0.1  # of a step: where it begins
NOISE = 8.0  # times the usual change that a step must have
NEAR_S = 0.25  # a monitor's lag, or an offset that a log has by the way it is written
MOST_PAIRS = 20_000_000  # of flips and onsets that are compared
CANDIDATES = 24  # lags that are tried


def is_trace(time: NDArray[np.float64], n_trials: int) -> bool:
    """Return whether rows are samples of a signal, not a log of its changes."""
    steps = np.diff(time)
    even = np.abs(steps - np.median(steps)) < 0.1 * np.median(steps)
    return len(time) > 20 * max(n_trials, 5) and float(even.mean()) > 0.9


def find_steps(
    time: NDArray[np.float64], volts: NDArray[np.float64], n_trials: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Find the steps of a sampled trace, whatever its slow drift and its artifacts.

    A step is the difference of the medians of 50 ms after and before, where that is largest; it
    counts if it stands out of the noise and is not small beside the usual one of `n_trials`.

    Parameters
    ----------
    time : array, shape (samples,)
        Evenly spaced (s).
    volts : array, shape (samples,)
        Any unit; a slow drift or an AC coupling does not matter.
    n_trials : int
        About how many times the square lit up.

    Returns
    -------
    time_s : array, shape (steps,)
        Beginning of the step: its first tenth.
    size : array, shape (steps,)
        Up is positive.
    """
    half = max(1, round(WINDOW_S / 2 / float(np.median(np.diff(time)))))
    if len(volts) < 4 * half + 4:
        return np.zeros(0), np.zeros(0)
    middle = median_filter(volts, size=2 * half + 1, mode="nearest")
    change = np.zeros(len(volts))
    change[half + 1 : -half - 1] = middle[2 * half + 2 :] - middle[: -2 * half - 2]
    noise = float(np.median(np.abs(change - np.median(change)))) / 0.6745
    peaks, _ = find_peaks(np.abs(change), distance=2 * half, height=max(NOISE * noise, 1e-300))
    if not len(peaks):
        return np.zeros(0), np.zeros(0)
    sizes = np.sort(np.abs(change[peaks]))[::-1]
    usual = sizes[min(2 * n_trials, len(sizes)) - 1]
    peaks = peaks[np.abs(change[peaks]) >= 0.1 * usual]
    begins = np.empty(len(peaks), int)
    for row, peak in enumerate(peaks):
        first = max(peak - 2 * half, 0)
        before = middle[max(peak - half - 1, 0)]
        done = (volts[first : peak + half + 1] - before) / change[peak]
        late = np.flatnonzero(done < START)
        begins[row] = min(first + (late[-1] + 1 if len(late) else 0), len(time) - 1)
    return time[begins], change[peaks]


def nearest(times: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the row of the time that is nearest to each wanted one; `times` rise."""
    right = np.clip(np.searchsorted(times, wanted), 1, max(len(times) - 1, 1))
    left = right - 1
    right = np.minimum(right, len(times) - 1)
    return np.where(wanted - times[left] <= times[right] - wanted, left, right)


def lags(
    flips: NDArray[np.float64], onset: NDArray[np.float64], tolerance_s: float, *, wide: bool
) -> list[float]:
    """Return by how much flips may be later than onsets, the best candidates first.

    Parameters
    ----------
    flips, onset : array, shape (flips,), (trials,)
        Rising times (s).
    tolerance_s : float
    wide : bool
        Any offset of two clocks, not only a lag of up to `NEAR_S`.
    """
    if wide:
        onset = onset[:: max(1, len(flips) * len(onset) // MOST_PAIRS)]
        difference = (flips[None] - onset[:, None]).ravel()
    else:
        first = np.searchsorted(flips, onset - NEAR_S)
        last = np.searchsorted(flips, onset + NEAR_S)
        rows = np.repeat(np.arange(len(onset)), last - first)
        places = np.concatenate([np.arange(a, b) for a, b in zip(first, last, strict=True)])
        difference = flips[places.astype(int)] - onset[rows]
    if not len(difference):
        return []
    # two grids, so that no cluster of differences is cut by an edge
    found = []
    for shift in (0.0, 0.5):
        box, count = np.unique(
            np.floor(difference / tolerance_s + shift).astype(np.int64), return_counts=True
        )
        for one in np.argsort(-count, kind="stable")[:CANDIDATES]:
            center = (box[one] + 0.5 - shift) * tolerance_s
            inside = difference[np.abs(difference - center) <= tolerance_s / 2]
            found.append((-int(count[one]), abs(center), float(np.median(inside))))
    return [lag for _, _, lag in sorted(found)]
