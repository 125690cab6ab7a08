"""The streams of a recording: which there are, their clocks, and a pupil tracked elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.behavior.clocks import ClockMap
from pipeline.behavior.counters import single_rows, wrap_of
from pipeline.csvfile import read_columns, read_text_columns
from pipeline.errors import DataError

Columns = dict[str, np.ndarray]
STREAMS = {
    "frames": ("frames", "frame", "frame_times", "imaging", "scan"),
    "trials": ("trials", "trial", "stimulus", "monitor"),
    "eye": ("eye", "eye_times", "pupil"),
    "treadmill": ("treadmill", "running", "wheel"),
}
"""Names under which clocks.csv may list each stream."""


def clock_of(pairs: dict[str, list[list[float]]], stream: str) -> ClockMap:
    """Return the clock of a stream of `read_clocks`: the rig's own if there are no pairs of it."""
    found = np.array(pairs.get(stream, []), np.float64).reshape(-1, 2)
    return ClockMap.fit(*found.T) if len(found) else ClockMap(0.0, 0.0, 1.0)


def read_clocks(path: str | Path) -> dict[str, list[list[float]]]:
    """Return stream -> list of (stream time, rig time), both in s, sorted by rig time.

    So a clock that was restarted goes back in its own time, and is not hidden by the order.

    Raises
    ------
    DataError
        If the file names a stream that is not known.
    """
    names = {alias: stream for stream, aliases in STREAMS.items() for alias in aliases}
    streams = read_text_columns(path, ["stream"])["stream"]
    numbers = read_columns(path, ["stream_time_s", "rig_time_s"], at_least=1)
    pairs: dict[str, list[list[float]]] = {}
    for stream, a, b in zip(streams, numbers["stream_time_s"], numbers["rig_time_s"], strict=True):
        if stream.lower() == "rig":  # the rig's own clock, said for completeness
            continue
        if stream.lower() not in names:
            raise DataError(
                "unknown stream",
                file=path,
                field="stream",
                found=stream,
                expected=f"one of {sorted(STREAMS)}",
            )
        pairs.setdefault(names[stream.lower()], []).append([float(a), float(b)])
    return {stream: sorted(values, key=lambda pair: pair[1]) for stream, values in pairs.items()}


def read_times(path: str | Path, values: Sequence[str], nan: Sequence[str] = ()) -> Columns:
    """Return `time_s`, which rises, and other columns of numbers.

    Raises
    ------
    DataError
        If the file cannot be read or its time goes back; the message says which counter it looks
        like.
    """
    names = ["time_s", *values]
    try:
        columns = read_columns(path, names, rising="time_s", nan=nan)
        like = wrap_of(columns["time_s"])
    except DataError:
        columns = read_columns(path, names, nan=nan)  # raises again, unless times go back
        if not (like := wrap_of(columns["time_s"])):
            raise
    if like:
        raise DataError(
            "times are no seconds",
            file=path,
            field="time_s",
            found=f"{columns['time_s'].min():.10g} to {columns['time_s'].max():.10g}; they look "
            f"like {like}",
            expected="rising seconds on the rig's clock",
            remedy="convert them first, see docs/how-to/my-rig-writes.md",
        )
    return columns


def read_pupil(path: str | Path) -> dict[str, np.ndarray]:
    """Return the columns of pupil.csv: time_s, center_x_px, center_y_px, radius_px."""
    values = ["center_x_px", "center_y_px", "radius_px"]
    return read_times(path, values, nan=values)


def read_treadmill(path: str | Path) -> dict[str, np.ndarray]:
    """Return the columns of treadmill.csv: time_s, counts; of rows that share a time, the last.

    Raises
    ------
    DataError
        If the file cannot be read, or its time goes back.
    """
    columns = read_columns(path, ["time_s", "counts"])
    try:
        time, counts = single_rows(columns["time_s"], columns["counts"])
    except DataError as error:
        raise DataError(str(error), file=path) from None
    return {"time_s": time, "counts": counts}


def read_running(path: str | Path) -> dict[str, np.ndarray]:
    """Return the columns of running.csv: time_s, speed_cm_s (NaN in gaps)."""
    return read_times(path, ["speed_cm_s"], nan=["speed_cm_s"])
