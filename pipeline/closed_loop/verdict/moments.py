"""Mean, spread and count of every neuron's responses to every image, poolable over days."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

NORMALIZATIONS = ("sd", "zscore", "raw")


def normalized(responses: ArrayLike, how: str = "sd") -> NDArray[np.float64]:
    """Return responses in the unit of a comparison.

    Parameters
    ----------
    responses : array, shape (trials, units)
        NaN where a trial is not known.
    how : {"sd", "zscore", "raw"}
        Divided by the unit's sd over all trials of the scan (ddof 0, as published), z-scored, or
        as they are. A unit that never varies becomes NaN, except with "raw".
    """
    if how not in NORMALIZATIONS:
        raise ValueError(f"no normalization {how!r}; there are {list(NORMALIZATIONS)}")
    values = np.array(responses, np.float64, ndmin=2)
    if how == "raw":
        return values
    count = np.isfinite(values).sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):  # a unit without a trial is NaN
        mean = np.nansum(values, 0) / count
        sd = np.sqrt(np.nansum((values - mean) ** 2, 0) / count)
        sd = np.where(sd > 1e-9 * np.abs(mean), sd, np.nan)
    return values / sd if how == "sd" else (values - mean) / sd


@dataclass(frozen=True)
class Moments:
    """Sums from which mean, SEM and n follow, one row an image.

    Attributes
    ----------
    image : list of str, length (images,)
    n, total, squares : arrays, shape (images, units)
        Number of trials, sum of responses, and sum of squared deviations from their mean.
    """

    image: list[str]
    n: NDArray[np.int64]
    total: NDArray[np.float64]
    squares: NDArray[np.float64]

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean response, (images, units); NaN without a trial."""
        return np.divide(self.total, self.n, out=np.full(self.n.shape, np.nan), where=self.n > 0)

    @property
    def variance(self) -> NDArray[np.float64]:
        """Variance over trials (ddof 1), (images, units); NaN below two trials."""
        full = np.full(self.n.shape, np.nan)
        return np.divide(self.squares, self.n - 1, out=full, where=self.n > 1)

    @property
    def sem(self) -> NDArray[np.float64]:
        """Standard error of the mean, (images, units); NaN below two trials."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.sqrt(self.variance / self.n)

    def at(self, images: Sequence[str | None]) -> NDArray[np.intp]:
        """Return the row of every image; -1 for None and for an image never shown."""
        row: dict[str | None, int] = {image: i for i, image in enumerate(self.image)}
        return np.array([row.get(image, -1) for image in images], np.intp)


def response_moments(responses: ArrayLike, image: ArrayLike) -> Moments:
    """Sum up the trials of every image.

    Parameters
    ----------
    responses : array, shape (trials, units)
        In the unit wanted (`normalized`); NaN trials of a unit are left out.
    image : array, shape (trials,)
        Content hash or other name.

    Raises
    ------
    ValueError
        If the numbers of trials differ.
    """
    values = np.array(responses, np.float64, ndmin=2)
    names = np.asarray(image)
    if values.shape[0] != len(names):
        raise ValueError(f"{values.shape[0]} trials of responses but {len(names)} of images")
    code, unique = pd.factorize(names)
    known = np.isfinite(values)
    n = _sum_by(code, known.astype(np.float64), len(unique))
    total = _sum_by(code, np.where(known, values, 0.0), len(unique))
    mean = np.divide(total, n, out=np.zeros_like(total), where=n > 0)
    squares = _sum_by(code, np.where(known, values - mean[code], 0.0) ** 2, len(unique))
    return Moments([str(u) for u in unique], n.astype(np.int64), total, squares)


def pool(days: Sequence[Moments]) -> Moments:
    """Combine days by summed moments; the units are the same, in the same order.

    The result equals the moments of all trials together. A unit that a day does not have is a
    column of n = 0 there.

    Raises
    ------
    ValueError
        If there is no day, or the numbers of units differ.
    """
    if not days:
        raise ValueError("nothing to pool")
    if len(units := {day.n.shape[1] for day in days}) != 1:
        raise ValueError(f"days have different numbers of units: {sorted(units)}")
    image = list(dict.fromkeys(name for day in days for name in day.image))
    shape = (len(image), units.pop())
    n, total, squares = np.zeros(shape, np.int64), np.zeros(shape), np.zeros(shape)
    for day in days:
        row = [image.index(name) for name in day.image]
        both = n[row] + day.n
        delta = np.nan_to_num(day.mean) - np.divide(
            total[row], n[row], out=np.zeros_like(day.total), where=n[row] > 0
        )
        between = np.divide(
            delta**2 * n[row] * day.n, both, out=np.zeros_like(delta), where=both > 0
        )
        squares[row] += day.squares + between
        total[row] += day.total
        n[row] = both
    return Moments(image, n, total, squares)


def _sum_by(code: NDArray, values: NDArray, n: int) -> NDArray[np.float64]:
    """Sum rows of one code; the order of addition depends on nothing but the input."""
    result = np.zeros((n, values.shape[1]))
    if len(code):
        order = np.argsort(code, kind="stable")
        start = np.flatnonzero(np.diff(code[order], prepend=-1))
        result[code[order][start]] = np.add.reduceat(values[order], start, axis=0)
    return result
