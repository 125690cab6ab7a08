"""From pupil and treadmill to the animal's state on every trial."""

from __future__ import annotations

from dataclasses import dataclass

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


def _sample(
    pupil_time_s: ArrayLike | None,
    center_x_px: ArrayLike | None,
    center_y_px: ArrayLike | None,
    radius_px: ArrayLike | None,
    treadmill_time_s: ArrayLike | None,
    speed_cm_s: ArrayLike | None,
    onset_s: ArrayLike,
    centre_s: float,
    half_s: float,
    hamming: bool,
    min_valid: float,
) -> TrialBehavior:
    onset = np.asarray(onset_s, np.float64)
    begin, end = onset + centre_s - half_s, onset + centre_s + half_s
    behavior = np.full((len(onset), 3), np.nan)
    center = np.full((len(onset), 2), np.nan)

    def weights(stream: _Stream) -> NDArray:
        if not hamming:
            return np.ones_like(stream.time)
        return 0.54 + 0.46 * np.cos(np.pi * stream.time / half_s)

    if pupil_time_s is not None and len(np.asarray(pupil_time_s)):
        stream = _Stream(pupil_time_s, begin, end)
        weight = weights(stream)
        columns = [(behavior, 0, radius_px), (center, 0, center_x_px), (center, 1, center_y_px)]
        for target, column, array in columns:
            if array is not None:
                values = stream.values(array)
                target[:, column] = _mean(values, weight, min_valid, stream.inside)
        if radius_px is not None:
            slope = _slope(stream.values(radius_px), stream.time, weight)
            behavior[:, 1] = np.where(np.isnan(behavior[:, 0]), np.nan, slope)
    if treadmill_time_s is not None and speed_cm_s is not None and len(np.asarray(speed_cm_s)):
        stream = _Stream(treadmill_time_s, begin, end)
        values = np.abs(stream.values(speed_cm_s))
        behavior[:, 2] = _mean(values, weights(stream), min_valid, stream.inside)
    return TrialBehavior(behavior=behavior, pupil_center=center)


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
    return _sample(
        pupil_time_s,
        center_x_px,
        center_y_px,
        radius_px,
        treadmill_time_s,
        speed_cm_s,
        onset_s,
        start_s + length_s / 2,
        length_s / 2,
        False,
        min_valid,
    )


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
    Walker et al. (2019), doi:10.1038/s41593-019-0517-x; REFERENCE 1.4.
    """
    return _sample(
        pupil_time_s,
        center_x_px,
        center_y_px,
        radius_px,
        treadmill_time_s,
        speed_cm_s,
        onset_s,
        offset_s + length_s / 2,
        length_s,
        True,
        min_valid,
    )
