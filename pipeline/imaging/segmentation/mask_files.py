"""Masks in npz files: as lists of pixels, or as one dense image a unit, which is read in blocks."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.imaging.segmentation.masks import PixelStack
from pipeline.npy import npz_names, npz_rows, npz_shape, read_npz

LISTS = ("mask_start", "mask_pixel", "mask_weight")
MOST_PIXELS = 1 << 26  # of a field
_BLOCK = 1 << 22  # pixels of masks that are dense at a time


def read_masks(path: str | os.PathLike, shape: tuple[int, int] | None = None) -> PixelStack:
    """Read the masks of a field without ever having all of them dense.

    Parameters
    ----------
    path : path
        npz with either `masks` (units, H, W), and maybe `weights` of that shape, or
        `mask_start` int (units + 1), `mask_pixel` int (row * W + column) and `mask_weight`, with
        the size from `mean_image` (H, W), or from `shape`.
    shape : (int, int), optional
        H and W that the masks must have.

    Returns
    -------
    PixelStack, shape (units, H, W)
        Weights, sum 1 per unit; uniform where the file gives none. A mask may have no pixel.

    Raises
    ------
    DataError
        If the file holds no masks, or they do not fit each other or `shape`.
    """
    path = Path(path)
    names = npz_names(path)
    if "masks" in names:
        found = _dense(path, "weights" in names, shape)
    elif all(name in names for name in LISTS):
        found = _listed(path, names, shape)
    else:
        raise DataError(
            "holds no masks",
            file=path,
            found=names[:12],
            expected=f"masks (units, H, W), or {', '.join(LISTS)}",
        )
    if shape is not None and found.shape[1:] != tuple(shape):
        raise DataError(
            "masks do not fit the movie",
            file=path,
            found=found.shape,
            expected=f"(units, {shape[0]}, {shape[1]})",
        )
    return normalized(found)


def normalized(weights: PixelStack) -> PixelStack:
    """Return weights of sum 1 per unit; a unit that has pixels but no weight counts evenly."""
    unit = weights.unit
    value = np.maximum(np.nan_to_num(weights.value.astype(np.float64), posinf=0), 0)
    total = np.bincount(unit, value, len(weights))
    value = np.where(total[unit] > 0, value, 1.0)
    total = np.where(total > 0, total, weights.counts)
    return weights.with_values((value / total[unit]).astype(np.float32))


def _dense(path: Path, weighted: bool, shape: tuple[int, int] | None) -> PixelStack:
    size = npz_shape(path, "masks")
    if len(size) != 3 or 0 in size[1:] or size[1] * size[2] > MOST_PIXELS:
        raise DataError(
            "masks are no stack of images",
            file=path,
            field="masks",
            found=size,
            expected=f"(units, {shape[0]}, {shape[1]})" if shape else "(units, H, W)",
        )
    if weighted and npz_shape(path, "weights") != size:
        raise DataError(
            "array does not fit the others",
            file=path,
            field="weights",
            found=npz_shape(path, "weights"),
            expected=size,
        )
    step = max(1, _BLOCK // (size[1] * size[2]))
    counts, pixels, values = [np.zeros(0, np.int64)], [], []
    blocks = npz_rows(path, "masks", step)
    others = npz_rows(path, "weights", step) if weighted else iter(())
    for block in blocks:
        if block.dtype.kind not in "biuf":
            raise DataError("holds no masks", file=path, field="masks", found=block.dtype)
        flat = block.reshape(len(block), -1) != 0
        unit, pixel = np.nonzero(flat)
        counts.append(np.bincount(unit, minlength=len(block)))
        pixels.append(pixel.astype(np.int32))
        if weighted:
            values.append(np.asarray(next(others).reshape(flat.shape)[unit, pixel], np.float32))
    start = np.concatenate([[0], np.cumsum(np.concatenate(counts))]).astype(np.int64)
    pixel = np.concatenate([np.zeros(0, np.int32), *pixels])
    value = np.concatenate(values) if values else np.ones(len(pixel), np.float32)
    return PixelStack(start, pixel, value, size[1:])


def _listed(path: Path, names: list[str], shape: tuple[int, int] | None) -> PixelStack:
    arrays = read_npz(path, LISTS)
    size: tuple[int, ...] | None = shape
    if "mean_image" in names:
        size = npz_shape(path, "mean_image")
    if size is None or len(size) != 2 or not 0 < size[0] * size[1] <= MOST_PIXELS:
        raise DataError(
            "size of the masks is unknown",
            file=path,
            field="mean_image",
            found=size,
            expected="(H, W)",
        )
    start, pixel, weight = (arrays[name] for name in LISTS)
    if any(array.ndim != 1 for array in (start, pixel, weight)) or not (
        start.dtype.kind in "iu" and pixel.dtype.kind in "iu" and weight.dtype.kind in "biuf"
    ):
        raise DataError("masks are no lists of pixels", file=path, expected=", ".join(LISTS))
    if (
        not len(start)
        or start[0] != 0
        or np.any(start[1:] < start[:-1])
        or start[-1] != len(pixel)
        or len(weight) != len(pixel)
    ):
        raise DataError(
            "lists of pixels do not fit each other",
            file=path,
            field="mask_start",
            found=f"{len(start)} starts, {len(pixel)} pixels, {len(weight)} weights",
            expected="starts that rise from 0 to the number of pixels",
        )
    if len(pixel) and (pixel.min() < 0 or pixel.max() >= size[0] * size[1]):
        raise DataError(
            "pixel lies outside of the field",
            file=path,
            field="mask_pixel",
            found=int(pixel.max()),
            expected=f"0 to {size[0] * size[1] - 1}",
        )
    return PixelStack(start.astype(np.int64), pixel.astype(np.int32), weight, size)


def as_lists(weights: PixelStack) -> dict[str, NDArray]:
    """Return the arrays that `read_masks` takes instead of dense masks."""
    return dict(zip(LISTS, (weights.start, weights.pixel, weights.value), strict=True))
