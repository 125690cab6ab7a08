"""Several data sets that train one core: no image may train it that tests it elsewhere."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.stimulus.images import to_model

from .data import TIERS, Dataset


def image_digests(images: NDArray) -> NDArray[np.str_]:
    """Name images (n, h, w) by their gray levels to 0.01: equal whatever a file calls them."""
    hundredths = np.ascontiguousarray(np.rint(images * np.float32(100)).astype(np.int32))
    return np.array(
        [hashlib.sha256(memoryview(image).cast("B")).hexdigest() for image in hundredths]
    )


def reconcile(datasets: Sequence[Dataset]) -> tuple[list[Dataset], list[int]]:
    """Drop the trials whose image tests or validates a model in another data set of the group.

    The tier of an image is global: an image that is test in one data set is neither train nor
    validation in any, and one that is validation in one is train in none. Trials that contradict
    this are left out of the data set where the image trains; those where it tests stay. So a data
    set never gains trials by company, and its own test and split stay as they are.

    Parameters
    ----------
    datasets : sequence of Dataset
        Images of one aspect ratio; equal gray levels, at the smallest size among the data sets,
        are one image, whatever their names.

    Returns
    -------
    list of Dataset
        In the same order.
    list of int
        Trials dropped from each.

    Raises
    ------
    DataError
        If images differ in aspect ratio, or a data set would lose all trials of train or
        validation.

    Examples
    --------
    >>> images = np.random.default_rng(0).integers(0, 256, (4, 9, 16), np.uint8)
    >>> tiers = np.array(["train", "train", "validation", "test"])
    >>> one = Dataset(images, np.arange(4), np.arange(4), np.ones((4, 2)), tiers)
    >>> other = Dataset(images, np.arange(4), np.arange(4), np.ones((4, 3)), tiers[[3, 0, 2, 1]])
    >>> [data.n_trials for data in reconcile([one, other])[0]]  # images that test elsewhere
    [3, 3]
    """
    shape = min(data.shape for data in datasets)
    names = [image_digests(to_model(data.images, shape))[data.image_index] for data in datasets]
    ranks = [np.array([TIERS.index(tier) for tier in data.tiers]) for data in datasets]
    image, number = np.unique(np.concatenate(names), return_inverse=True)
    highest = np.full(len(image), -1)
    np.maximum.at(highest, number.reshape(-1), np.concatenate(ranks))
    kept, dropped, start = [], [], 0
    for data, rank in zip(datasets, ranks, strict=True):
        part = number.reshape(-1)[start : start + data.n_trials]
        start += data.n_trials
        legal = rank == highest[part]
        left = data if legal.all() else data.select(trials=np.flatnonzero(legal))
        counts = {tier: len(left.trials(tier)) for tier in ("train", "validation")}
        if not all(counts.values()):
            raise DataError(
                "a tier is empty once images of other data sets' tests are left out",
                field="tiers",
                found=counts,
                remedy="show the repeated images of one scan in no other scan's training set",
            )
        kept.append(left)
        dropped.append(int((~legal).sum()))
    return kept, dropped
