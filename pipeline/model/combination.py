"""Which members of an ensemble speak for which unit, chosen on the validation tier."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.dataset import Dataset
from pipeline.dataset.moments import correlate
from pipeline.errors import DataError
from pipeline.registry import Registry

from .ensemble import Ensemble

combinations = Registry("combination of members")


@combinations.register("peers", default=True)
def peers(
    responses: NDArray[np.floating],
    predictions: NDArray[np.floating],
    kinds: ArrayLike,
    *,
    at_least: float = 0.95,
) -> NDArray[np.float64]:
    """Let a kind of model speak for the units that it predicts as well as the best kind does.

    The kind that predicts the population best speaks for every unit. Where another kind does as
    well, the two are two estimates of one function with errors of their own, and their plain mean
    has less of both; where it does not, its share is 0. Shares fitted by least squares
    (non-negative stacking [1]_) are no better than the noise of a validation tier: here they
    predict worse than the best kind alone, and so do their shrunken relatives.

    Parameters
    ----------
    responses : array, shape (trials, units)
        Measured; NaN where they are not known.
    predictions : array, shape (members, trials, units)
    kinds : int array, shape (members,)
        Members of one number differ by their seed alone.
    at_least : float
        Correlation that a kind must reach, as a share of that of the best kind.

    Returns
    -------
    array, shape (members, units)
        Shares that add up to 1.

    References
    ----------
    .. [1] Breiman (1996), Machine Learning, doi:10.1007/BF00117832
    """
    kinds = np.asarray(kinds)
    names = np.unique(kinds)
    means = [predictions[kinds == name].mean(0, dtype=np.float64) for name in names]
    r = np.nan_to_num(np.stack([correlate(responses, mean) for mean in means]))
    best = int(r.mean(1).argmax())
    speaks = (r > 0) & (r >= at_least * r[best])
    speaks[best] = True
    shares = speaks / speaks.sum(0)
    return np.stack([shares[names == kind][0] / (kinds == kind).sum() for kind in kinds])


def fit_shares(
    ensemble: Ensemble,
    dataset: Dataset,
    method: str | None = None,
    params: Mapping[str, Any] | None = None,
) -> NDArray[np.float64]:
    """Return the shares of an ensemble's members in the prediction of every unit.

    Parameters
    ----------
    ensemble : Ensemble
        Its own shares do not matter. Members of one configuration are of one kind.
    dataset : Dataset
        Of the same units; only its validation tier is looked at.
    method : str, optional
        Name in `combinations`; default its default.
    params : dict, optional
        Parameters of the method that differ from its defaults.

    Returns
    -------
    array, shape (members, units)

    Raises
    ------
    DataError
        If there is no validation tier.
    ValueError
        If the data set has other units.

    Examples
    --------
    >>> from pipeline.model.build import build_encoder
    >>> from pipeline.model.ensemble import Ensemble
    >>> rng = np.random.default_rng(0)
    >>> images = rng.integers(0, 256, (12, 36, 64), np.uint8)
    >>> tiers = np.repeat(["train", "validation"], 6)
    >>> data = Dataset(images, np.arange(12), np.arange(12), rng.random((12, 2)), tiers)
    >>> one = {"core": {"channels": 4}}
    >>> ensemble = Ensemble([build_encoder(one, data, seed) for seed in (0, 1)])
    >>> fit_shares(ensemble, data).tolist()  # of one configuration: equal shares
    [[0.5, 0.5], [0.5, 0.5]]
    """
    trials = dataset.trials("validation")
    if not len(trials):
        raise DataError("no trials to fit shares on", field="tiers", found="no validation")
    if dataset.n_units != ensemble.n_units:
        raise ValueError(f"model has {ensemble.n_units} units, the data set {dataset.n_units}")
    behavior = None if dataset.behavior is None else dataset.behavior[trials]
    pupil = None if dataset.pupil_center is None else dataset.pupil_center[trials]
    images = dataset.images[dataset.image_index[trials]]
    predictions = ensemble.predict_members(images, behavior, pupil)
    hashes = [encoder.model_hash for encoder in ensemble.encoders]
    kinds = np.unique(hashes, return_inverse=True)[1].reshape(-1)
    name = method or combinations.default
    given = combinations.complete(name, params)
    return combinations[name](dataset.responses[trials], predictions, kinds, **given)


def mean_and_sd(
    values: NDArray[np.floating], shares: NDArray[np.floating] | None
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Return mean and standard deviation over members, by their shares (None: equal ones).

    Parameters
    ----------
    values, shares : array, shape (members, n)

    Returns
    -------
    mean, sd : array, shape (n,)
        sd is NaN if there is one member, and 0 where one alone speaks.
    """
    if len(values) < 2:
        return values[0], np.full(values.shape[1], np.nan)
    if shares is None:
        return values.mean(0), values.std(0, ddof=1)
    mean = (values * shares).sum(0)
    return mean, np.sqrt(spread(values, mean, shares))


def spread(values: Any, mean: Any, shares: Any, least: float = 1e-12) -> Any:
    """Return the variance over members by their shares; with equal ones that of n - 1.

    Parameters
    ----------
    values, shares : array or tensor, shape (members, n)
    mean : array or tensor, shape (n,)
        Of the values, by shares.
    least : float
        Bounds the divisor: where one member alone speaks, there is no variance.
    """
    divisor = (1 - (shares**2).sum(0)).clip(least)
    return (shares * (values - mean) ** 2).sum(0) / divisor
