"""Movies in zarr arrays (extra `zarr`)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import DataError

from .base import Adapter, SourceMovie, SourceScan, adapters, checked_rate, checked_scale

CODECS = {  # that turn bytes into numbers; others exist that run what is in a chunk (pickle)
    "blosc",
    "bz2",
    "crc32",
    "crc32c",
    "adler32",
    "delta",
    "fixedscaleoffset",
    "gzip",
    "jenkins",
    "lz4",
    "lzma",
    "packbits",
    "quantize",
    "shuffle",
    "zfpy",
    "zlib",
    "zstd",
    "bytes",
    "endian",
    "sharding_indexed",
    "transpose",
}
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

    Examples
    --------
    >>> open_zarr("nowhere.zarr")
    Traceback (most recent call last):
    pipeline.errors.DataError: nowhere.zarr: ...
    """
    path = Path(path)
    try:
        import zarr
    except ImportError as error:
        raise DataError(
            "zarr is not installed", file=path, remedy="pip install 'inception-loop[zarr]'"
        ) from error
    try:
        opened: Any = zarr.open(str(path), mode="r")
    except Exception as error:  # zarr raises its own errors, KeyError and ValueError
        raise DataError("is no readable zarr", file=path, found=error) from error
    said = dict(opened.attrs)
    array = opened
    if not hasattr(opened, "shape"):
        found = {name: item for name, item in opened.arrays() if item.ndim == 3}
        if len(found) != 1:
            raise DataError(
                "group holds not exactly one movie",
                file=path,
                found=sorted(found),
                expected="one array (frames, H, W); give its folder",
            )
        ((_, array),) = found.items()
        said |= dict(array.attrs)
    if array.ndim != 3 or np.dtype(array.dtype).kind not in "uif":
        raise DataError(
            "is no movie",
            file=path,
            found=f"{array.shape} {array.dtype}",
            expected="numbers of shape (frames, H, W)",
        )
    strange = sorted(_codecs(array.metadata.to_dict()) - CODECS)
    if strange:
        raise DataError(
            "is packed in a way that is not read",
            file=path,
            found=ascii(strange)[:200],
            expected="zstd, blosc, gzip and the like",
            remedy="write the array again with one of them, where you trust it",
        )
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


def _codecs(said: object) -> set[str]:
    """Return the names of all codecs in the metadata of an array, also of those within others."""
    if isinstance(said, list | tuple):
        return set().union(*map(_codecs, said))
    if not isinstance(said, dict):
        return set() if said is None or isinstance(said, str | int | float) else {str(type(said))}
    parts = [
        said.get(key)
        for key in ("codecs", "index_codecs", "filters", "compressor", "configuration")
    ]
    names = {str(said[key]).removeprefix("numcodecs.") for key in ("id", "name") if key in said}
    return names.union(*map(_codecs, parts))


adapters.append(Adapter("zarr", is_zarr, open_zarr))
