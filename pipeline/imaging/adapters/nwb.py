"""Movies in NWB files: TwoPhotonSeries (extra `nwb`)."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.errors import DataError

from .base import Adapter, SourceMovie, SourceScan, adapters, checked_rate, checked_scale
from .hdf5 import of_type, open_hdf5, rate_of, spacing_of, text
from .nwb_tables import FIELDS, find_table


def open_nwb(
    path: str | os.PathLike,
    *,
    fps: float | None = None,
    um_per_px: tuple[float, float] | None = None,
    series: str | None = None,
    rows_first: bool = False,
) -> SourceScan:
    """Open the TwoPhotonSeries of an NWB file; frames are read when asked.

    Parameters
    ----------
    path : path
    fps, um_per_px : optional
        Override the file's rate and grid spacing.
    series : str, optional
        Name of one series; else all of them are fields of the scan.
    rows_first : bool
        Data are (frame, row, column). The standard says (frame, x, y), that is columns first.

    Returns
    -------
    SourceScan
        One field per series, or per plane of a series (frame, x, y, z).

    Raises
    ------
    DataError
        If the file is no NWB file, holds no such series, or its frames lie in other files.

    Examples
    --------
    >>> open_nwb("nowhere.nwb")
    Traceback (most recent call last):
    pipeline.errors.DataError: nowhere.nwb: ...
    """
    path = Path(path)
    file = open_hdf5(path)
    found = of_type(file, "TwoPhotonSeries")
    names = [item.name.rsplit("/", 1)[-1] for item in found]
    if series is not None:
        found = [item for item, name in zip(found, names, strict=True) if name == series]
    if not found:
        raise DataError(
            "holds no such TwoPhotonSeries",
            file=path,
            field=series,
            found=names or "none",
            expected="a movie",
        )
    movies = []
    for item in found:
        name = item.name
        if "external_file" in item:
            others = [text(value) for value in item["external_file"][:]]
            raise DataError(
                "frames lie in other files",
                file=path,
                field=name,
                found=others[:3],
                remedy="open those files",
            )
        data = item["data"]
        if data.ndim not in (3, 4) or data.dtype.kind not in "uif":
            raise DataError(
                "is no movie",
                file=path,
                field=name,
                found=f"{data.shape} {data.dtype}",
                expected="numbers (frame, x, y) or (frame, x, y, z)",
            )
        rate = checked_rate(fps or rate_of(item), path, "give fps (frames per second)")
        size = checked_scale(um_per_px or spacing_of(item.get("imaging_plane")), path)
        movies += [
            _plane(data, plane, rate, size, rows_first, path)
            for plane in range(data.shape[3] if data.ndim == 4 else 1)
        ]
    lengths = {movie.shape[0] for movie in movies}
    if len(lengths) > 1:
        raise DataError(
            "series differ in length",
            file=path,
            found=sorted(lengths),
            expected="one scan",
            remedy=f"choose a series of {names}",
        )
    scan = SourceScan(movies, path)
    _say_fields(scan, find_table(file, FIELDS, path), path, um_per_px)
    return scan


def _say_fields(
    scan: SourceScan, table: dict[str, Any] | None, path: Path, um_per_px: tuple | None
) -> None:
    """Take delays, places and directions of the fields from the table that an export wrote."""
    if table is None or len(table.get("field", [])) != scan.n_fields:
        return
    for index, field in enumerate(scan.fields):
        row = {name: values[index] for name, values in table.items()}
        found = (int(row["height_px"]), int(row["width_px"]))
        if found != (field.height_px, field.width_px):
            raise DataError(
                "table of the fields does not fit the movie",
                file=path,
                field=f"{FIELDS}, row {index}",
                found=found,
                expected=(field.height_px, field.width_px),
            )
        size = checked_scale(um_per_px or _pair(row, "um_per_px_y", "um_per_px_x"), path)
        both = bool(row["bidirectional"])
        scan.fields[index] = replace(
            field,
            um_per_px=size,
            x_um=_number(row, "x_um"),
            y_um=_number(row, "y_um"),
            z_um=_number(row, "z_um"),
            delay_s=float(row["delay_s"]),
            line_period_s=float(row["line_period_s"]),
            bidirectional=both,
        )
        scan.movie(index).um_per_px, scan.movie(index).bidirectional = size, both
    scan.bidirectional = bool(table["bidirectional"][0])


def _pair(row: dict[str, Any], *names: str) -> tuple[float, float] | None:
    first, second = (_number(row, name) for name in names)
    return None if first is None or second is None else (first, second)


def _number(row: dict[str, Any], name: str) -> float | None:
    """Return a number of a table, None where it is not known."""
    value = float(row.get(name, math.nan))
    return value if math.isfinite(value) else None


def _plane(data, plane: int, fps: float, um_per_px, rows_first: bool, path: Path) -> SourceMovie:
    def read(start: int, stop: int):
        frames = data[start:stop] if data.ndim == 3 else data[start:stop, :, :, plane]
        return frames if rows_first else frames.transpose(0, 2, 1)

    first, second = data.shape[1:3]
    size = (first, second) if rows_first else (second, first)
    shape = (data.shape[0], *size)
    return SourceMovie(read, shape, fps, um_per_px, bidirectional=True, file=path)


adapters.append(Adapter("nwb", lambda path: path.suffix.lower() == ".nwb", open_nwb))
