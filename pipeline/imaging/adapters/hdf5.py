"""Opening HDF5 files of others with one clear error, and what NWB files share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.errors import DataError

if TYPE_CHECKING:
    import h5py

METERS = {"meters": 1e6, "meter": 1e6, "m": 1e6, "micrometers": 1.0, "micrometer": 1.0,
          "microns": 1.0, "um": 1.0, "millimeters": 1e3, "mm": 1e3}  # fmt: skip


def open_hdf5(path: str | os.PathLike) -> h5py.File:
    """Open a file for reading.

    Raises
    ------
    DataError
        If h5py is not installed, or the file is not HDF5.
    """
    path = Path(path)
    try:
        import h5py
    except ImportError as error:
        raise DataError("h5py is not installed", file=path,
                        remedy="pip install 'inception-loop[nwb]'") from error  # fmt: skip
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise DataError("is no readable HDF5 file", file=path, found=error) from error


def of_type(file: h5py.File, kind: str) -> list[h5py.Group]:
    """Return the groups of an NWB file whose neurodata type is `kind`, by path."""
    import h5py

    found = {}

    def look(name: str, item: object) -> None:
        if isinstance(item, h5py.Group) and text(item.attrs.get("neurodata_type")) == kind:
            found[name] = item

    file.visititems(look)
    return [found[name] for name in sorted(found)]


def text(value: object) -> str:
    """Return bytes or a string as a string; "" for None."""
    if value is None:
        return ""
    return value.decode() if isinstance(value, bytes) else str(value)


def rate_of(series: h5py.Group) -> float | None:
    """Return the sampling rate of an NWB time series (Hz), None if it does not say."""
    if "starting_time" in series:
        return float(series["starting_time"].attrs.get("rate", np.nan))
    if "timestamps" in series and len(series["timestamps"]) > 1:
        return float(1 / np.median(np.diff(series["timestamps"][:])))
    return None


def times_of(series: h5py.Group, frames: int) -> np.ndarray | None:
    """Return the time of every sample of an NWB time series (s), None if it does not say."""
    if "timestamps" in series:
        return np.asarray(series["timestamps"][:], np.float64)
    rate = rate_of(series)
    if rate is None or not rate > 0:
        return None
    return float(series["starting_time"][()]) + np.arange(frames) / rate


def spacing_of(plane: h5py.Group | None) -> tuple[float, float] | None:
    """Return the size of a pixel (y, x; um) of an NWB ImagingPlane, None if it does not say."""
    if plane is None or "grid_spacing" not in plane:
        return None
    spacing = plane["grid_spacing"]
    scale = METERS.get(text(spacing.attrs.get("unit")).lower() or "meters")
    values = np.asarray(spacing[:], np.float64)
    if scale is None or len(values) < 2 or not (values[:2] > 0).all():
        return None
    return float(values[1] * scale), float(values[0] * scale)  # NWB says x, y
