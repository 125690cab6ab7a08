"""Which images train, validate and test a model: a property of the image, never of the trial."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.errors import DataError


def image_fraction(image_id: object, seed: int) -> float:
    """Return a number in [0, 1) that depends on an image's name and the seed only."""
    text = f"{int(seed)}/{image_id!s}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") / 2**64


def assign_tiers(
    image_id: ArrayLike,
    *,
    validation_fraction: float = 0.1,
    min_repeats: int = 2,
    seed: int = 0,
) -> NDArray[np.str_]:
    """Assign every trial the tier of its image.

    Repeated images are test. Of the others a hash of name and seed decides, so that adding scans
    or trials never moves an image between train and validation, nor does the order of trials.

    Parameters
    ----------
    image_id : array of str or int, shape (trials,)
        Name of the image of each trial.
    validation_fraction : float
        Expected share of the images shown once that is validation.
    min_repeats : int
        Presentations from which an image is test.
    seed : int
        Another seed, another split.

    Returns
    -------
    array of str, shape (trials,)
        'train', 'validation' or 'test'.

    Raises
    ------
    DataError
        If no image would be left to train on.

    Examples
    --------
    >>> assign_tiers(["a", "b", "b", "c"]).tolist()
    ['train', 'test', 'test', 'train']
    """
    if not 0 < validation_fraction < 1:
        raise ValueError(f"validation_fraction must be between 0 and 1, got {validation_fraction}")
    names, number, count = np.unique(np.asarray(image_id), return_inverse=True, return_counts=True)
    tier = np.full(len(names), "train", dtype="<U10")
    held = np.array([image_fraction(name, seed) < validation_fraction for name in names], bool)
    tier[held] = "validation"
    tier[count >= min_repeats] = "test"
    if not (tier == "train").any():
        raise DataError(
            "no image is left to train on",
            field="image_id",
            found=f"{len(names)} images, {int((count >= min_repeats).sum())} of them shown "
            f">= {min_repeats} times",
            remedy="raise min_repeats above the repeats of the training images",
        )
    return tier[number.reshape(-1)]
