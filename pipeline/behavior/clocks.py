"""Clocks of the rig's devices brought onto one, and samples brought onto another time base."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.errors import DataError

_SIDE = 3  # pairs that have to agree on either side of a step
_JUMPS = 8  # places at which a step is looked for
_LEAST_STEP_S = 2e-3


@dataclass(frozen=True)
class ClockMap:
    """Straight line from a stream's clock to the rig's, made by `ClockMap.fit`.

    Attributes
    ----------
    stream_zero_s, rig_zero_s : float
        A pair of times on the line.
    rate : float
        Seconds of the rig's clock per second of the stream's.
    residual_s : float
        Root mean square distance of the pairs used from the line (s of the rig's clock); 0 for one
        or two pairs, which a line meets exactly.
    residuals_s : array, shape (pairs,)
        Every pair's rig time minus the line's, the rejected ones' too.
    used : array of bool, shape (pairs,)
        False for pairs rejected as outliers.
    """

    stream_zero_s: float
    rig_zero_s: float
    rate: float
    residual_s: float = 0.0
    residuals_s: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    used: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))

    @classmethod
    def fit(cls, stream_time_s: ArrayLike, rig_time_s: ArrayLike) -> ClockMap:
        """Fit the line through pairs of times of the same events, rejecting outliers.

        Parameters
        ----------
        stream_time_s, rig_time_s : array, shape (pairs,)
            Times of the same events (s) on both clocks, in order. One pair fixes the offset (equal
            rates), two also the rate.

        Raises
        ------
        DataError
            If there is no pair, the lengths differ, a time is not finite, a clock does not
            increase from pair to pair (it was restarted), or it steps between two pairs.

        Notes
        -----
        Least squares repeated without pairs further off than 5 robust standard deviations,
        starting from the median of slopes over half of the recording (Theil 1950), which up to
        29 % of wrong pairs cannot move. Neighboring pairs that leave the line together and
        gradually are no outliers: the clock drifts, they stay in, and `residual_s` shows it. If two
        lines with a jump between them fit clearly more pairs than one does, the clock stepped.
        """
        stream = np.atleast_1d(np.asarray(stream_time_s, np.float64))
        rig = np.atleast_1d(np.asarray(rig_time_s, np.float64))
        if stream.shape != rig.shape or stream.ndim != 1 or len(stream) == 0:
            raise DataError(
                "clock pairs do not fit together",
                field="stream_time_s, rig_time_s",
                found=f"{stream.shape} and {rig.shape}",
                expected="two equally long lists with at least one time",
            )
        for name, times in (("stream_time_s", stream), ("rig_time_s", rig)):
            if not np.isfinite(times).all():
                raise DataError("a time is not a finite number", field=name)
            back = np.flatnonzero(np.diff(times) <= 0)
            if len(back):
                raise DataError(
                    "time does not increase",
                    field=name,
                    found=f"{times[back[0]]:.6f} s, then {times[back[0] + 1]:.6f} s",
                    remedy="remove repeated pairs and split where the clock was restarted",
                )
        # differences from the middle: rig clocks may count seconds since 1970
        zero_stream, zero_rig = float(np.median(stream)), float(np.median(rig))
        x, y = stream - zero_stream, rig - zero_rig
        if len(x) == 1:
            return cls(zero_stream, zero_rig, 1.0, 0.0, np.zeros(1), np.ones(1, bool))
        if (step := _step(x, y)) is not None:
            raise DataError(
                "clock steps",
                field="stream_time_s",
                found=f"{step[1]:+.4g} s between {stream[step[0] - 1]:.6g} and "
                f"{stream[step[0]]:.6g} s",
                expected="one straight line through all pairs",
                remedy="give times on one clock, or leave out the side with fewer pairs",
            )
        half = len(x) // 2
        rate = float(np.median((y[half:] - y[: len(y) - half]) / (x[half:] - x[: len(x) - half])))
        offset = float(np.median(y - rate * x))
        used = np.ones(len(x), bool)
        for _ in range(10):
            error = y - offset - rate * x
            spread = 1.4826 * float(np.median(np.abs(error - np.median(error))))
            keep = np.abs(error) <= max(5 * spread, 1e-9)
            if keep.sum() < 2:
                break
            rate, offset = (float(value) for value in np.polyfit(x[keep], y[keep], 1))
            if (keep == used).all():
                break
            used = keep
        error = y - offset - rate * x
        if (drifting := _drifting(error, used)).any():
            used = used | drifting
            rate, offset = (float(value) for value in np.polyfit(x[used], y[used], 1))
            error = y - offset - rate * x
        residual = float(np.sqrt(np.mean(error[used] ** 2))) if len(x) > 2 else 0.0
        return cls(zero_stream, zero_rig + offset, rate, residual, error, used)

    def to_rig(self, stream_time_s: ArrayLike) -> NDArray[np.float64]:
        """Return rig times (s) of times on the stream's clock, of the same shape."""
        stream = np.asarray(stream_time_s, np.float64)
        return self.rig_zero_s + self.rate * (stream - self.stream_zero_s)

    def to_stream(self, rig_time_s: ArrayLike) -> NDArray[np.float64]:
        """Return times on the stream's clock (s) of rig times, of the same shape."""
        rig = np.asarray(rig_time_s, np.float64)
        return self.stream_zero_s + (rig - self.rig_zero_s) / self.rate

    @property
    def offset_s(self) -> float:
        """Rig's minus stream's reading (s) at the middle of the pairs."""
        return self.rig_zero_s - self.stream_zero_s

    @property
    def drift_ppm(self) -> float:
        """Microseconds that the stream's clock gains on the rig's in a second."""
        return (1 / self.rate - 1) * 1e6


def _noise(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Return the standard deviation of pairs about the line through their neighbors (s)."""
    share = (x[1:-1] - x[:-2]) / (x[2:] - x[:-2])
    off = y[1:-1] - (y[:-2] + share * (y[2:] - y[:-2]))
    return 1.4826 * float(np.median(np.abs(off))) / np.sqrt(1.5)


def _step(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[int, float] | None:
    """Return the pair before which a clock jumped, and by how much (s); None if it did not.

    Left and right of a jump a line of the same rate meets clearly more pairs than one line does,
    and the jump lies between two neighbors: a clock that drifts leaves the line gradually.
    """
    if len(x) < 2 * _SIDE:
        return None
    near = max(5 * _noise(x, y), 1e-4)
    least = max(1.6 * near, _LEAST_STEP_S)
    flat = y - float(np.median(np.diff(y) / np.diff(x))) * x
    single = _met(x, y, near)
    best: tuple[int, float] | None = None
    most = single + max(_SIDE - 1, 0.05 * len(x))
    jumps = np.abs(np.diff(flat))
    for before in np.argsort(jumps)[::-1][:_JUMPS]:
        at = int(before) + 1
        if not _SIDE <= at <= len(x) - _SIDE:
            continue
        left, right = (_line(x[part], y[part]) for part in (slice(None, at), slice(at, None)))
        met = sum(
            int((np.abs(y[part] - line[1] - line[0] * x[part]) <= near).sum())
            for part, line in ((slice(None, at), left), (slice(at, None), right))
        )
        middle = (x[at - 1] + x[at]) / 2
        height = (right[1] + right[0] * middle) - (left[1] + left[0] * middle)
        sudden = jumps[before] > 0.5 * abs(height)
        if met > most and abs(height) > least and sudden:
            best, most = (at, height), met
    return best or _stepped_run(x, y, near, least)


def _stepped_run(
    x: NDArray[np.float64], y: NDArray[np.float64], near: float, least: float
) -> tuple[int, float] | None:
    """Return where neighboring pairs leave the line together, by one and the same jump."""
    rate, offset = _line(x, y)
    error = y - offset - rate * x
    keep = np.abs(error) <= near
    if keep.sum() >= 2:
        rate, offset = np.polyfit(x[keep], y[keep], 1)
        error = y - offset - rate * x
    edges = np.flatnonzero(np.diff(np.r_[False, np.abs(error) > near, False].astype(int)))
    for low, high in zip(edges[::2], edges[1::2], strict=True):
        height = float(np.median(error[low:high]))
        agree = np.abs(error[low:high] - height) <= near
        if high - low < _SIDE or abs(height) <= least or agree.mean() < 0.8:
            continue
        at = low if low > 0 else high
        jump = abs(error[at] - error[at - 1]) if 0 < at < len(x) else 0.0
        if jump > 0.5 * abs(height):
            return int(at), height if low > 0 else -height
    return None


def _line(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float]:
    """Return rate and offset of a robust line (Theil, over half of the pairs)."""
    half = len(x) // 2
    rate = float(np.median((y[half:] - y[: len(y) - half]) / (x[half:] - x[: len(x) - half])))
    return rate, float(np.median(y - rate * x))


def _met(x: NDArray[np.float64], y: NDArray[np.float64], near: float) -> int:
    rate, offset = _line(x, y)
    return int((np.abs(y - offset - rate * x) <= near).sum())


def _drifting(error: NDArray[np.float64], used: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which rejected pairs leave the line gradually, with their neighbors."""
    found = np.zeros(len(used), bool)
    edges = np.flatnonzero(np.diff(np.r_[False, ~used, False].astype(int)))
    for low, high in zip(edges[::2], edges[1::2], strict=True):
        if high - low < _SIDE:
            continue
        run = error[max(0, low - 1) : min(len(error), high + 1)]
        if np.abs(np.diff(run)).max() < 0.5 * np.abs(error[low:high]).max():
            found[low:high] = True
    return found


def resample(
    time_s: ArrayLike, values: ArrayLike, new_time_s: ArrayLike, max_gap_s: float
) -> NDArray[np.float64]:
    """Interpolate samples linearly; what lies in a gap stays NaN.

    Parameters
    ----------
    time_s : array, shape (samples,)
        Increasing times (s).
    values : array, shape (samples,) or (samples, columns)
        NaN where unknown.
    new_time_s : array, shape (times,)
        Where values are wanted, in any order.
    max_gap_s : float
        Two known samples further apart than this (s) are not interpolated between.

    Returns
    -------
    array, shape (times,) or (times, columns)
        NaN in gaps, and before the first and after the last known sample.

    Raises
    ------
    DataError
        If lengths differ or time does not increase.

    Examples
    --------
    >>> resample([0, 1, 2, 9], [0, 10, 20, 90], [0.5, 1.5, 5, 10], max_gap_s=2)
    array([ 5., 15., nan, nan])
    """
    time, value = np.asarray(time_s, np.float64), np.asarray(values, np.float64)
    wanted = np.asarray(new_time_s, np.float64)
    if time.ndim != 1 or value.ndim not in (1, 2) or len(time) != len(value):
        raise DataError("times and values differ in length", found=f"{time.shape}, {value.shape}")
    if np.any(np.diff(time) <= 0) or not np.isfinite(time).all():
        raise DataError("time does not increase", field="time_s")
    if value.ndim == 2:
        columns = [resample(time, column, wanted, max_gap_s) for column in value.T]
        return np.stack(columns, axis=1) if columns else np.zeros((len(wanted), 0))
    known = np.isfinite(value)
    time, value = time[known], value[known]
    if len(time) == 0:
        return np.full(wanted.shape, np.nan)
    right = np.searchsorted(time, wanted)
    after = np.clip(right, 0, len(time) - 1)
    before = np.clip(right - 1, 0, len(time) - 1)
    exact = (time[after] == wanted) | (time[before] == wanted)
    inside = (right > 0) & (right < len(time)) & (time[after] - time[before] <= max_gap_s)
    return np.where(exact | inside, np.interp(wanted, time, value), np.nan)
