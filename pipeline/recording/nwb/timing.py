"""Times of samples as NWB has them: a rate where they are even, else time stamps.

Times that are even to a nanosecond must be a rate by NWB's best practices. What lies on the edge of
a window by its last bit would then change sides, so the times themselves are kept in a table where
a rate does not give them back.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.imaging.adapters.hdf5 import times_of
from pipeline.imaging.adapters.nwb_tables import check_claim, find_table
from pipeline.recording.nwb.session import Column, Table

if TYPE_CHECKING:
    import h5py

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


def exact_times(stream: str, times: NDArray[np.float64]) -> Table:
    """Return a table of the times of a stream, empty where `timing` gives them back as they are."""
    found = timing(times)
    kept = times
    if "timestamps" in found or np.array_equal(times, even(len(times), found)):
        kept = times[:0]
    meaning = f"Times of the stream {stream!r} to the last bit: its rate gives them to 1 ns."
    return Table(f"times_{stream}", meaning, {"time_s": Column("Time (s)", kept)})


def even(samples: int, found: dict[str, Any]) -> NDArray[np.float64]:
    """Return times at a rate, as a reader makes them."""
    return found["starting_time"] + np.arange(samples) / found["rate"]


def exact(file: h5py.File, stream: str, times: NDArray, path: Path) -> NDArray[np.float64]:
    """Return the times that `exact_times` kept of a stream, or else those given."""
    table = find_table(file, f"times_{stream}", path)
    if table is None or len(table.get("time_s", [])) != len(times):
        return times
    kept = np.asarray(table["time_s"], np.float64)
    return kept if np.allclose(kept, times, rtol=0, atol=1e-6) else times


def series_times(item: h5py.Group, samples: int, path: Path) -> NDArray[np.float64]:
    """Return the times of the samples of a series that was read (s).

    Raises
    ------
    DataError
        If there are none, not as many as samples, or they do not rise.
    """
    where = {"file": path, "field": item.name}
    if "timestamps" in item:
        check_claim(item["timestamps"], path)
        if item["timestamps"].shape != (samples,):
            raise DataError(
                "times do not fit the samples",
                **where,
                found=item["timestamps"].shape,
                expected=(samples,),
            )
    times = times_of(item, samples)
    if times is None:
        raise DataError(
            "series has no times", **where, expected="timestamps, or starting_time with a rate"
        )
    return rising(times, where)


def rising(times: NDArray, where: dict[str, Any]) -> NDArray[np.float64]:
    """Return times, or raise DataError if they do not rise."""
    times = np.asarray(times, np.float64)
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
