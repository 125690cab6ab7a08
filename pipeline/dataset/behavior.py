"""From pupil and treadmill to the animal's state on every trial."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeGuard

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.registry import Registry

behavior_windows = Registry("behavior window")


@dataclass(frozen=True)
class TrialBehavior:
    """State of the animal on every trial; NaN where it is not known."""

    behavior: NDArray[np.float64]  # (trials, 3) pupil radius (px), its derivative (px/s), |speed|
    pupil_center: NDArray[np.float64]  # (trials, 2) x, y (px)


class _Stream:
    """Samples of one stream around every trial, shape (trials, samples), padded with NaN."""

    def __init__(self, time_s: ArrayLike, begin: NDArray, end: NDArray) -> None:
        time = np.asarray(time_s, np.float64)
        first, last = np.searchsorted(time, begin), np.searchsorted(time, end, side="right")
        span = np.arange(max(int((last - first).max(initial=0)), 1))
        index = first[:, None] + span
        self.inside = index < last[:, None]
        self.index = np.minimum(index, len(time) - 1)
        self.time = time[self.index] - ((begin + end) / 2)[:, None]

    def values(self, array: ArrayLike) -> NDArray[np.float64]:
        return np.where(self.inside, np.asarray(array, np.float64)[self.index], np.nan)


def _mean(values: NDArray, weight: NDArray, min_valid: float, inside: NDArray) -> NDArray:
    """Weighted mean over valid samples; NaN where too small a share of them is valid."""
    valid = ~np.isnan(values)
    used = np.where(valid, weight, 0.0)
    total, possible = used.sum(1), np.where(inside, weight, 0.0).sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(valid, values * weight, 0.0).sum(1) / total
        return np.where(total >= min_valid * possible, mean, np.nan)


def _slope(values: NDArray, time: NDArray, weight: NDArray) -> NDArray:
    """Weighted least-squares slope over valid samples; NaN with fewer than two of them."""
    valid = ~np.isnan(values)
    weight = np.where(valid, weight, 0.0)
    filled = np.where(valid, values, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        total = weight.sum(1, keepdims=True)
        t = time - (weight * time).sum(1, keepdims=True) / total
        x = filled - (weight * filled).sum(1, keepdims=True) / total
        slope = (weight * t * x).sum(1) / (weight * t**2).sum(1)
    return np.where(valid.sum(1) >= 2, slope, np.nan)


class _Traces(NamedTuple):
    """What eye camera and treadmill recorded; None where there was none."""

    pupil_time_s: ArrayLike | None
    center_x_px: ArrayLike | None
    center_y_px: ArrayLike | None
    radius_px: ArrayLike | None
    treadmill_time_s: ArrayLike | None
    speed_cm_s: ArrayLike | None


class _Window(NamedTuple):
    """Which samples around the onset of an image count, and how much."""

    center_s: float
    half_s: float
    weight: Callable[[NDArray, float], NDArray]  # of times from the center (s) and `half_s`
    min_valid: float


def _flat(time_s: NDArray, half_s: float) -> NDArray:
    return np.ones_like(time_s)


def _hamming(time_s: NDArray, half_s: float) -> NDArray:
    return 0.54 + 0.46 * np.cos(np.pi * time_s / half_s)


def _sample(traces: _Traces, onset_s: ArrayLike, window: _Window) -> TrialBehavior:
    center = np.asarray(onset_s, np.float64) + window.center_s
    begin, end = center - window.half_s, center + window.half_s
    behavior, gaze = np.full((len(center), 3), np.nan), np.full((len(center), 2), np.nan)

    def mean(stream: _Stream, values: NDArray) -> NDArray:
        weight = window.weight(stream.time, window.half_s)
        return _mean(values, weight, window.min_valid, stream.inside)

    if _recorded(traces.pupil_time_s):
        stream = _Stream(traces.pupil_time_s, begin, end)
        for target, column, array in (
            (behavior, 0, traces.radius_px),
            (gaze, 0, traces.center_x_px),
            (gaze, 1, traces.center_y_px),
        ):
            if array is not None:
                target[:, column] = mean(stream, stream.values(array))
        if traces.radius_px is not None:
            weight = window.weight(stream.time, window.half_s)
            slope = _slope(stream.values(traces.radius_px), stream.time, weight)
            behavior[:, 1] = np.where(np.isnan(behavior[:, 0]), np.nan, slope)
    if _recorded(traces.treadmill_time_s) and _recorded(traces.speed_cm_s):
        stream = _Stream(traces.treadmill_time_s, begin, end)
        behavior[:, 2] = mean(stream, np.abs(stream.values(traces.speed_cm_s)))
    return TrialBehavior(behavior=behavior, pupil_center=gaze)


def _recorded(array: ArrayLike | None) -> TypeGuard[ArrayLike]:
    return array is not None and len(np.asarray(array)) > 0


@behavior_windows.register("boxcar", default=True)
def boxcar(
    pupil_time_s: ArrayLike | None,
    center_x_px: ArrayLike | None,
    center_y_px: ArrayLike | None,
    radius_px: ArrayLike | None,
    treadmill_time_s: ArrayLike | None,
    speed_cm_s: ArrayLike | None,
    onset_s: ArrayLike,
    *,
    start_s: float = 0.05,
    length_s: float = 0.5,
    min_valid: float = 0.3,
) -> TrialBehavior:
    """Average pupil, gaze and speed over the response window; the derivative is the fitted slope.

    Parameters
    ----------
    pupil_time_s : array, shape (samples,) or None
        Times of the pupil samples (rig clock, s); None if there was no eye camera.
    center_x_px, center_y_px, radius_px : array, shape (samples,) or None
        Gaze and pupil radius, NaN in blinks.
    treadmill_time_s, speed_cm_s : array, shape (samples,) or None
        Running speed, NaN in gaps.
    onset_s : array, shape (trials,)
        When the images came on (rig clock, s).
    start_s, length_s : float
        Window after onset (s), that of the responses.
    min_valid : float
        Smallest share of valid samples from which a trial has a value.

    Returns
    -------
    TrialBehavior
        NaN where a trial has too few valid samples, and throughout where a stream is None.
    """
    traces = _Traces(
        pupil_time_s, center_x_px, center_y_px, radius_px, treadmill_time_s, speed_cm_s
    )
    window = _Window(start_s + length_s / 2, length_s / 2, _flat, min_valid)
    return _sample(traces, onset_s, window)


@behavior_windows.register("hamming2019")
def hamming2019(
    pupil_time_s: ArrayLike | None,
    center_x_px: ArrayLike | None,
    center_y_px: ArrayLike | None,
    radius_px: ArrayLike | None,
    treadmill_time_s: ArrayLike | None,
    speed_cm_s: ArrayLike | None,
    onset_s: ArrayLike,
    *,
    offset_s: float = 0.05,
    length_s: float = 0.5,
    min_valid: float = 0.3,
) -> TrialBehavior:
    """Weight samples with a Hamming window around the middle of the response window.

    Parameters
    ----------
    pupil_time_s, center_x_px, center_y_px, radius_px, treadmill_time_s, speed_cm_s, onset_s
        As for `boxcar`.
    offset_s, length_s : float
        Nominal window (s); the weights reach `length_s` to both sides of its middle.
    min_valid : float
        Smallest weight of valid samples, as a share, from which a trial has a value.

    References
    ----------
    Walker et al. (2019), doi:10.1038/s41593-019-0517-x.
    """
    traces = _Traces(
        pupil_time_s, center_x_px, center_y_px, radius_px, treadmill_time_s, speed_cm_s
    )
    window = _Window(offset_s + length_s / 2, length_s, _hamming, min_valid)
    return _sample(traces, onset_s, window)
