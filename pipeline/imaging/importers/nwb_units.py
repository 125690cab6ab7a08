"""What a PlaneSegmentation says of its units: pixels, orientation, and who was rejected."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.imaging.adapters.hdf5 import of_type, whole
from pipeline.imaging.segmentation.masks import PixelStack
from pipeline.npy import most_bytes

from .base import check_size

ACCEPTED = ("accepted", "iscell", "is_cell", "valid_roi", "keep", "kept")
REJECTED = ("rejected", "is_rejected", "invalid_roi")
PROBABILITY = (
    "soma_probability",
    "cell_probability",
    "iscell_probability",
    "probcell",
    "cnn_preds",
)
MEAN = ("mean", "meanimg", "mean_image", "average", "average_image", "meanimage")
MOST_RATIO = 1100  # times what is stored: masks are mostly 0, and deflate makes at most 1,032
_BLOCK = 1 << 22  # pixels of masks that are dense at a time


def decisions(table, units: int, path: Path) -> tuple[NDArray | None, NDArray | None]:
    """Return who was kept, and the probability of being a cell, (units,) each; None if unsaid."""
    columns = {name.lower(): table[name] for name in table if hasattr(table[name], "dtype")}
    keep = probability = None
    for name in (*ACCEPTED, *REJECTED):
        if name not in columns or (keep is not None and name in REJECTED):
            continue
        values = whole(columns[name])
        if values.dtype.kind not in "biuf" or values.ndim not in (1, 2) or len(values) != units:
            raise DataError(
                "does not say which units were kept",
                file=path,
                field=columns[name].name,
                found=f"{values.shape} {values.dtype}",
                expected="a number or a truth value for every unit",
            )
        if values.ndim == 2:  # suite2p's iscell: decision and probability
            if values.shape[1] > 1 and values.dtype.kind == "f":
                probability = values[:, 1].astype(np.float32)
            values = values[:, 0]
        said = values > 0 if name in ACCEPTED else ~(values > 0)
        keep = said if keep is None else keep & said
    for name in PROBABILITY:
        if probability is None and name in columns and columns[name].dtype.kind in "fiub":
            values = whole(columns[name])
            probability = values.astype(np.float32) if values.shape == (units,) else None
    return keep, probability


def rows_come_first(table) -> tuple[bool, str]:
    """Return whether masks are (row, column) against the standard, and why that is believed.

    Early roiextractors wrote masks as they came, rows first, with their centers in the same order
    in a column `RoiCentroid`; later ones write (x, y), as the standard says, and `ROICentroids`.
    """
    if "RoiCentroid" in table and "image_mask" in table:
        centers = np.asarray(whole(table["RoiCentroid"]), float)
        distance = np.zeros(2)
        for unit in range(min(len(centers), 50) if centers.ndim == 2 else 0):
            places = np.nonzero(table["image_mask"][unit])
            if len(places) == 2 and len(places[0]) and centers.shape[1] >= 2:
                own = np.array([places[0].mean(), places[1].mean()])
                distance += [
                    np.abs(own - centers[unit, :2]).sum(),
                    np.abs(own - centers[unit, 1::-1]).sum(),
                ]
        if distance[0] < distance[1]:
            return True, "masks are rows first, as early roiextractors wrote them (RoiCentroid)"
    return False, "masks are taken as (x, y), as the standard says; else give rows_first"


def mean_image_of(file, table, size: tuple[int, int] | None) -> NDArray | None:
    """Return the mean image of a table's plane, as it is stored; None if none can be told.

    Of several, the one whose path names the table or its imaging plane is it.
    """
    found = {item.name: item.get("data") for item in of_type(file, "GrayscaleImage")}

    def look(_: str, item: Any) -> None:  # whatever else it returned would end the walk
        if hasattr(item, "dtype"):
            found.setdefault(item.name, item)

    if "processing" in file:
        file["processing"].visititems(look)
    good = {
        name: item
        for name, item in found.items()
        if hasattr(item, "dtype")
        and item.dtype.kind in "fiu"
        and len(item.shape) == 2
        and (size is None or tuple(item.shape) == tuple(size))
        and name.rsplit("/", 1)[-1].lower() in MEAN
    }
    if len(good) > 1:
        plane = table.get("imaging_plane")
        own = {table.name.rsplit("/", 1)[-1].lower()}
        if plane is not None:
            own.add(plane.name.rsplit("/", 1)[-1].lower())
        good = {
            name: item
            for name, item in good.items()
            if own & {part.lower() for part in name.split("/")}
        }
    return np.asarray(whole(next(iter(good.values())))) if len(good) == 1 else None


def weights_of(table, image: NDArray | None, rows_first: bool, path: Path) -> PixelStack:
    """Return the masks of a table as lists of pixels, shape (units, H, W)."""
    if "image_mask" in table:
        return _from_images(table["image_mask"], rows_first, path)
    for name in ("pixel_mask", "voxel_mask"):
        if name in table and f"{name}_index" in table:
            return _from_pixels(table, name, image, rows_first, path)
    raise DataError(
        "holds no masks of a plane",
        file=path,
        field=table.name,
        found=sorted(table),
        expected="image_mask or pixel_mask",
    )


def _from_images(masks, rows_first: bool, path: Path) -> PixelStack:
    if len(masks.shape) != 3 or masks.dtype.kind not in "biuf":
        raise DataError(
            "masks are not of a plane",
            file=path,
            field=masks.name,
            found=masks.shape,
            expected="(units, x, y)",
        )
    units, first, second = masks.shape
    height, width = check_size(path, *((first, second) if rows_first else (second, first)))
    if masks.size * masks.dtype.itemsize > most_bytes(masks.id.get_storage_size(), MOST_RATIO):
        raise DataError(
            "is far larger than what is stored of it",
            file=path,
            field=masks.name,
            found=masks.shape,
        )
    parts = [(np.zeros(0, int),) * 3 + (np.zeros(0, np.float32),)]
    step = max(1, _BLOCK // (first * second))
    for start in range(0, units, step):
        block = masks[start : start + step]
        unit, a, b = np.nonzero(block > 0)
        parts.append((unit + start, a, b, block[unit, a, b].astype(np.float32)))
    unit, a, b, weight = (np.concatenate(part) for part in zip(*parts, strict=True))
    y, x = (a, b) if rows_first else (b, a)
    return PixelStack.from_points(unit, y, x, weight, (units, height, width))


def _from_pixels(
    table, name: str, image: NDArray | None, rows_first: bool, path: Path
) -> PixelStack:
    where: dict[str, Any] = {"file": path, "field": f"{table.name}/{name}"}
    ends = whole(table[f"{name}_index"]).astype(int)
    pixels = whole(table[name])
    if pixels.dtype.names is None or not {"x", "y", "weight"} <= set(pixels.dtype.names):
        raise DataError("pixel masks are damaged", **where, expected="x, y and weight")
    if "z" in pixels.dtype.names and len(np.unique(pixels["z"])) > 1:
        raise DataError(
            "masks are not of a plane", **where, found="several z", expected="voxels of one z"
        )
    first, second = (pixels[axis].astype(int) for axis in ("x", "y"))
    x, y = (second, first) if rows_first else (first, second)
    if not len(x) or np.any(np.diff(ends, prepend=0) < 0) or ends[-1] > len(pixels):
        raise DataError("pixel masks are damaged", **where)
    if min(x.min(), y.min()) < 0:
        raise DataError(
            "pixel lies outside of the field", **where, found=int(min(x.min(), y.min()))
        )
    height, width = int(y.max()) + 1, int(x.max()) + 1
    if image is not None:
        size = image.shape if rows_first else image.shape[::-1]
        if size[0] >= height and size[1] >= width:
            height, width = size
    height, width = check_size(path, height, width)
    unit = np.repeat(np.arange(len(ends)), np.diff(ends, prepend=0))
    used = slice(0, len(unit))
    weight = np.maximum(np.nan_to_num(pixels["weight"][used]), 1e-9)
    return PixelStack.from_points(unit, y[used], x[used], weight, (len(ends), height, width))
