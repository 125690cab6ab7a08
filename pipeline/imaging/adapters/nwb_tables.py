"""Tables of an NWB file, read without pynwb: any version of the format, and nothing is executed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import DataError
from pipeline.npy import FREE_BYTES, MOST_RATIO, most_bytes

from .hdf5 import text

if TYPE_CHECKING:
    import h5py

FIELDS = "imaging_fields"  # table of what ImagingPlane has no place for
MOST_ROWS = 10_000_000


def check_claim(data: h5py.Dataset, path: Path) -> None:
    """Raise DataError if an array claims far more than is stored of it: a few bytes can claim all.

    Raises
    ------
    DataError
        If it has more than `FREE_BYTES` and `MOST_RATIO` times the bytes in the file.
    """
    claimed, stored = math.prod(data.shape) * data.dtype.itemsize, data.id.get_storage_size()
    if claimed > most_bytes(stored):
        raise DataError(
            "array claims more than the file holds",
            file=path,
            field=data.name,
            found=f"{data.shape} {data.dtype} in {stored} bytes",
            expected=f"at most {FREE_BYTES} bytes, or {MOST_RATIO} times those stored",
        )


def values(data: h5py.Dataset, path: Path) -> Any:
    """Return all of an array that claims no more than it holds."""
    check_claim(data, path)
    return data[()]


def read_table(group: h5py.Group, path: Path) -> dict[str, Any]:
    """Return the plain columns of a DynamicTable: lists of text, or arrays of numbers.

    Columns of lists (those with an index) and references are left out.

    Raises
    ------
    DataError
        If columns differ in length, or there are more than `MOST_ROWS` rows.
    """
    import h5py

    names = [text(name) for name in np.atleast_1d(group.attrs.get("colnames", []))]
    found: dict[str, Any] = {}
    for name in names:
        data = group.get(name)
        if not isinstance(data, h5py.Dataset) or f"{name}_index" in group or data.ndim < 1:
            continue
        if data.shape[0] > MOST_ROWS:
            raise DataError(
                "table is too long",
                file=path,
                field=data.name,
                found=data.shape[0],
                expected=f"at most {MOST_ROWS} rows",
            )
        if h5py.check_string_dtype(data.dtype) is not None:
            found[name] = [text(value) for value in values(data, path).reshape(-1)]
        elif data.dtype.kind in "biuf" and data.ndim == 1:
            found[name] = values(data, path)
        elif h5py.check_enum_dtype(data.dtype) is not None:
            found[name] = values(data, path).astype(bool)
    lengths = {name: len(values) for name, values in found.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(
            "columns differ in length", file=path, field=group.name, found=str(lengths)[:200]
        )
    return found


def find_table(file: h5py.File, name: str, path: Path) -> dict[str, Any] | None:
    """Return the table of that name in any processing module, None if there is none."""
    for module in file.get("processing", {}).values():
        if name in module:
            return read_table(module[name], path)
    return None
