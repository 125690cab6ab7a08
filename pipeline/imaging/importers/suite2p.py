"""Folders that suite2p has written."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.npy import read_npy

from .base import ImportedScan, assemble, even_times, importers
from .pickle_values import as_numbers
from .unpickle import load_pickled_dict, load_pickled_npy

MAX_PIXELS = 1 << 28  # of all masks together, and as many more as the file has space to list:
PIXELS_PER_BYTE = 1000  # of stat.npy; 10,000 units of 100 pixels in 512 x 512 have 110


@importers.register("suite2p")
def suite2p(
    folder: str | os.PathLike,
    *,
    fps: float | None = None,
    um_per_px: tuple[float, float] | None = None,
    neuropil_coefficient: float = 0.7,
    height_px: int | None = None,
    width_px: int | None = None,
) -> ImportedScan:
    """Read a plane: `F.npy`, `Fneu.npy`, `stat.npy` and, if there, `spks`, `iscell` and `ops`.

    Parameters
    ----------
    folder : path
        `plane0` and the like, or a `suite2p` folder with one plane.
    fps, height_px, width_px : optional
        Where `ops.npy` is missing; the size is otherwise that of the masks.
    um_per_px : tuple (y, x), optional
        suite2p does not keep it.
    neuropil_coefficient : float
        Share of `Fneu` (less its median) that is subtracted from `F`.

    Returns
    -------
    ImportedScan
        `keep` and `soma_probability` are the columns of `iscell`; `activity` is `spks`.

    Raises
    ------
    DataError
        If a file is missing, damaged, or does not fit the others.
    """
    folder = _plane(Path(folder))
    raw, neuropil = _array(folder / "F.npy"), _array(folder / "Fneu.npy")
    if raw.shape != neuropil.shape or raw.ndim != 2:
        raise DataError("F and Fneu differ in size", file=folder, found=(raw.shape, neuropil.shape))
    stat = load_pickled_npy(folder / "stat.npy")
    ops = load_pickled_dict(folder / "ops.npy") if (folder / "ops.npy").exists() else {}
    size = tuple(
        given or _number(ops, name, folder) for given, name in ((height_px, "Ly"), (width_px, "Lx"))
    )
    weights = _weights(folder / "stat.npy", stat, len(raw), size)
    iscell = _array(folder / "iscell.npy") if (folder / "iscell.npy").exists() else None
    if iscell is not None and iscell.shape != (len(raw), 2):
        raise DataError(
            "does not fit the traces",
            file=folder / "iscell.npy",
            found=iscell.shape,
            expected=(len(raw), 2),
        )
    spks = folder / "spks.npy"
    middle = np.median(neuropil, axis=1, keepdims=True)
    return assemble(
        folder,
        corrected=raw - neuropil_coefficient * (neuropil - middle),
        weights=weights,
        time_s=even_times(raw.shape[1], fps or _number(ops, "fs", folder), folder),
        mean_image=_image(ops, folder),
        keep=None if iscell is None else iscell[:, 0] > 0,
        soma_probability=None if iscell is None else iscell[:, 1],
        raw=raw,
        neuropil=neuropil,
        activity=_array(spks) if spks.exists() else None,
        um_per_px=um_per_px,
    )


def _plane(folder: Path) -> Path:
    if (folder / "F.npy").exists():
        return folder
    planes = sorted(path.parent for path in folder.glob("plane*/F.npy"))
    if len(planes) != 1:
        raise DataError(
            "holds not exactly one plane",
            file=folder,
            found=[plane.name for plane in planes],
            expected="F.npy",
            remedy="give the folder of one plane",
        )
    return planes[0]


def _number(ops: dict, name: str, folder: Path) -> float | None:
    """Return a positive number of the options; None where it is missing."""
    value = ops.get(name)
    if value is None:
        return None
    try:
        number = as_numbers(value)
    except ValueError as error:
        raise DataError("is no number", file=folder / "ops.npy", field=name, found=error) from error
    if number.size != 1 or not 0 < number.item() < 1e9:
        raise DataError("is no number above 0", file=folder / "ops.npy", field=name)
    return number.item()


def _image(ops: dict, folder: Path) -> NDArray | None:
    if ops.get("meanImg") is None:
        return None
    try:
        return as_numbers(ops["meanImg"])
    except ValueError as error:
        raise DataError(
            "is no image", file=folder / "ops.npy", field="meanImg", found=error
        ) from error


def _array(path: Path) -> NDArray:
    array = read_npy(path)
    if array.dtype.kind not in "fiu" or array.ndim != 2:
        raise DataError("is no matrix of numbers", file=path, found=f"{array.shape} {array.dtype}")
    return array


def _weights(
    path: Path, stat: NDArray, units: int, size: tuple[int | None, int | None]
) -> NDArray[np.float32]:
    if stat.shape != (units,) or not all(isinstance(one, dict) for one in stat):
        raise DataError(
            "does not fit the traces",
            file=path,
            found=stat.shape,
            expected=f"({units},) dictionaries",
        )
    try:
        places = [tuple(as_numbers(one[name]) for name in ("ypix", "xpix", "lam")) for one in stat]
    except (KeyError, ValueError) as error:
        raise DataError(
            "lacks what masks are made of",
            file=path,
            found=error,
            expected="ypix, xpix and lam of every unit",
        ) from error
    for unit, (y, x, weight) in enumerate(places):
        if not (y.shape == x.shape == weight.shape) or y.ndim != 1:
            raise DataError("pixels and weights differ in number", file=path, field=f"unit {unit}")
        if not (np.isfinite(y).all() and np.isfinite(x).all()):
            raise DataError(
                "pixel has no place", file=path, field=f"unit {unit}", found="not finite"
            )
    size = [
        int(given) if given else int(max(place[axis].max(initial=0) for place in places)) + 1
        for axis, given in enumerate(size)
    ]
    most = MAX_PIXELS + PIXELS_PER_BYTE * path.stat().st_size
    if units * size[0] * size[1] > most:
        raise DataError(
            "field is too large",
            file=path,
            found=f"{units} masks of {size[0]} x {size[1]}",
            expected=f"at most {most} pixels",
        )
    out = np.zeros((units, *size), np.float32)
    for unit, (y, x, weight) in enumerate(places):
        if y.size and not (y.min() >= 0 and y.max() < size[0] and 0 <= x.min() < size[1] > x.max()):
            raise DataError(
                "pixel lies outside of the field",
                file=path,
                field=f"unit {unit}",
                expected=f"within {size[0]} x {size[1]}",
            )
        out[unit, y.astype(int), x.astype(int)] = np.maximum(weight, 1e-9)
    return out
