"""Folders that suite2p has written."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.imaging.segmentation.masks import PixelStack
from pipeline.npy import read_npy

from .base import ImportedScan, assemble, check_size, even_times, importers
from .pickle_values import as_numbers
from .unpickle import load_pickled_dict, load_pickled_npy


@importers.register("suite2p")
def suite2p(
    folder: str | os.PathLike,
    *,
    plane: str | None = None,
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
        `plane0` and the like, or a `suite2p` folder of them.
    plane : str, optional
        Name of the folder within, where there are several.
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
    folder = _plane(Path(folder), plane)
    raw, neuropil = _array(folder / "F.npy"), _array(folder / "Fneu.npy")
    if raw.shape != neuropil.shape or raw.ndim != 2:
        raise DataError("F and Fneu differ in size", file=folder, found=(raw.shape, neuropil.shape))
    stat = load_pickled_npy(folder / "stat.npy")
    ops = load_pickled_dict(folder / "ops.npy") if (folder / "ops.npy").exists() else {}
    size = (height_px or _number(ops, "Ly", folder), width_px or _number(ops, "Lx", folder))
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


def _plane(folder: Path, plane: str | None) -> Path:
    if plane is None and (folder / "F.npy").exists():
        return folder
    planes = {path.parent.name: path.parent for path in sorted(folder.glob("*/F.npy"))}
    names = [plane] if plane is not None else [n for n in planes if n.startswith("plane")]
    if len(names) != 1 or names[0] not in planes:
        raise DataError(
            "holds not exactly one plane",
            file=folder,
            field=plane,
            found=list(planes),
            expected="F.npy",
            remedy="give the folder of one plane, or plane",
        )
    return planes[names[0]]


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
    path: Path, stat: NDArray, units: int, size: tuple[float | None, float | None]
) -> PixelStack:
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
    counts = [len(y) for y, _, _ in places]
    y, x, lam = (np.concatenate([place[axis] for place in places]) for axis in range(3))
    owner = np.repeat(np.arange(units), counts)
    height, width = (
        given or np.max(values, initial=0) + 1 for given, values in zip(size, (y, x), strict=True)
    )
    height, width = check_size(path, height, width)
    outside = np.flatnonzero((y < 0) | (y >= height) | (x < 0) | (x >= width))
    if len(outside):
        raise DataError(
            "pixel lies outside of the field",
            file=path,
            field=f"unit {owner[outside[0]]}",
            expected=f"within {height} x {width}",
        )
    lam = np.maximum(np.nan_to_num(lam), 1e-9)  # a pixel without weight is in the mask, too
    return PixelStack.from_points(owner, y.astype(int), x.astype(int), lam, (units, height, width))
