"""How sure every measure of one unit is: a bootstrap over images, for all units at once.

Every measure is a function of sums over trials, so that an image drawn twice counts its sums
twice: a thousand bootstrap samples are a few matrix products.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.dataset.moments import (
    as_trials,
    image_moments,
    image_sums,
    mean_over_rows,
    others_mean,
    total_variance,
)
from pipeline.rng import generator

UNITS_AT_ONCE = 256


def intervals(
    responses: ArrayLike,
    predictions: ArrayLike,
    image_id: ArrayLike,
    *,
    n_samples: int = 500,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Bound every measure of `metrics` by drawing images, with all their repeats, anew.

    Parameters
    ----------
    responses, predictions : array, shape (trials, units)
        NaN trials are left out.
    image_id : array, shape (trials,)
        Image of every trial.
    n_samples : int
        Bootstrap samples.
    level : float
        Share of the samples within the bounds.
    seed : int
        Names the samples.

    Returns
    -------
    dict of (low, high), each shape (units,)
        NaN where the measure is.
    """
    responses, number = as_trials(responses, image_id)
    predictions = np.asarray(predictions, np.float64)
    n_images = int(number.max()) + 1
    drawn = generator(seed, "bootstrap images").integers(0, n_images, (n_samples, n_images))
    weights = np.stack([np.bincount(sample, minlength=n_images) for sample in drawn])
    tail = 50 * (1 - level)
    low: dict[str, list[NDArray]] = {}
    high: dict[str, list[NDArray]] = {}
    for start in range(0, responses.shape[1], UNITS_AT_ONCE):
        part = slice(start, start + UNITS_AT_ONCE)
        found = weighted_metrics(responses[:, part], predictions[:, part], number, weights)
        for name, values in found.items():
            a, b = _percentiles(values, (tail, 100 - tail))
            low.setdefault(name, []).append(a)
            high.setdefault(name, []).append(b)
    return {name: (np.concatenate(low[name]), np.concatenate(high[name])) for name in low}


def weighted_metrics(
    responses: NDArray, predictions: NDArray, number: NDArray, weights: NDArray
) -> dict[str, NDArray[np.float64]]:
    """Return every measure as if image i had been shown ``weights[s, i]`` times over.

    Parameters
    ----------
    responses, predictions : array, shape (trials, units)
    number : int array, shape (trials,)
        Number of each trial's image, from 0.
    weights : array, shape (samples, images)
        With ones, the measures are those of `metrics`, with the signal power of unequal repeats.

    Returns
    -------
    dict of arrays, shape (samples, units)
    """
    lost = np.isnan(responses) | np.isnan(predictions)
    x = np.where(lost, np.nan, responses)
    silent = np.isnan(total_variance(x))
    x = x - mean_over_rows(x)  # sums of squares of what is far from 0 lose digits
    y = np.where(lost, np.nan, predictions)
    shift = mean_over_rows(y) - mean_over_rows(np.where(lost, np.nan, responses))
    y = y - mean_over_rows(y)
    moments, predicted = image_moments(x, number), image_moments(y, number).mean
    repeated = moments.count > 1

    def total(per_image: NDArray) -> NDArray[np.float64]:
        return weights @ np.where(np.isfinite(per_image), per_image, 0.0)

    def trials(a: NDArray, b: NDArray) -> _Sums:
        known = np.isfinite(a) & np.isfinite(b)
        a, b = np.where(known, a, 0.0), np.where(known, b, 0.0)
        per_image = (known.astype(np.float64), a, b, a * a, b * b, a * b)
        return _Sums(*(total(image_sums(values, number)) for values in per_image))

    def images(a: NDArray, b: NDArray) -> _Sums:
        known = np.isfinite(a) & np.isfinite(b)
        a, b = np.where(known, a, 0.0), np.where(known, b, 0.0)
        return _Sums(*map(total, (known.astype(np.float64), a, b, a * a, b * b, a * b)))

    with np.errstate(invalid="ignore", divide="ignore"):
        single, oracle = trials(x, y), trials(x, others_mean(x, number))
        averages = images(moments.mean, predicted)
        means = images(np.where(repeated, moments.mean, np.nan), predicted)
        shown = total(repeated.astype(np.float64))
        noise = total(moments.variance) / shown
        of_mean = total(moments.variance / moments.count) / shown
        variance = single.variance_x()
        error = x - y - shift
        mse = total(image_sums(np.where(np.isfinite(error), error**2, 0.0), number)) / single.n
        power = means.variance_x() - of_mean
        found = {
            "single_trial": single.pearson(),
            "to_average": averages.pearson(),
            "oracle": oracle.pearson(),
            "fraction_oracle": single.pearson() / oracle.pearson(),
            "fev": (variance - noise) / variance,
            "feve": 1 - (mse - noise) / (variance - noise),
            "cc_norm": means.covariance() / np.sqrt(means.variance_y() * power),
        }
    return {name: np.where(silent, np.nan, values) for name, values in found.items()}


class _Sums:
    """Sums over pairs (x, y), from which moments follow; arrays of shape (samples, units)."""

    def __init__(self, n, x, y, xx, yy, xy) -> None:
        self.n, self.x, self.y, self.xx, self.yy, self.xy = n, x, y, xx, yy, xy

    def covariance(self) -> NDArray[np.float64]:
        return (self.xy - self.x * self.y / self.n) / (self.n - 1)

    def variance_x(self) -> NDArray[np.float64]:
        return (self.xx - self.x**2 / self.n) / (self.n - 1)

    def variance_y(self) -> NDArray[np.float64]:
        return (self.yy - self.y**2 / self.n) / (self.n - 1)

    def pearson(self) -> NDArray[np.float64]:
        square = self.variance_x() * self.variance_y()
        return np.where(square > 0, self.covariance() / np.sqrt(square), np.nan)


def _percentiles(values: NDArray, at: tuple[float, float]) -> tuple[NDArray, NDArray]:
    """Percentiles over samples, NaN left out; NaN for a unit that lacks most samples."""
    known = np.isfinite(values)
    enough = known.sum(0) > len(values) // 2
    filled = np.where(known & enough, values, np.nan)
    filled[:, ~enough] = 0.0
    low, high = np.nanpercentile(filled, at, axis=0)
    return np.where(enough, low, np.nan), np.where(enough, high, np.nan)
