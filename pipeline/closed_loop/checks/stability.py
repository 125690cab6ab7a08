"""Do models of two days want the same of one cell? Images and responses of matched units."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class DayStability:
    """How alike the MEIs of two days are; arrays of shape (pairs,).

    Attributes
    ----------
    correlation : array
        Pearson of the two images of a pair inside its mask, weighted by it; NaN where an image is
        flat.
    correlation_others : array
        Mean of the same with the other pairs' images of the other day: what chance gives.
    rank : array
        Share of the other pairs' images that the own one exceeds; 0.5 by chance.
    transfer, transfer_back : arrays
        Response of the first day's model to the second day's image over that to its own, and of
        the second day's model to the first day's image over that to its own.
    """

    correlation: NDArray[np.float64]
    correlation_others: NDArray[np.float64]
    rank: NDArray[np.float64]
    transfer: NDArray[np.float64]
    transfer_back: NDArray[np.float64]


def day_stability(
    images: NDArray,
    others: NDArray,
    masks: NDArray,
    responses: NDArray,
    others_responses: NDArray,
) -> DayStability:
    """Compare the images that two days' models want of the same cells.

    Parameters
    ----------
    images, others : arrays, shape (pairs, H, W)
        Images of the first and of the other day, pair by pair.
    masks : array, shape (pairs, H, W)
        Where the first day's image is, 0 to 1.
    responses, others_responses : arrays, shape (pairs, 2)
        Response of the first day's model, and of the other day's, to the two images of a pair.

    References
    ----------
    Walker et al. (2019), Supplementary Figure 1c, doi:10.1038/s41593-019-0517-x
    """
    n = len(images)
    matrix = np.array(
        [[_inside(a, b, mask) for b in others] for a, mask in zip(images, masks, strict=True)]
    ).reshape(n, n)
    own = np.diagonal(matrix)
    off = np.where(np.eye(n, dtype=bool), np.nan, matrix)
    known = np.isfinite(off)
    count = np.where(known.any(1), known.sum(1), np.nan)
    ahead = (off < own[:, None]) & known
    with np.errstate(invalid="ignore", divide="ignore"):  # a silent model has no share: NaN
        transfer = responses[:, 1] / responses[:, 0]
        back = others_responses[:, 0] / others_responses[:, 1]
    return DayStability(
        correlation=own.copy(),
        correlation_others=np.where(known, off, 0.0).sum(1) / count,
        rank=np.where(np.isfinite(own), ahead.sum(1) / count, np.nan),
        transfer=transfer,
        transfer_back=back,
    )


def _inside(a: NDArray, b: NDArray, mask: NDArray) -> float:
    """Return the weighted Pearson correlation of two images."""
    weight = np.asarray(mask, np.float64)
    total = weight.sum()
    if total <= 0:
        return float("nan")
    x, y = (image - (weight * image).sum() / total for image in (np.float64(a), np.float64(b)))
    scale = np.sqrt((weight * x**2).sum() * (weight * y**2).sum())
    return float((weight * x * y).sum() / scale) if scale > 0 else float("nan")
