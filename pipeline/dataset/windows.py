"""From deconvolved activity to one response a trial: the response windows.

What leaks: with images on for 0.5 s the nominal window is 50-550 ms after onset. `boxcar` weights
activity there and nothing else, to the resolution of a frame. `hamming2019` spans -0.2 to 0.8 s
around onset: at 8 Hz 87 % of its weight lies in 50-550 ms and 6.7 % before onset (see `leak`).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import convolve1d

from pipeline.errors import DataError
from pipeline.registry import Registry

response_windows = Registry("response window")

_CHUNK = 64  # units at a time
_SPANS = {"before": -0.5, "centred": 0.0, "after": 0.5}


def _check(
    activity: NDArray, frame_times_s: ArrayLike, onset_s: ArrayLike, unit_delay_s: ArrayLike | None
) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    activity = np.asarray(activity)
    times = np.asarray(frame_times_s, np.float64)
    onset = np.asarray(onset_s, np.float64)
    if activity.ndim != 2:
        raise ValueError(f"activity must be (units, frames), got shape {activity.shape}")
    if times.shape != (activity.shape[1],):
        raise DataError(
            "one time a frame is needed",
            field="frame_times_s",
            found=times.shape,
            expected=(activity.shape[1],),
        )
    if len(times) < 3 or not (np.diff(times) > 0).all():
        raise DataError(
            "frame times must rise", field="frame_times_s", found=f"{len(times)} frames"
        )
    delay = np.zeros(len(activity)) if unit_delay_s is None else unit_delay_s
    return activity, times, onset, np.broadcast_to(np.asarray(delay, float), len(activity))


def _frame_edges(times: NDArray, span: float) -> tuple[NDArray, NDArray]:
    """Return the edges between frames and, per interval, the frame it belongs to (-1: a gap).

    A frame stands for one frame period; where frames are missing, the time between is no frame's.
    """
    period = float(np.median(np.diff(times)))
    centre = times + span * period
    gap = np.flatnonzero(np.diff(centre) > 1.5 * period)
    middle = (centre[1:] + centre[:-1]) / 2
    edges = [np.array([centre[0] - period / 2])]
    frames, start = [], 0
    for at in [*gap, len(times) - 1]:
        edges += [middle[start:at], np.array([centre[at] + period / 2])]
        frames.append(np.arange(start, at + 1))
        if at < len(times) - 1:
            edges.append(np.array([centre[at + 1] - period / 2]))
            frames.append(np.array([-1]))
        start = at + 1
    return np.concatenate(edges), np.concatenate(frames)


@response_windows.register("boxcar", default=True)
def boxcar(
    activity: NDArray[np.floating],
    frame_times_s: ArrayLike,
    onset_s: ArrayLike,
    duration_s: ArrayLike | None = None,
    unit_delay_s: ArrayLike | None = None,
    *,
    start_s: float = 0.05,
    length_s: float | None = 0.5,
    frame_span: Literal["before", "centred", "after"] = "centred",
) -> NDArray[np.float32]:
    """Integrate activity over a window with exact fractions of the frames at its ends.

    Parameters
    ----------
    activity : array, shape (units, frames)
        Deconvolved activity per frame (a.u.).
    frame_times_s : array, shape (frames,)
        Start of every frame (rig clock, s).
    onset_s, duration_s : array, shape (trials,)
        When the image came on, and for how long.
    unit_delay_s : array, shape (units,), optional
        When within a frame the unit is scanned (s).
    start_s : float
        Begin of the window after onset (s); 0.05 for the latency of V1.
    length_s : float or None
        Length of the window (s); None takes the duration of each trial.
    frame_span : {"centred", "before", "after"}
        The frame period that the activity of a frame stands for, relative to when the unit is
        scanned.

    Returns
    -------
    array, shape (trials, units), float32
        Sum of the activity in the window; NaN where the window leaves the recording or meets a
        gap in it.

    References
    ----------
    Fu et al. (2024) integrate a rectangle with exact edges (REFERENCE 2.14b).
    """
    activity, times, onset, delay = _check(activity, frame_times_s, onset_s, unit_delay_s)
    if frame_span not in _SPANS:
        raise ValueError(f"frame_span must be one of {sorted(_SPANS)}, got {frame_span!r}")
    length = np.asarray(duration_s if length_s is None else length_s, np.float64)
    if not (length > 0).all():
        raise ValueError(f"the window must have a length, got length_s={length_s}")
    edges, frame = _frame_edges(times, _SPANS[frame_span])
    begin = onset + start_s
    end = begin + length
    result = np.empty((len(onset), len(activity)), np.float32)
    known = frame >= 0
    width = np.diff(edges)
    for low in range(0, len(activity), _CHUNK):
        part = slice(low, low + _CHUNK)
        values = np.where(known, np.asarray(activity[part], np.float64)[:, frame], np.nan)
        missing = np.isnan(values)
        cumulated = _cumulate(np.where(missing, 0.0, values))
        absent = _cumulate(missing * width) if missing.any() else None
        for row, d in enumerate(delay[part]):
            a, b = begin - d, end - d
            total = np.interp(b, edges, cumulated[row]) - np.interp(a, edges, cumulated[row])
            bad = (a < edges[0] - 1e-9) | (b > edges[-1] + 1e-9)
            if absent is not None:
                lost = np.interp(b, edges, absent[row]) - np.interp(a, edges, absent[row])
                bad |= lost > 1e-9
            result[:, low + row] = np.where(bad, np.nan, total)
    return result


def _cumulate(values: NDArray) -> NDArray:
    return np.concatenate([np.zeros((len(values), 1)), np.cumsum(values, axis=1)], axis=1)


@response_windows.register("hamming2019", revision=2)
def hamming2019(
    activity: NDArray[np.floating],
    frame_times_s: ArrayLike,
    onset_s: ArrayLike,
    duration_s: ArrayLike | None = None,
    unit_delay_s: ArrayLike | None = None,
    *,
    offset_s: float = 0.05,
    length_s: float = 0.5,
) -> NDArray[np.float32]:
    """Sample activity at the middle of the window after a Hamming low-pass, as published.

    The filter has ``2 floor(length / dt) + 1`` taps of unit sum; the filtered trace is interpolated
    linearly at ``onset + offset + length / 2``.

    Parameters
    ----------
    activity, frame_times_s, onset_s, duration_s, unit_delay_s
        As for `boxcar`; the duration is not used.
    offset_s, length_s : float
        Nominal window (s); the filter itself is twice as long, so it leaks into the blank and the
        neighboring images.

    Returns
    -------
    array, shape (trials, units), float32
        Filtered activity (a.u. per frame); NaN where the filter leaves the recording, or meets a
        gap in it or a frame whose activity is not known.

    References
    ----------
    Walker et al. (2019), doi:10.1038/s41593-019-0517-x; REFERENCE 1.4.
    """
    activity, times, onset, delay = _check(activity, frame_times_s, onset_s, unit_delay_s)
    period = float(np.median(np.diff(times)))
    half = int(np.floor(length_s / period + 1e-9))
    taps = np.hamming(2 * half + 1)
    taps /= taps.sum()
    sample = onset + offset_s + length_s / 2
    result = np.full((len(onset), len(activity)), np.nan, np.float32)
    low_time, high_time = times[half], times[len(times) - 1 - half]
    gaps = np.flatnonzero(np.diff(times) > 1.5 * period)  # after these frames some are missing
    cut = np.zeros(len(times), bool)
    for gap in gaps:
        cut[max(0, gap + 1 - max(half, 1)) : gap + 1 + max(half, 1)] = True
    for low in range(0, len(activity), _CHUNK):
        part = np.asarray(activity[low : low + _CHUNK], np.float64)
        filtered = convolve1d(part, taps, axis=1, mode="nearest")
        filtered[:, cut] = np.nan
        for row, d in enumerate(delay[low : low + _CHUNK]):
            at = sample - d
            inside = (at >= low_time - 1e-9) & (at <= high_time + 1e-9)
            result[inside, low + row] = np.interp(at[inside], times, filtered[row])
    return result


def leak(name: str, *, fps: float, phase: float = 0.0, **params: object) -> dict[str, float]:
    """Return where the weight of a response window lies.

    Parameters
    ----------
    name : str
        A registered response window.
    fps : float
        Frame rate (Hz).
    phase : float
        Onset after the start of a frame (frames).
    **params
        Parameters of the window.

    Returns
    -------
    dict
        Shares of the summed weight: `before_onset`, `window` (50-550 ms) and `after` (beyond
        550 ms), of frames by their start.
    """
    half = int(np.ceil(2 * fps))
    times = (np.arange(2 * half + 1) - half) / fps
    weights = response_windows[name](
        np.eye(len(times)), times, np.array([phase / fps]), np.array([0.5]), None, **params
    )[0].astype(np.float64)
    weights /= weights.sum()
    since = times - phase / fps
    inside = (since >= 0.05 - 1e-9) & (since <= 0.55 + 1e-9)
    return {
        "before_onset": float(weights[since < -1e-9].sum()),
        "window": float(weights[inside].sum()),
        "after": float(weights[since > 0.55 + 1e-9].sum()),
    }
