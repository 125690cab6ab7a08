"""Movies in zarr arrays (extra `zarr`)."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from pipeline.errors import DataError

from .base import Adapter, SourceMovie, SourceScan, adapters, checked_rate, checked_scale

MARKS = (".zarray", ".zgroup", "zarr.json")


def is_zarr(path: Path) -> bool:
    """Return whether a folder is a zarr array or group."""
    return path.is_dir() and any((path / mark).is_file() for mark in MARKS)


def open_zarr(
    path: str | os.PathLike,
    *,
    fps: float | None = None,
    um_per_px: tuple[float, float] | None = None,
) -> SourceScan:
    """Open a zarr array (frames, H, W), or a group that holds exactly one.

    Parameters
    ----------
    path : path
        Folder of the array or group. Its attributes may say `fps` (Hz), `um_per_px` (number or
        [y, x]) and `bidirectional`.
    fps, um_per_px : optional
        Override the attributes.

    Raises
    ------
    DataError
        If zarr is not installed, or the folder holds no such array.
    """
    path = Path(path)
    try:
        import zarr
    except ImportError as error:
        raise DataError("zarr is not installed", file=path,
                        remedy="pip install 'inception-loop[zarr]'") from error  # fmt: skip
    try:
        opened = zarr.open(str(path), mode="r")
    except Exception as error:  # zarr raises its own errors, KeyError and ValueError
        raise DataError("is no readable zarr", file=path, found=error) from error
    said = dict(opened.attrs)
    array = opened
    if not hasattr(opened, "shape"):
        found = {name: item for name, item in opened.arrays() if item.ndim == 3}
        if len(found) != 1:
            raise DataError("group holds not exactly one movie", file=path, found=sorted(found),
                            expected="one array (frames, H, W); give its folder")  # fmt: skip
        ((_, array),) = found.items()
        said |= dict(array.attrs)
    if array.ndim != 3 or np.dtype(array.dtype).kind not in "uif":
        raise DataError("is no movie", file=path, found=f"{array.shape} {array.dtype}",
                        expected="numbers of shape (frames, H, W)")  # fmt: skip
    rate = checked_rate(fps or said.get("fps"), path, "give fps, or set the attribute fps (Hz)")
    movie = SourceMovie(
        lambda start, stop: array[start:stop],
        tuple(array.shape),
        rate,
        checked_scale(um_per_px or said.get("um_per_px"), path),
        bidirectional=bool(said.get("bidirectional", True)),
        file=path,
    )
    return SourceScan([movie], path)


adapters.append(Adapter("zarr", is_zarr, open_zarr))
