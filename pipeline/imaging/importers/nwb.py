"""Units in NWB files: PlaneSegmentation and RoiResponseSeries (extra `nwb`)."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.imaging.adapters.hdf5 import of_type, open_hdf5, spacing_of, times_of

from .base import ImportedScan, assemble, even_times, importers

ROLES = {
    "neuropil": ("neuropil", "fneu"),
    "activity": ("deconvolved", "spike", "event", "inferred"),
    "denoised": ("denoised",),
}


@importers.register("nwb")
def nwb(
    path: str | os.PathLike,
    *,
    plane: str | None = None,
    series: str | None = None,
    fps: float | None = None,
    um_per_px: tuple[float, float] | None = None,
    neuropil_coefficient: float = 0.7,
    rows_first: bool = False,
) -> ImportedScan:
    """Read the units of one PlaneSegmentation and their RoiResponseSeries.

    Parameters
    ----------
    path : path
    plane, series : str, optional
        Name of the PlaneSegmentation and of the series of fluorescence, where there are several.
    fps, um_per_px : optional
        Override the file's rate and grid spacing.
    neuropil_coefficient : float
        Share of a series of neuropil (less its median) that is subtracted; series of deconvolved
        activity are told by their names, too.
    rows_first : bool
        Masks are (row, column). The standard says (x, y), that is columns first.

    Raises
    ------
    DataError
        If the file holds no such units, several from which to choose, or parts that do not fit.
    """
    path = Path(path)
    with open_hdf5(path) as file:
        table = _one(of_type(file, "PlaneSegmentation"), plane, "PlaneSegmentation", path)
        found = {"fluorescence": [], **{role: [] for role in ROLES}}
        for item in of_type(file, "RoiResponseSeries"):
            if "rois" not in item or "data" not in item:
                continue
            target = item["rois"].attrs.get("table")
            if target is not None and file[target].name != table.name:
                continue
            found[_role(item)].append(item)
        chosen = _one(found["fluorescence"], series, "RoiResponseSeries", path)
        rows = chosen["rois"][:].astype(int)
        raw = _traces(chosen, len(rows), path)
        image = _image(file, table)
        weights = _weights(table, image, rows_first, path)
        if rows.size and (rows.min() < 0 or rows.max() >= len(weights)):
            raise DataError(
                "series names units that are not there",
                file=path,
                field=chosen.name,
                found=int(rows.max()),
                expected=f"below {len(weights)}",
            )
        others = {
            role: _aligned(found[role], rows, raw.shape, path) for role in ("neuropil", "activity")
        }
        time = even_times(raw.shape[1], fps, path) if fps else times_of(chosen, raw.shape[1])
        if time is None:
            time = even_times(raw.shape[1], None, path)
        size = um_per_px or spacing_of(table.get("imaging_plane"))
    corrected = raw
    if others["neuropil"] is not None:
        around = others["neuropil"]
        corrected = raw - neuropil_coefficient * (around - np.median(around, axis=1, keepdims=True))
    mean_image = None if image is None else (image if rows_first else image.T)
    fits = mean_image is not None and mean_image.shape == weights.shape[1:]
    return assemble(
        path,
        corrected=corrected,
        weights=weights[rows],
        time_s=time,
        mean_image=mean_image if fits else None,
        raw=raw,
        um_per_px=size,
        **others,
    )


def _one(items: list, name: str | None, kind: str, path: Path):
    names = [item.name for item in items]
    if name is not None:
        items = [i for i in items if name in (i.name.rsplit("/", 1)[-1], i.name)]
    if len(items) != 1:
        raise DataError(
            f"holds not exactly one such {kind}",
            file=path,
            field=name,
            found=names or "none",
            remedy="name one" if names else None,
        )
    return items[0]


def _role(item) -> str:
    """Return what a series holds, by its own name, else by that of its container."""
    parts = item.name.lower().split("/")
    for name in (parts[-1], parts[-2] if len(parts) > 1 else ""):
        for role, words in ROLES.items():
            if any(word in name for word in words):
                return role
    return "fluorescence"


def _traces(item, units: int, path: Path) -> NDArray[np.float32]:
    """Return the data of a series as (units, frames); the standard says (frames, units)."""
    data = np.asarray(item["data"][()], np.float32)
    if data.ndim == 1 and units == 1:
        data = data[:, None]
    if data.ndim != 2 or data.shape[1] != units:
        raise DataError(
            "series does not fit its units",
            file=path,
            field=item.name,
            found=data.shape,
            expected=f"(frames, {units})",
        )
    return data.T


def _aligned(items: list, rows: NDArray, shape: tuple, path: Path) -> NDArray | None:
    """Return the one series of the same units and frames, None if there is none."""
    for item in items:
        if np.array_equal(item["rois"][:], rows):
            data = _traces(item, len(rows), path)
            if data.shape == shape:
                return data
    return None


def _image(file, table) -> NDArray | None:
    """Return a mean image of the same plane, as it is stored."""
    for item in of_type(file, "GrayscaleImage"):
        if "mean" in item.name.rsplit("/", 1)[-1].lower():
            return np.asarray(item["data"][()]) if "data" in item else None
    if "processing" not in file:
        return None
    found = {}
    file["processing"].visititems(
        lambda name, item: found.setdefault(name, item) if hasattr(item, "shape") else None
    )
    for name in sorted(found):
        last = name.rsplit("/", 1)[-1].lower()
        if last in ("meanimg", "mean", "mean_image", "average") and found[name].ndim == 2:
            return np.asarray(found[name][()])
    return None


def _weights(table, image: NDArray | None, rows_first: bool, path: Path) -> NDArray[np.float32]:
    if "image_mask" in table:
        masks = np.asarray(table["image_mask"][()], np.float32)
        if masks.ndim != 3:
            raise DataError(
                "masks are not of a plane",
                file=path,
                field=f"{table.name}/image_mask",
                found=masks.shape,
                expected="(units, x, y)",
            )
        return masks if rows_first else masks.transpose(0, 2, 1)
    if "pixel_mask" not in table or "pixel_mask_index" not in table:
        raise DataError(
            "holds no masks of a plane",
            file=path,
            field=table.name,
            found=sorted(table),
            expected="image_mask or pixel_mask",
        )
    ends = table["pixel_mask_index"][:].astype(int)
    pixels = table["pixel_mask"][()]
    first, second = (pixels[name].astype(int) for name in ("x", "y"))
    x, y = (second, first) if rows_first else (first, second)
    if (len(ends) and (np.any(np.diff(ends) < 0) or ends[-1] > len(pixels))) or x.min() < 0:
        raise DataError("pixel masks are damaged", file=path, field=table.name)
    height, width = int(y.max()) + 1, int(x.max()) + 1
    if image is not None:
        size = image.shape if rows_first else image.shape[::-1]
        if size[0] >= height and size[1] >= width:
            height, width = size
    unit = np.repeat(np.arange(len(ends)), np.diff(np.concatenate([[0], ends])))
    out = np.zeros((len(ends), height, width), np.float32)
    out[unit, y[: len(unit)], x[: len(unit)]] = np.maximum(pixels["weight"][: len(unit)], 1e-9)
    return out
