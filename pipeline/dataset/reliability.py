"""How much of a unit's response is the image's: measures over repeated images.

All take responses (trials, units) and the image of every trial; images shown once are ignored,
repeats may be unequal, a unit that never varies gives NaN.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.errors import DataError
from pipeline.registry import Registry
from pipeline.rng import generator

from .moments import (
    as_trials,
    correlate,
    image_moments,
    mean_over_rows,
    noise_variance,
    others_mean,
    signal_power,
    total_variance,
)

reliability_methods = Registry("reliability measure")


def _repeated(
    responses: ArrayLike, image_id: ArrayLike, min_repeats: int, min_images: int
) -> tuple[NDArray, NDArray[np.int64]]:
    """Keep the trials of images with enough repeats."""
    if min_repeats < 2:
        raise ValueError(f"min_repeats must be 2 or more, got {min_repeats}")
    responses, number = as_trials(responses, image_id)
    keep = np.bincount(number)[number] >= min_repeats if len(number) else np.zeros(0, bool)
    n = len(np.unique(number[keep]))
    if n < min_images:
        raise DataError(
            "too few repeated images",
            field="image_id",
            found=f"{n} with >= {min_repeats} repeats",
            expected=f"{min_images} or more",
            remedy="show some images repeatedly",
        )
    return responses[keep], np.unique(number[keep], return_inverse=True)[1].reshape(-1)


@reliability_methods.register("oracle", default=True)
def oracle_correlation(
    responses: ArrayLike, image_id: ArrayLike, *, min_repeats: int = 2, min_images: int = 2
) -> NDArray[np.float64]:
    """Correlate each trial with the mean of the other repeats of the same image.

    Parameters
    ----------
    responses : array, shape (trials, units)
        Response on every trial (a.u.).
    image_id : array, shape (trials,)
        Image of every trial.
    min_repeats : int
        Fewest repeats from which an image counts (published: 5).
    min_images : int
        Fewest images from which a correlation is reported.

    Returns
    -------
    array, shape (units,)
        Pearson correlation pooled over all trials of all repeated images.

    Raises
    ------
    DataError
        If too few images are repeated.

    References
    ----------
    Walker et al. (2019), doi:10.1038/s41593-019-0517-x; REFERENCE 2.7.
    """
    responses, number = _repeated(responses, image_id, min_repeats, min_images)
    return correlate(responses, others_mean(responses, number))


@reliability_methods.register("conservative_oracle")
def conservative_oracle(
    responses: ArrayLike, image_id: ArrayLike, *, min_repeats: int = 2, min_images: int = 2
) -> NDArray[np.float64]:
    """Oracle from variances: sqrt(V / (V + N)), conservative for who is divided by it.

    V is the variance over images of the mean response and N the mean over images of the variance
    across repeats (both ddof 0), so that noise left in the means counts as signal: it
    overestimates the correlation of single trials with the true mean and never flatters a model.

    Parameters
    ----------
    responses, image_id, min_repeats, min_images
        As for `oracle`.

    Returns
    -------
    array, shape (units,)

    References
    ----------
    The `conservative` oracle of sinzlab's published measures (REFERENCE 4.1).
    """
    responses, number = _repeated(responses, image_id, min_repeats, min_images)
    moments = image_moments(responses, number)
    spread = np.nanvar(moments.mean, axis=0)
    noise = mean_over_rows(moments.variance * (moments.count - 1) / moments.count)
    silent = np.isnan(total_variance(responses))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(silent, np.nan, np.sqrt(spread / (spread + noise)))


@reliability_methods.register("split_half")
def split_half(
    responses: ArrayLike,
    image_id: ArrayLike,
    *,
    min_repeats: int = 2,
    min_images: int = 3,
    n_splits: int = 50,
    corrected: bool = True,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Correlate the image means of random halves of the repeats, averaged over splits.

    Parameters
    ----------
    responses, image_id, min_repeats, min_images
        As for `oracle`.
    n_splits : int
        Random splits.
    corrected : bool
        Extrapolate to all repeats by Spearman and Brown's ``2 r / (1 + r)``.
    seed : int
        Names the splits.

    Returns
    -------
    array, shape (units,)
    """
    responses, number = _repeated(responses, image_id, min_repeats, min_images)
    rng = generator(seed, "split half")
    total = np.zeros(responses.shape[1])
    for _ in range(n_splits):
        rank = _shuffled_rank(number, rng)
        half = rank < (np.bincount(number)[number] // 2)
        means = [image_moments(responses[side], number[side]).mean for side in (half, ~half)]
        total += correlate(*means)
    r = total / n_splits
    return 2 * r / (1 + r) if corrected else r


def _shuffled_rank(number: NDArray, rng: np.random.Generator) -> NDArray[np.int64]:
    """Rank of each trial among the repeats of its image, in random order."""
    order = np.lexsort((rng.random(len(number)), number))
    rank = np.empty(len(number), np.int64)
    starts = np.concatenate([[0], np.cumsum(np.bincount(number))])
    rank[order] = np.arange(len(number)) - starts[number[order]]
    return rank


@reliability_methods.register("signal_power")
def signal_power_measure(
    responses: ArrayLike, image_id: ArrayLike, *, min_repeats: int = 2, min_images: int = 2
) -> NDArray[np.float64]:
    """Variance across images of the expected response, unbiased (Schoppe et al. 2016).

    Parameters
    ----------
    responses, image_id, min_repeats, min_images
        As for `oracle`.

    Returns
    -------
    array, shape (units,)
        In squared units of the response; may be slightly negative for an untuned unit.
    """
    return signal_power(*_repeated(responses, image_id, min_repeats, min_images))


@reliability_methods.register("noise_power")
def noise_power(
    responses: ArrayLike, image_id: ArrayLike, *, min_repeats: int = 2, min_images: int = 2
) -> NDArray[np.float64]:
    """Mean over images of the variance across repeats (ddof 1), in squared response units.

    Parameters
    ----------
    responses, image_id, min_repeats, min_images
        As for `oracle`.

    Returns
    -------
    array, shape (units,)
    """
    responses, number = _repeated(responses, image_id, min_repeats, min_images)
    silent = np.isnan(total_variance(responses))
    return np.where(silent, np.nan, noise_variance(responses, number))


@reliability_methods.register("explainable_variance")
def explainable_variance(
    responses: ArrayLike, image_id: ArrayLike, *, min_repeats: int = 2, min_images: int = 2
) -> NDArray[np.float64]:
    """Fraction of the variance that a perfect image model could explain: (total - noise) / total.

    Parameters
    ----------
    responses, image_id, min_repeats, min_images
        As for `oracle`.

    Returns
    -------
    array, shape (units,)
        FEV of Cadena et al. (2019), doi:10.1371/journal.pcbi.1006897.
    """
    responses, number = _repeated(responses, image_id, min_repeats, min_images)
    total = total_variance(responses)
    return (total - noise_variance(responses, number)) / total


@reliability_methods.register("cc_max")
def cc_max(
    responses: ArrayLike, image_id: ArrayLike, *, min_repeats: int = 2, min_images: int = 2
) -> NDArray[np.float64]:
    """Largest correlation with the image means that a model can reach: sqrt(SP / var(mean)).

    Parameters
    ----------
    responses, image_id, min_repeats, min_images
        As for `oracle`.

    Returns
    -------
    array, shape (units,)
        0 where the signal power is not positive.

    References
    ----------
    Schoppe et al. (2016), doi:10.3389/fncom.2016.00010
    """
    responses, number = _repeated(responses, image_id, min_repeats, min_images)
    power = signal_power(responses, number)
    spread = total_variance(image_moments(responses, number).mean)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.sqrt(np.clip(power, 0, None) / spread)
    return np.where(np.isnan(power), np.nan, np.minimum(ratio, 1.0))


@reliability_methods.register("bootstrap_null")
def bootstrap_null(
    responses: ArrayLike,
    image_id: ArrayLike,
    *,
    min_repeats: int = 2,
    min_images: int = 2,
    n_shuffles: int = 100,
    seed: int = 0,
) -> NDArray[np.float64]:
    """P value of the oracle against trials whose images are shuffled.

    Parameters
    ----------
    responses, image_id, min_repeats, min_images
        As for `oracle`.
    n_shuffles : int
        Random assignments of images to trials; the smallest p is 1 / (n_shuffles + 1).
    seed : int
        Names the shuffles.

    Returns
    -------
    array, shape (units,)
        One-sided p: small for a reliable unit.
    """
    responses, number = _repeated(responses, image_id, min_repeats, min_images)
    observed = correlate(responses, others_mean(responses, number))
    rng = generator(seed, "bootstrap null")
    reached = np.zeros(len(observed))
    for _ in range(n_shuffles):
        shuffled = rng.permutation(number)
        reached += correlate(responses, others_mean(responses, shuffled)) >= observed
    return np.where(np.isnan(observed), np.nan, (reached + 1) / (n_shuffles + 1))
