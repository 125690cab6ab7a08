"""Sums over the repeats of each image, for data with unequal repeats and missing trials."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array


def as_trials(responses: ArrayLike, image_id: ArrayLike) -> tuple[NDArray, NDArray[np.int64]]:
    """Return responses (trials, units) as float64 and the number of each trial's image.

    Raises
    ------
    ValueError
        If their lengths disagree.
    """
    responses = np.asarray(responses, np.float64)
    image_id = np.asarray(image_id).reshape(-1)
    if responses.ndim != 2 or len(responses) != len(image_id):
        raise ValueError(
            f"responses must be (trials, units) with one image_id a trial; "
            f"got {responses.shape} and {len(image_id)}"
        )
    return responses, np.unique(image_id, return_inverse=True)[1].reshape(-1)


@dataclass(frozen=True)
class ImageMoments:
    """Repeats of every image; arrays of shape (images, units), NaN trials left out."""

    count: NDArray[np.float64]
    mean: NDArray[np.float64]  # NaN without a repeat
    variance: NDArray[np.float64]  # ddof 1; NaN with fewer than two repeats


def image_sums(values: NDArray, number: NDArray) -> NDArray[np.float64]:
    """Sum (trials, units) over the trials of each image, shape (images, units)."""
    n = len(number)
    pick = csr_array((np.ones(n), (number, np.arange(n))), shape=(int(number.max()) + 1, n))
    return pick @ values


def image_moments(responses: NDArray, number: NDArray) -> ImageMoments:
    """Return count, mean and variance over the repeats of each image."""
    valid = ~np.isnan(responses)
    filled = np.where(valid, responses, 0.0)
    count = image_sums(valid.astype(np.float64), number)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = image_sums(filled, number) / count
        deviation = np.where(valid, responses - mean[number], 0.0)
        square = image_sums(deviation**2, number)
        variance = np.where(count > 1, square / (count - 1), np.nan)
    return ImageMoments(count, mean, variance)


def correlate(x: NDArray, y: NDArray) -> NDArray[np.float64]:
    """Pearson correlation down the columns, over rows where both are known.

    Exact: equal arrays correlate with 1. NaN for a column that is constant in either.
    """
    valid = ~(np.isnan(x) | np.isnan(y))
    n = valid.sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        x, y = (np.where(valid, a, 0.0) for a in (x, y))
        dx = np.where(valid, x - x.sum(0) / n, 0.0)
        dy = np.where(valid, y - y.sum(0) / n, 0.0)
        r = (dx * dy).sum(0) / np.sqrt((dx**2).sum(0) * (dy**2).sum(0))
    varies = (n > 1) & _varies(x, valid) & _varies(y, valid)
    return np.where(varies, np.clip(r, -1, 1), np.nan)


def _varies(x: NDArray, valid: NDArray) -> NDArray[np.bool_]:
    """Whether a column has two different values; rounding of its mean must not count."""
    high = np.where(valid, x, -np.inf).max(0, initial=-np.inf)
    low = np.where(valid, x, np.inf).min(0, initial=np.inf)
    return high - low > 1e-12 * np.maximum(np.abs(high), np.abs(low))


def others_mean(responses: NDArray, number: NDArray) -> NDArray[np.float64]:
    """Mean over the other repeats of the same image, shape (trials, units); NaN without any.

    NaN for a unit with one repeated image only: a trial and the mean of the others of one image
    always correlate with -1 or so, whatever the responses are.
    """
    valid = ~np.isnan(responses)
    filled = np.where(valid, responses, 0.0)
    repeats = image_sums(valid.astype(np.float64), number)
    count, several = repeats[number], (repeats > 1).sum(0) > 1
    total = image_sums(filled, number)[number]
    with np.errstate(invalid="ignore", divide="ignore"):
        others = (total - filled) / (count - 1)
    return np.where(valid & (count > 1) & several, others, np.nan)


def mean_over_rows(values: NDArray) -> NDArray[np.float64]:
    """Mean down the columns over what is known; NaN for a column without any."""
    valid = ~np.isnan(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(valid, values, 0.0).sum(0) / valid.sum(0)


def total_variance(responses: NDArray) -> NDArray[np.float64]:
    """Variance over all trials (ddof 1), shape (units,); NaN for a unit that never varies."""
    valid = ~np.isnan(responses)
    n = valid.sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        deviation = np.where(valid, responses - mean_over_rows(responses), 0.0)
        variance = (deviation**2).sum(0) / (n - 1)
    return np.where((n > 1) & _varies(np.where(valid, responses, 0.0), valid), variance, np.nan)


def noise_variance(responses: NDArray, number: NDArray) -> NDArray[np.float64]:
    """Mean over repeated images of the variance across repeats (ddof 1), shape (units,)."""
    return mean_over_rows(image_moments(responses, number).variance)


def signal_power(responses: NDArray, number: NDArray) -> NDArray[np.float64]:
    """Variance across images of the expected response, without bias, shape (units,).

    With n repeats of every image, ``[var(sum_j r_j) - sum_j var(r_j)] / (n (n - 1))`` with the
    variance over images (ddof 1) and j the j-th presentation [1]_. With unequal repeats, the
    variance of the image means less the variance that noise gives them. NaN for constant units.

    References
    ----------
    .. [1] Schoppe et al. (2016), doi:10.3389/fncom.2016.00010
    """
    moments = image_moments(responses, number)
    known = moments.count > 1
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = total_variance(np.where(known, moments.mean, np.nan))
        of_mean = np.where(known, moments.variance / moments.count, np.nan)
        power = spread - mean_over_rows(of_mean)
    repeats = np.bincount(number)
    shown = repeats[repeats > 1]
    if len(shown) > 1 and (shown == shown[0]).all():
        keep = repeats[number] > 1
        order = np.argsort(number[keep], kind="stable")
        n = int(shown[0])
        block = responses[keep][order].reshape(len(shown), n, -1)
        of_sum = block.sum(1).var(0, ddof=1)
        equal = (of_sum - block.var(0, ddof=1).sum(0)) / (n * (n - 1))
        power = np.where(np.isnan(equal), power, equal)  # a unit with a NaN trial has unequal ones
    return np.where(np.isnan(total_variance(responses)), np.nan, power)
