"""Clocks of the rig's devices brought onto one, and samples brought onto another time base."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.errors import DataError


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
            If there is no pair, the lengths differ, a time is not finite, or a clock does not
            increase from pair to pair.

        Notes
        -----
        Least squares repeated without pairs further off than 5 robust standard deviations,
        starting from the median of slopes over half of the recording (Theil 1950), which up to
        29 % of wrong pairs cannot move.
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
