"""Counters of cameras and wheels as rigs write them, brought to seconds and to single rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.errors import DataError

CYCLES_PER_S, TICKS_PER_CYCLE, WRAP_S = 8000, 3072, 128


def camera_seconds(counter: ArrayLike) -> NDArray[np.float64]:
    """Return seconds of the 32-bit time stamps that FireWire and FLIR cameras put into frames.

    Parameters
    ----------
    counter : array of int, shape (frames,)
        7 bits of seconds (modulo 128), 13 bits of cycles of 1/8000 s, 12 bits of ticks of 1/3072
        cycle.

    Returns
    -------
    array, shape (frames,)
        Seconds from the first frame on, without wraps; fewer than 128 s may pass between frames.

    Raises
    ------
    DataError
        If a number has more than 32 bits, or its cycles are more than a second.

    Examples
    --------
    >>> second = 1 << 25
    >>> camera_seconds([126 * second, 127 * second, 0, second]).tolist()
    [0.0, 1.0, 2.0, 3.0]
    """
    raw = np.asarray(counter)
    if raw.ndim != 1 or raw.dtype.kind not in "iuf" or not np.isfinite(raw).all():
        raise DataError("camera's time stamps are not whole numbers", found=raw.dtype)
    if len(raw) == 0:
        return np.zeros(0)
    if raw.min() < 0 or raw.max() >= 1 << 32 or (raw != np.floor(raw)).any():
        raise DataError(
            "camera's time stamps do not fit into 32 bits",
            found=f"{raw.min()} to {raw.max()}",
        )
    bits = raw.astype(np.uint64)
    seconds, cycles, ticks = bits >> 25, (bits >> 12) & 0x1FFF, bits & 0xFFF
    if cycles.max() >= CYCLES_PER_S or ticks.max() >= TICKS_PER_CYCLE:
        raise DataError(
            "camera's time stamps are of another kind",
            found=f"cycle {cycles.max()}, tick {ticks.max()}",
            expected=f"below {CYCLES_PER_S} and {TICKS_PER_CYCLE}",
        )
    time = seconds + (cycles + ticks / TICKS_PER_CYCLE) / CYCLES_PER_S
    steps = np.mod(np.diff(time), WRAP_S)
    return np.concatenate([[0.0], np.cumsum(steps)])


def unwrapped(counter: ArrayLike, *, bits: int = 32) -> NDArray[np.float64]:
    """Return a clock's or encoder's counter without its wraps, from the first reading on.

    Parameters
    ----------
    counter : array, shape (samples,)
        Whole numbers below ``2**bits`` that rise, but for wraps: microseconds of a controller wrap
        after 71.6 minutes.
    bits : int

    Raises
    ------
    DataError
        If a number does not fit.

    Examples
    --------
    >>> unwrapped([4294967290, 4, 14]).tolist()
    [4294967290.0, 4294967300.0, 4294967310.0]
    """
    raw = np.asarray(counter, np.float64)
    if raw.ndim != 1 or not np.isfinite(raw).all():
        raise DataError("counter is no list of numbers", found=raw.shape)
    if len(raw) and (raw.min() < 0 or raw.max() >= 2.0**bits):
        raise DataError(f"counter does not fit into {bits} bits", found=f"{raw.min()}, {raw.max()}")
    wraps = np.cumsum(np.diff(raw, prepend=raw[:1]) < -(2.0 ** (bits - 1)))
    return raw + wraps * 2.0**bits


def wrap_of(time_s: ArrayLike) -> str:
    """Say which counter a time looks like that goes back, or that no clock of a rig has.

    Returns
    -------
    str
        Empty if it looks like none.

    Examples
    --------
    >>> wrap_of([4294.9, 0.1, 0.3])
    'microseconds of 32 bits that wrapped: pipeline.behavior.unwrapped'
    """
    time = np.asarray(time_s, np.float64)
    if len(time) < 2 or not np.isfinite(time).all():
        return ""
    whole = (time == np.floor(time)).all()
    if whole and time.min() >= 0 and 1 << 25 < time.max() < 1 << 32:
        bits = time.astype(np.uint64)
        if ((bits >> 12) & 0x1FFF).max() < CYCLES_PER_S and (bits & 0xFFF).max() < TICKS_PER_CYCLE:
            return "the 32-bit counter of a camera: pipeline.behavior.camera_seconds"
    back = -np.diff(time).min()
    units = {"microseconds": 1e-6, "milliseconds": 1e-3, "seconds": 1.0}
    for unit, scale in units.items():
        for bits_ in (16, 24, 32):
            size = 2.0**bits_ * scale
            if 0.9 * size < back <= size and time.max() < size and size > 1:
                return f"{unit} of {bits_} bits that wrapped: pipeline.behavior.unwrapped"
    return ""


def lost_frames(time_s: ArrayLike) -> NDArray[np.int64]:
    """Return how many frames are missing before every frame but the first, by their times.

    Parameters
    ----------
    time_s : array, shape (frames,)
        Rising times (s) of a camera that runs at one rate.

    Returns
    -------
    array, shape (frames - 1,)
        Intervals in units of the usual one, minus 1, rounded.

    Examples
    --------
    >>> lost_frames([0.0, 0.1, 0.2, 0.5, 0.6]).tolist()
    [0, 0, 2, 0]
    """
    gaps = np.diff(np.asarray(time_s, np.float64))
    if not len(gaps):
        return np.zeros(0, np.int64)
    usual = float(np.median(gaps))
    return np.maximum(0, np.rint(gaps / usual).astype(np.int64) - 1)


def single_rows(time_s: ArrayLike, *values: ArrayLike) -> tuple[NDArray[np.float64], ...]:
    """Return rows of distinct times: of those that share one, the last reading.

    A wheel that turns fast writes several rows into one millisecond.

    Raises
    ------
    DataError
        If time goes back: the clock was restarted.

    Examples
    --------
    >>> time, counts = single_rows([0.001, 0.002, 0.002], [7, 8, 9])
    >>> time.tolist(), counts.tolist()
    ([0.001, 0.002], [7.0, 9.0])
    """
    time = np.asarray(time_s, np.float64)
    back = np.flatnonzero(np.diff(time) < 0)
    if len(back):
        like = wrap_of(time)
        raise DataError(
            "time goes back",
            field="time_s",
            found=f"{time[back[0]]:.6g} s, then {time[back[0] + 1]:.6g} s"
            + (f"; it looks like {like}" if like else ""),
            expected="rising times: the clock was restarted there",
            remedy="send each part as a recording of its own, or bring all onto one clock",
        )
    last = np.append(np.diff(time) > 0, True)[: len(time)]
    return time[last], *(np.asarray(value, np.float64)[last] for value in values)
