"""Masks as lists of pixels: what a field of thousands of cells is stored as."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from pipeline.errors import DataError

UNITS_PER_FIELD = 100_000


class PixelStack:
    """One image a unit, held as lists of pixels and read like an array, image by image.

    Only what is asked for becomes dense: an image by its number or in a loop, all of them by
    `numpy.asarray`.

    Parameters
    ----------
    start : array of int, shape (units + 1,)
        Pixels of unit i are at `start[i]:start[i + 1]` of the next two.
    pixel : array of int, shape (pixels,)
        row * W + column.
    value : array, shape (pixels,)
        Bool or floating; every other pixel is 0.
    shape : (int, int)
        H and W.
    """

    ndim = 3

    def __init__(
        self,
        start: NDArray[np.integer],
        pixel: NDArray[np.integer],
        value: NDArray,
        shape: tuple[int, int],
    ) -> None:
        self.start, self.pixel, self.value = start, pixel, value
        self.shape = (len(start) - 1, int(shape[0]), int(shape[1]))

    @property
    def dtype(self) -> np.dtype:
        """Kind of the values."""
        return self.value.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, unit: int) -> NDArray:
        unit = range(len(self))[unit]  # IndexError, and from the end
        here = slice(self.start[unit], self.start[unit + 1])
        image = np.zeros(self.shape[1] * self.shape[2], self.dtype)
        image[self.pixel[here]] = self.value[here]
        return image.reshape(self.shape[1:])

    def __iter__(self) -> Iterator[NDArray]:
        return (self[unit] for unit in range(len(self)))

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray:
        out = np.zeros((len(self), self.shape[1] * self.shape[2]), self.dtype)
        out[self.unit, self.pixel] = self.value
        return out.reshape(self.shape).astype(dtype or self.dtype, copy=False)

    @property
    def unit(self) -> NDArray[np.intp]:
        """Unit of every pixel, shape (pixels,)."""
        return np.repeat(np.arange(len(self)), np.diff(self.start))

    @property
    def counts(self) -> NDArray[np.int64]:
        """Number of pixels of every unit, shape (units,)."""
        return np.diff(self.start)

    def select(self, units: ArrayLike) -> PixelStack:
        """Return the images of some units (numbers or booleans), in the given order."""
        rows: NDArray[np.intp] = np.arange(len(self))[np.asarray(units)]
        sizes = self.counts[rows]
        start = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        places = np.repeat(self.start[rows] - start[:-1], sizes) + np.arange(start[-1])
        return PixelStack(start, self.pixel[places], self.value[places], self.shape[1:])

    def with_values(self, value: NDArray) -> PixelStack:
        """Return the same pixels with other values."""
        return PixelStack(self.start, self.pixel, value, self.shape[1:])

    def as_masks(self) -> PixelStack:
        """Return True for every listed pixel."""
        return self.with_values(np.ones(len(self.pixel), bool))

    @classmethod
    def from_points(
        cls,
        unit: NDArray[np.integer],
        y: NDArray[np.integer],
        x: NDArray[np.integer],
        weight: NDArray[np.floating],
        shape: tuple[int, int, int],
    ) -> PixelStack:
        """Return weights from a list of points; what is not above 0 is left out.

        Parameters
        ----------
        unit, y, x, weight : array, shape (points,)
            A pixel that a unit lists twice has the larger weight.
        shape : (int, int, int)
            Units, H and W.
        """
        good = np.flatnonzero(np.isfinite(weight) & (weight > 0))
        height, width = shape[1:]
        place = (unit[good].astype(np.int64) * height + y[good]) * width + x[good]
        order = np.lexsort((weight[good], place))
        place, weight = place[order], np.asarray(weight)[good][order]
        last = np.ones(len(place), bool)
        last[:-1] = place[1:] != place[:-1]
        unit, pixel = np.divmod(place[last], height * width)
        start = np.searchsorted(unit, np.arange(shape[0] + 1)).astype(np.int64)
        return cls(start, pixel.astype(np.int32), weight[last].astype(np.float32), (height, width))


def pack_masks(
    masks: NDArray[np.bool_] | PixelStack, weights: NDArray[np.floating] | PixelStack
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]:
    """Return masks as concatenated pixel lists.

    Parameters
    ----------
    masks, weights : array or PixelStack, shape (units, H, W)

    Returns
    -------
    start : array int64, shape (units + 1,)
        Pixels of unit i are at `start[i]:start[i + 1]` of the next two.
    pixel : array int32, shape (pixels,)
        row * W + column.
    weight : array float32, shape (pixels,)
    """
    if isinstance(masks, PixelStack) and isinstance(weights, PixelStack):
        if masks.start is not weights.start or masks.pixel is not weights.pixel:
            raise ValueError("masks and weights must list the same pixels")
        start, pixel = masks.start.astype(np.int64), masks.pixel.astype(np.int32)
        return start, pixel, weights.value.astype(np.float32)
    masks = np.asarray(masks)
    pixels = int(np.prod(masks.shape[1:]))  # -1 is refused where there is no unit
    flat = masks.reshape(len(masks), pixels)
    unit, place = np.nonzero(flat)
    start = np.searchsorted(unit, np.arange(len(masks) + 1))
    weight = np.asarray(weights).reshape(len(masks), pixels)[unit, place]
    return start.astype(np.int64), place.astype(np.int32), weight.astype(np.float32)


def unpack_masks(
    start: NDArray[np.int64],
    pixel: NDArray[np.int32],
    weight: NDArray[np.float32],
    shape: tuple[int, int],
) -> tuple[PixelStack, PixelStack]:
    """Return (masks bool, weights float32), both (units, H, W); inverse of `pack_masks`."""
    weights = PixelStack(start, pixel, weight, shape)
    return weights.as_masks(), weights


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
