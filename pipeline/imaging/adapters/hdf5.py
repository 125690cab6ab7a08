"""Opening HDF5 files of others with one clear error, and what NWB files share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.errors import DataError
from pipeline.npy import check_regular, most_bytes

if TYPE_CHECKING:
    import h5py

METERS = {
    "meters": 1e6,
    "meter": 1e6,
    "m": 1e6,
    "micrometers": 1.0,
    "micrometer": 1.0,
    "microns": 1.0,
    "um": 1.0,
    "millimeters": 1e3,
    "mm": 1e3,
}


def open_hdf5(path: str | os.PathLike, *, remedy: str | None = None) -> h5py.File:
    """Open a file for reading.

    Parameters
    ----------
    path : path
    remedy : str, optional
        For the message, if the file is damaged or no HDF5.

    Raises
    ------
    DataError
        If h5py is not installed, the path is no regular file, the file is not HDF5, or any of its
        data lie in other files: HDF5 would read there whatever the account may read.
    """
    path = Path(path)
    try:
        import h5py
    except ImportError as error:
        raise DataError(
            "h5py is not installed", file=path, remedy="pip install 'inception-loop[nwb]'"
        ) from error
    file = None
    try:
        check_regular(path)
        file = h5py.File(path, "r")
        _check_within(file, path)
    except DataError:
        if file is not None:
            file.close()
        raise
    except (OSError, RuntimeError, KeyError, ValueError) as error:  # of damaged files
        raise DataError(
            "is no readable HDF5 file", file=path, found=str(error)[:300], remedy=remedy
        ) from error
    return file


def _check_within(file: h5py.File, path: Path) -> None:
    """Refuse links to other files, and data sets that are stored in or made of them."""
    import h5py

    def elsewhere(name: str, link: object) -> tuple[str, object] | None:
        if isinstance(link, h5py.ExternalLink):
            return name, link.filename
        item = file[name] if isinstance(link, h5py.HardLink) else None
        if not isinstance(item, h5py.Dataset):
            return None
        files = [place[0] for place in item.external or ()]
        if item.is_virtual:
            files += [one.file_name for one in item.virtual_sources() if one.file_name != "."]
        return (name, files[0]) if files else None

    found = file.visititems_links(elsewhere)  # ends at the first that is returned
    if found is not None:
        raise DataError(
            "data lie in another file",
            file=path,
            field=found[0][:200],
            found=ascii(str(found[1])[:200]),
            expected="data in the file itself",
            remedy="copy them into one file, for example with h5repack",
        )


def whole(dataset: h5py.Dataset) -> np.ndarray:
    """Read a data set that the file holds, however much it claims to be.

    Raises
    ------
    DataError
        If it is far larger than the bytes that are stored of it.
    """
    most = most_bytes(dataset.id.get_storage_size())
    if dataset.dtype.itemsize * dataset.size > most:
        raise DataError(
            "is far larger than what is stored of it",
            field=dataset.name[:200],
            found=f"{dataset.shape} {dataset.dtype}",
            expected=f"at most {most} bytes",
        )
    return dataset[()]


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
