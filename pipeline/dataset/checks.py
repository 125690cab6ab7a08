"""What a training set must be before anything is learned from it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError

GRAY_LEVELS = (0.0, 255.0)
WILD = 100.0  # times the unit's next largest response, and the usual largest of all units


def check_pixels(images: NDArray) -> None:
    """Raise DataError if images (images, height, width) hold no numbers, NaN or inf."""
    if images.dtype.kind not in "biuf":
        raise DataError("no numbers", field="images", found=images.dtype, expected="gray levels")
    if images.dtype.kind != "f":
        return
    wrong = [i for i, image in enumerate(images) if not np.isfinite(image).all()]
    if wrong:
        raise DataError(
            "pixels are NaN or infinite",
            field="images",
            found=f"image {wrong[0]} and {len(wrong) - 1} more",
            expected="gray levels 0-255",
            remedy="write these images again, or leave out their trials",
        )


def check_gray_levels(images: NDArray) -> None:
    """Raise DataError if images of a file are on another scale than gray levels 0-255."""
    low, high = float(images.min()), float(images.max())
    unit_scale = images.dtype.kind == "f" and high <= 1 and bool((images % 1 != 0).any())
    if low < GRAY_LEVELS[0] or high > GRAY_LEVELS[1] or unit_scale:
        raise DataError(
            "images are on another scale",
            field="images",
            found=f"{low:.4g} to {high:.4g}",
            expected="gray levels 0-255 as they were shown",
            remedy="multiply images of 0-1 by 255, undo a normalization",
        )


def check_one_image_one_id(
    image_index: NDArray[np.int64], number: NDArray[np.int64], image_id: NDArray, tiers: NDArray
) -> None:
    """Raise DataError if ids and pixels contradict each other.

    Parameters
    ----------
    image_index : array, shape (trials,)
        Number of the pixels on every trial: equal pixels, equal number.
    number : array, shape (trials,)
        Number of the id.
    image_id, tiers : array, shape (trials,)
    """
    _, first = np.unique(number, return_index=True)
    other = np.flatnonzero(image_index != image_index[first][number])
    if len(other):
        raise DataError(
            "one id stands for different images",
            field="image_id",
            found=f"id {image_id[other[0]]!s} on trials {first[number[other[0]]]} and {other[0]}",
            remedy="give equal ids to equal pixels only",
        )
    _, first, pixels = np.unique(image_index, return_index=True, return_inverse=True)
    other = np.flatnonzero(tiers != tiers[first][pixels.reshape(-1)])
    if len(other):
        before = first[pixels.reshape(-1)[other[0]]]
        raise DataError(
            "an image is in more than one tier",
            field="tiers",
            found=f"the same pixels on trials {before} ({tiers[before]}) and {other[0]} "
            f"({tiers[other[0]]}), under ids {image_id[before]!s} and {image_id[other[0]]!s}",
            remedy="give all trials of one image the same tier",
        )


def wild_trials(responses: NDArray) -> NDArray[np.bool_]:
    """Return on which trials a unit's response is no response, (trials,).

    It is `WILD` times as large as the unit's next largest *and* as the largest response of a usual
    unit: a number that went wrong on one trial, not a sparse unit and not one in other units.

    Parameters
    ----------
    responses : array, shape (trials, units)
        Without NaN.
    """
    wild = np.zeros(len(responses), bool)
    if len(responses) < 3 or not responses.shape[1]:
        return wild
    first, second, where = (np.zeros(responses.shape[1], kind) for kind in ("f8", "f8", "i8"))
    for start in range(0, responses.shape[1], 256):
        size = np.abs(responses[:, start : start + 256])
        columns = slice(start, start + size.shape[1])
        where[columns] = size.argmax(axis=0)
        second[columns], first[columns] = np.partition(size, -2, axis=0)[-2:]
    usual = np.median(np.minimum(first, WILD * second))
    if usual > 0:
        wild[where[(first > WILD * second) & (first > WILD * usual)]] = True
    return wild
