"""Pupil and running from an NWB file, in the units of a recording bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.imaging.adapters.hdf5 import of_type, text
from pipeline.imaging.adapters.nwb_tables import values
from pipeline.recording.nwb.session import COUNTS
from pipeline.recording.nwb.timing import exact, series_times

if TYPE_CHECKING:
    import h5py

TO_RADIUS = {
    "radius": lambda value: value,
    "diameter": lambda value: value / 2,
    "area": lambda value: np.sqrt(value / np.pi),
}
"""What the name of a series of a pupil says, and the way from there to a radius."""
SPEEDS = ("running_speed", "speed", "running", "velocity")
TO_CM_S = {"cm/s": 1.0, "cm/sec": 1.0, "m/s": 100.0, "meters/second": 100.0, "mm/s": 0.1}


def read_pupil(file: h5py.File, path: Path) -> NDArray[np.float64] | None:
    """Return time (s), x, y, radius and confidence, shape (samples, 5); None if there is no pupil.

    The center is NaN where the file has none of the same samples.

    Raises
    ------
    DataError
        If a pupil is there and it is no radius, diameter or area.
    """
    series = [
        item
        for group in of_type(file, "PupilTracking")
        for item in group.values()
        if "data" in item and "confidence" not in item.name.rsplit("/", 1)[-1]
    ]
    sizes = [(item, kind) for item in series for kind in TO_RADIUS if kind in _last(item).lower()]
    if not series:
        return None
    if not sizes:
        raise DataError(
            "size of the pupil is not understood",
            file=path,
            field=series[0].name,
            found=[_last(item) for item in series],
            expected=f"a series whose name has one of {sorted(TO_RADIUS)}",
        )
    item, kind = sizes[0]
    value, time = _samples(item, path, "pupil")
    radius = TO_RADIUS[kind](value * float(item["data"].attrs.get("conversion", 1.0)))
    center = np.full((len(time), 2), np.nan)
    for group in of_type(file, "EyeTracking"):
        for other in group.values():
            data = other.get("data")
            if data is not None and data.shape == (len(time), 2):
                center = np.asarray(values(data, path), np.float64)
    return np.column_stack([time, center, radius, np.isfinite(radius).astype(np.float64)])


def read_speed(file: h5py.File, path: Path) -> NDArray[np.float64] | None:
    """Return time (s) and running speed (cm/s), shape (samples, 2); None if there is none.

    Raises
    ------
    DataError
        If its unit is not known.
    """
    found = {_last(item): item for item in of_type(file, "TimeSeries")}
    name = next((name for name in SPEEDS if name in found), None)
    if name is None:
        return None
    data = found[name]["data"]
    unit = text(data.attrs.get("unit")).strip().lower()
    if unit not in TO_CM_S:
        raise DataError(
            "unit of the running speed is not known",
            file=path,
            field=data.name,
            found=repr(unit),
            expected=f"one of {sorted(TO_CM_S)}",
        )
    value, time = _samples(found[name], path, "speed")
    scale = round(float(data.attrs.get("conversion", 1.0)) * TO_CM_S[unit], 6)  # a float32
    return np.column_stack([time, value * scale])


def read_counts(file: h5py.File, path: Path) -> NDArray[np.float64] | None:
    """Return time (s) and reading of the treadmill's counter, as this program writes them."""
    item = file.get(f"acquisition/{COUNTS}")
    if item is None or "data" not in item:
        return None
    value, time = _samples(item, path, "counts")
    return np.column_stack([time, value])


def _last(item: h5py.Group) -> str:
    return item.name.rsplit("/", 1)[-1]


def _samples(
    item: h5py.Group, path: Path, stream: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return values and times of a series of numbers."""
    data = item["data"]
    where = {"file": path, "field": item.name}
    if data.ndim != 1 or data.dtype.kind not in "biuf":
        raise DataError(
            "is no series of numbers",
            **where,
            found=f"{data.shape} {data.dtype}",
            expected="one number a sample",
        )
    value = np.asarray(values(data, path), np.float64)
    times = series_times(item, len(value), path)
    return value, exact(item.file, stream, times, path)
