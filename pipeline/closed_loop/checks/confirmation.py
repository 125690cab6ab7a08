"""A check of matches by function: the same cell likes the same natural images on both days."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import spearmanr

from pipeline.closed_loop.verdict.moments import normalized, response_moments


@dataclass(frozen=True)
class Confirmation:
    """Tuning of matched pairs to the images that both days repeat.

    Attributes
    ----------
    matrix : array, shape (pairs, pairs)
        Pearson correlation over images, source unit of the row with target unit of the column.
    correlation, rank : arrays, shape (pairs,)
        The diagonal, and the share of the other target units that each source unit correlates
        less with (chance 0.5). NaN for a unit that does not vary.
    n_images : int
        Images that both days repeat.
    median_correlation, median_rank, fraction_first : float
        Over pairs; the last is the share of rows whose largest entry is the diagonal.
    """

    matrix: NDArray[np.float64]
    correlation: NDArray[np.float64]
    rank: NDArray[np.float64]
    n_images: int
    median_correlation: float
    median_rank: float
    fraction_first: float


def confirm(
    source: ArrayLike,
    source_image: ArrayLike,
    target: ArrayLike,
    target_image: ArrayLike,
    *,
    min_repeats: int = 5,
    min_images: int = 5,
) -> Confirmation:
    """Correlate mean responses to shared repeated images, over all pairs of matched units.

    A check, never the criterion: choosing pairs by their tuning would select the result.

    Parameters
    ----------
    source, target : arrays, shape (trials, pairs)
        Responses of matched units: column k of both is pair k.
    source_image, target_image : arrays, shape (trials,)
        Content hashes.
    min_repeats : int
        Fewest presentations of an image on each day (published: more than four).

    Raises
    ------
    ValueError
        If fewer than `min_images` images are shared, or the numbers of columns differ.

    References
    ----------
    Walker et al. (2019), Supplementary Figure 2, doi:10.1038/s41593-019-0517-x
    """
    days = [
        response_moments(normalized(responses, "zscore"), image)
        for responses, image in ((source, source_image), (target, target_image))
    ]
    shapes = [np.shape(responses)[1] for responses in (source, target)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"column k of both days is pair k, got {shapes[0]} and {shapes[1]}")
    counts = [dict(zip(day.image, day.n.max(1, initial=0), strict=True)) for day in days]
    shared = sorted(
        image
        for image in counts[0].keys() & counts[1].keys()
        if min(count[image] for count in counts) >= min_repeats
    )
    if len(shared) < min_images:
        raise ValueError(
            f"{len(shared)} images are shown >= {min_repeats} times on both days, need {min_images}"
        )
    means = [day.mean[day.at(shared)] for day in days]
    unit = []
    for mean in means:
        centred = mean - mean.mean(0)
        length = np.sqrt((centred**2).sum(0))
        with np.errstate(invalid="ignore", divide="ignore"):  # a unit that never varies is NaN
            unit.append(np.where(length > 1e-9, centred / length, np.nan))
    matrix = unit[0].T @ unit[1]
    own = np.diag(matrix)
    known = np.isfinite(matrix) & ~np.eye(len(own), dtype=bool)
    count = known.sum(1)
    below = (known & (matrix < own[:, None])).sum(1)
    rank = np.divide(below, count, out=np.full(len(own), np.nan), where=count > 0)
    rank = np.where(np.isfinite(own), rank, np.nan)
    return Confirmation(
        matrix=matrix,
        correlation=own,
        rank=rank,
        n_images=len(shared),
        median_correlation=_median(own),
        median_rank=_median(rank),
        fraction_first=float((rank[np.isfinite(rank)] >= 1).mean()) if count.any() else np.nan,
    )


@dataclass(frozen=True)
class Prediction:
    """Predicted against measured responses of one kind of image, over neurons.

    Attributes
    ----------
    n : int
        Neurons with both.
    correlation, correlation_normalized : float
        Spearman's over neurons, as measured and after division by each neuron's gain of the day.
    ratio, ratio_normalized : float
        Median of measured over predicted.
    """

    n: int
    correlation: float
    correlation_normalized: float
    ratio: float
    ratio_normalized: float


def day_gain(
    source: ArrayLike,
    source_image: ArrayLike,
    target: ArrayLike,
    target_image: ArrayLike,
    *,
    min_images: int = 3,
) -> NDArray[np.float64]:
    """Return how much more each matched unit responds on the target's day to the same images.

    Slope through the origin of the target's mean responses on the source's, over the images that
    both days show: indicator, expression and focus differ, and change all responses of a cell.

    Parameters
    ----------
    source, target : arrays, shape (trials, pairs)
        Responses of matched units (a.u., not normalized).

    Returns
    -------
    array, shape (pairs,)
        NaN where fewer than `min_images` are shared, or the source does not respond.
    """
    days = [response_moments(r, i) for r, i in ((source, source_image), (target, target_image))]
    shared = sorted(set(days[0].image) & set(days[1].image))
    gain = np.full(np.shape(source)[1], np.nan)
    if len(shared) < min_images:
        return gain
    one, two = (np.nan_to_num(day.mean[day.at(shared)]) for day in days)
    power = (one**2).sum(0)
    return np.divide((one * two).sum(0), power, out=gain, where=power > 0)


def predicted_measured(predicted: ArrayLike, measured: ArrayLike, gain: ArrayLike) -> Prediction:
    """Compare predictions with raw mean responses, without and with the gain of the day.

    Parameters
    ----------
    predicted, measured, gain : arrays, shape (neurons,)
        NaN where not known; gains that are not positive are not used.
    """
    predicted, measured, gain = (np.asarray(v, float) for v in (predicted, measured, gain))
    gain = np.where(gain > 0, gain, np.nan)
    found = []
    for values in (measured, measured / gain):
        known = np.isfinite(predicted) & np.isfinite(values)
        rho = spearmanr(predicted[known], values[known])[0] if known.sum() > 2 else np.nan
        positive = known & (predicted > 0)
        found.append((float(rho), _median(values[positive] / predicted[positive])))
    n = int((np.isfinite(predicted) & np.isfinite(measured)).sum())
    return Prediction(n, found[0][0], found[1][0], found[0][1], found[1][1])


def _median(values: NDArray) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else float("nan")
