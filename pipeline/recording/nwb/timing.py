"""Times of samples as NWB has them: a rate where they are even, else time stamps."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError

DECIMALS = 9  # intervals that agree to nanoseconds are one rate, as nwbinspector has it


def timing(times: NDArray[np.float64]) -> dict[str, Any]:
    """Return `rate` and `starting_time`, or `timestamps`, of a time series.

    Parameters
    ----------
    times : array, shape (samples,)
        Rising times (s).
    """
    times = np.asarray(times, np.float64)
    if len(times) > 2 and len(np.unique(np.diff(times).round(DECIMALS))) == 1:
        rate = (len(times) - 1) / float(times[-1] - times[0])
        return {"rate": rate, "starting_time": float(times[0])}
    return {"timestamps": times}


def checked_times(times: NDArray | None, samples: int, where: dict[str, Any]) -> NDArray:
    """Return the times of a series that was read (s).

    Raises
    ------
    DataError
        If there are none, not as many as samples, or they do not rise.
    """
    if times is None:
        raise DataError(
            "series has no times", **where, expected="timestamps, or starting_time with a rate"
        )
    times = np.asarray(times, np.float64)
    if times.shape != (samples,):
        raise DataError(
            "times do not fit the samples", **where, found=times.shape, expected=(samples,)
        )
    bad = ~np.isfinite(times)
    bad[1:] |= ~(np.diff(times) > 0)
    if bad.any():
        raise DataError(
            "times do not increase",
            **where,
            found=f"{times[np.argmax(bad)]:g} s at sample {int(np.argmax(bad))}",
            expected="finite, rising times (s)",
        )
    return times
