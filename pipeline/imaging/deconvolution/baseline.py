"""Bring traces into one form: gaps filled, slow baseline and noise level known."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from .result import over_units

TINY = 1e-6  # of a trace's magnitude: below it, differences are rounding
BLOCK_SAMPLES = 800  # of a baseline's block suffice: its percentile is then known to 0.05 noise


@dataclass(frozen=True)
class Prepared:
    """Traces as (baseline + noise x normal); arrays of shape (units, frames) or (units,)."""

    normal: NDArray[np.float32]  # in units of the noise, baseline near 0, gaps interpolated
    baseline: NDArray[np.float32]
    noise: NDArray[np.float32]  # 0 where a unit does not vary
    valid: NDArray[np.bool_]  # finite frames of units that vary
    missing: NDArray[np.bool_]  # frames in which the trace is NaN


def fill_gaps(traces: NDArray) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
    """Interpolate frames that are not finite; a unit without any finite frame becomes 0."""
    values: NDArray[np.floating] = np.array(
        traces, dtype=np.float32 if traces.dtype == np.float32 else np.float64
    )
    valid = np.isfinite(values)
    for unit in np.flatnonzero(~valid.all(axis=1)):
        good = np.flatnonzero(valid[unit])
        frames = np.arange(values.shape[1])
        values[unit] = np.interp(frames, good, values[unit, good]) if len(good) else 0.0
    return values, valid


def noise_level(traces: NDArray) -> NDArray[np.float64]:
    """Return the standard deviation of white noise, (units,), from second differences.

    The median absolute second difference of neighbors; transients are too few to move a median.
    A unit whose median is 0 (integers, repeated frames) falls back on the mean absolute one.
    """
    if traces.shape[1] < 3:
        return np.zeros(traces.shape[0])
    difference = np.abs(np.diff(traces, n=2, axis=1))
    # sd of a second difference of white noise is sqrt(6) sd; median |normal| is 0.6745 sd
    middle = difference.shape[1] // 2
    median = np.partition(difference, middle, axis=1)[:, middle].astype(np.float64)
    noise = median / (0.6745 * np.sqrt(6))
    low = noise <= 0
    if low.any():
        noise[low] = difference[low].mean(axis=1) / (0.7979 * np.sqrt(6))
    return noise


def slow_baseline(
    traces: NDArray, fps: float, *, window_s: float = 60.0, percentile: float = 20.0
) -> NDArray[np.floating]:
    """Return a running percentile, (units, frames), from overlapping blocks of `window_s`.

    Percentiles of blocks half a window apart are interpolated linearly: a thousand times cheaper
    than a sliding one, and a linear drift is followed exactly.
    """
    units, frames = traces.shape
    if frames == 0:
        return np.zeros((units, 0), traces.dtype)
    width = min(frames, max(round(window_s * fps), 16))
    count = max(1, int(np.ceil(2 * frames / width)) - 1)
    starts = np.unique(np.linspace(0, frames - width, count).round().astype(int))
    step = max(1, width // BLOCK_SAMPLES)
    rank = int(percentile / 100 * (len(range(0, width, step)) - 1))
    blocks = np.stack(
        [np.partition(traces[:, a : a + width : step], rank, axis=1)[:, rank] for a in starts],
        axis=1,
    )
    if len(starts) == 1:
        return np.repeat(blocks, frames, axis=1)
    place = np.interp(
        np.arange(frames), starts + (width - 1) / 2, np.arange(len(starts), dtype=float)
    )
    left = np.minimum(place.astype(int), len(starts) - 2)
    return _between(blocks, left, (place - left).astype(blocks.dtype))


@numba.njit(nogil=True, cache=True)
def _between(blocks, left, share):
    """Interpolate blocks (units, count) at `left` + `share`, each (frames,)."""
    out = np.empty((len(blocks), len(left)), blocks.dtype)
    for unit in range(len(blocks)):
        for t in range(len(left)):
            low = blocks[unit, left[t]]
            out[unit, t] = low + share[t] * (blocks[unit, left[t] + 1] - low)
    return out


@numba.njit(nogil=True, cache=True)
def _in_noise(values, low, level, normal):
    """Fill `normal` with values above `low` in units of `level` (units,); 0 where that is 0."""
    for unit in range(len(values)):
        for t in range(values.shape[1]):
            above = values[unit, t] - low[unit, t]
            normal[unit, t] = above / level[unit] if level[unit] > 0 else 0


def prepare(
    traces: NDArray, fps: float, *, window_s: float = 60.0, percentile: float = 20.0
) -> Prepared:
    """Return traces in units of their own noise above their own baseline.

    Scale and offset of a trace drop out: F, dF/F and photon counts give the same `normal`.
    """
    units, frames = traces.shape
    normal, baseline = np.empty((2, units, frames), np.float32)
    noise, valid = np.empty(units, np.float32), np.empty((units, frames), bool)
    missing = np.empty((units, frames), bool)

    def work(block: slice) -> None:  # a few units at a time stay in the processor's cache
        filled, finite = fill_gaps(traces[block])
        low = slow_baseline(filled, fps, window_s=window_s, percentile=percentile)
        level = noise_level(filled)
        least, most = (
            (filled.min(axis=1), filled.max(axis=1)) if frames else np.zeros((2, len(filled)))
        )
        size = np.maximum(np.abs(least), np.abs(most))
        flat = (most - least <= TINY * size) | (level <= 0)
        level[flat] = 0.0
        _in_noise(filled, low, level.astype(filled.dtype), normal[block])
        baseline[block], noise[block] = low, level
        valid[block] = finite & ~flat[:, None]
        missing[block] = ~finite

    over_units(work, units)
    return Prepared(normal, baseline, noise, valid, missing)
