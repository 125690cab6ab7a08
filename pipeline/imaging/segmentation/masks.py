"""Masks as lists of pixels: what a field of thousands of cells is stored as."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError

UNITS_PER_FIELD = 100_000


def pack_masks(
    masks: NDArray[np.bool_], weights: NDArray[np.floating]
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]:
    """Return masks as concatenated pixel lists.

    Parameters
    ----------
    masks, weights : array, shape (units, H, W)

    Returns
    -------
    start : array int64, shape (units + 1,)
        Pixels of unit i are at `start[i]:start[i + 1]` of the next two.
    pixel : array int32, shape (pixels,)
        row * W + column.
    weight : array float32, shape (pixels,)
    """
    pixels = int(np.prod(masks.shape[1:]))  # -1 is refused where there is no unit
    flat = masks.reshape(len(masks), pixels)
    unit, pixel = np.nonzero(flat)
    start = np.searchsorted(unit, np.arange(len(masks) + 1))
    weight = np.asarray(weights).reshape(len(masks), pixels)[unit, pixel]
    return start.astype(np.int64), pixel.astype(np.int32), weight.astype(np.float32)


def unpack_masks(
    start: NDArray[np.int64],
    pixel: NDArray[np.int32],
    weight: NDArray[np.float32],
    shape: tuple[int, int],
) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Return (masks bool, weights float32), both (units, H, W); inverse of `pack_masks`."""
    units = len(start) - 1
    masks = np.zeros((units, shape[0] * shape[1]), bool)
    weights = np.zeros(masks.shape, np.float32)
    unit = np.repeat(np.arange(units), np.diff(start))
    masks[unit, pixel] = True
    weights[unit, pixel] = weight
    return masks.reshape(units, *shape), weights.reshape(units, *shape)


def centroids(
    start: NDArray[np.int64], pixel: NDArray[np.int32], weight: NDArray[np.float32], width: int
) -> NDArray[np.float64]:
    """Return the weighted center (y, x) of every packed mask (px), shape (units, 2)."""
    units = len(start) - 1
    unit = np.repeat(np.arange(units), np.diff(start))
    total = np.bincount(unit, weight, units)
    total = np.where(total > 0, total, np.nan)
    y, x = np.divmod(pixel, width)
    sums = [np.bincount(unit, weight * place, units) for place in (y, x)]
    return np.stack(sums, axis=1) / total[:, None]


def unit_ids(field: int, count: int) -> range:
    """Return ids for the units of a field that no other field of the scan has.

    Parameters
    ----------
    field : int
        Number of the field, from 0.
    count : int
        Units of the field.

    Returns
    -------
    range, of `count` numbers
        `field * 100000 + row + 1` for every row of the masks.

    Raises
    ------
    DataError
        If a field has more units than there are ids.

    Examples
    --------
    >>> list(unit_ids(2, 3))
    [200001, 200002, 200003]
    """
    if count >= UNITS_PER_FIELD:
        raise DataError("too many units in a field", found=count, expected=UNITS_PER_FIELD)
    first = field * UNITS_PER_FIELD + 1
    return range(first, first + count)
