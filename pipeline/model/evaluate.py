"""How well a model predicts: per-unit measures, each with its definition, and per scan."""

from __future__ import annotations

import sys
import types
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.dataset import Dataset
from pipeline.dataset.moments import (
    as_trials,
    correlate,
    image_moments,
    mean_over_rows,
    noise_variance,
    others_mean,
    signal_power,
    total_variance,
)
from pipeline.errors import DataError
from pipeline.parameters import check_indices
from pipeline.rng import generator

from .ensemble import Ensemble
from .evaluation.intervals import intervals

N_BOOTSTRAP = 1000


def metrics(
    responses: ArrayLike, predictions: ArrayLike, image_id: ArrayLike
) -> dict[str, NDArray[np.float64]]:
    """Compare predictions with responses to repeated images.

    Parameters
    ----------
    responses, predictions : array, shape (trials, units)
        In the same units.
    image_id : array, shape (trials,)
        Image of every trial; repeats may be unequal.

    Returns
    -------
    dict of arrays, shape (units,)
        - `single_trial`: Pearson over all trials.
        - `to_average`: Pearson over images of the means over repeats.
        - `oracle`: Pearson of every trial with the mean of the other repeats of its image.
        - `fraction_oracle`: `single_trial` / `oracle`.
        - `fev`: (total - noise) / total, with the variance over all trials and the mean over
          images of the variance across repeats, both ddof 1 [1]_.
        - `feve`: 1 - (mse - noise) / (total - noise) [1]_.
        - `cc_norm`: cov(mean response, prediction) / sqrt(var(prediction) SP), with the signal
          power SP of [2]_, over repeated images.

        NaN for a unit that never varies, and for all but `single_trial` and `to_average` if no
        image is repeated.

    Raises
    ------
    ValueError
        If shapes disagree.

    References
    ----------
    .. [1] Cadena et al. (2019), doi:10.1371/journal.pcbi.1006897
    .. [2] Schoppe et al. (2016), doi:10.3389/fncom.2016.00010

    Examples
    --------
    >>> responses = np.array([[1.0], [3.0], [4.0], [8.0]])  # two images, shown twice
    >>> predictions = np.array([[1.0], [2.0], [5.0], [6.0]])
    >>> found = metrics(responses, predictions, ["a", "a", "b", "b"])
    >>> found["to_average"].round(3).tolist()
    [1.0]
    """
    responses, number = as_trials(responses, image_id)
    predictions = np.asarray(predictions, np.float64)
    if predictions.shape != responses.shape:
        raise ValueError(f"predictions {predictions.shape} must match responses {responses.shape}")
    lost = np.isnan(responses) | np.isnan(predictions)
    if lost.any():
        responses = np.where(lost, np.nan, responses)
        predictions = np.where(lost, np.nan, predictions)
    moments = image_moments(responses, number)
    mean_response = moments.mean
    mean_prediction = image_moments(predictions, number).mean
    with np.errstate(invalid="ignore", divide="ignore"):
        single = correlate(responses, predictions)
        oracle = correlate(responses, others_mean(responses, number))
        total, noise = total_variance(responses), noise_variance(responses, number)
        mse = mean_over_rows((responses - predictions) ** 2)
        power = signal_power(responses, number)
        # an image shown once says nothing about signal power
        mean_known = np.where(moments.count > 1, mean_prediction, np.nan)
        cc_norm = _covariance(mean_response, mean_known)
        cc_norm /= np.sqrt(total_variance(mean_known) * power)
        return {
            "single_trial": single,
            "to_average": correlate(mean_response, mean_prediction),
            "oracle": oracle,
            "fraction_oracle": single / oracle,
            "fev": (total - noise) / total,
            "feve": 1 - (mse - noise) / (total - noise),
            "cc_norm": cc_norm,
        }


def _covariance(x: NDArray, y: NDArray) -> NDArray[np.float64]:
    valid = ~(np.isnan(x) | np.isnan(y))
    x, y = np.where(valid, x, np.nan), np.where(valid, y, np.nan)
    product = (x - mean_over_rows(x)) * (y - mean_over_rows(y))
    n = valid.sum(0)
    return mean_over_rows(product) * n / (n - 1)


@dataclass(frozen=True)
class MeanResponses:
    """Responses to the images of one tier, repeats averaged, beside what a model predicts.

    Attributes
    ----------
    measured, sem, predicted : arrays, shape (images, units)
        Mean over repeats, its standard error (NaN if shown once), and the prediction at mean
        behavior and gaze; in the units of the data set.
    image_index : array of int, shape (images,)
        Rows of `Dataset.images`.
    """

    measured: NDArray[np.float64]
    sem: NDArray[np.float64]
    predicted: NDArray[np.float64]
    image_index: NDArray[np.int64]


def mean_responses(
    ensemble: Ensemble, dataset: Dataset, units: ArrayLike, tier: str = "test"
) -> MeanResponses:
    """Average the responses of some units to every image of a tier, and predict them.

    Parameters
    ----------
    ensemble : Ensemble
    dataset : Dataset
        Of the same units.
    units : array of int
        Columns of the responses.
    tier : str

    Raises
    ------
    DataError
        If the tier has no trials.
    """
    trials = dataset.trials(tier)
    if not len(trials):
        raise DataError("no trials to average", field="tiers", found=f"no {tier}")
    units = check_indices(units, dataset.n_units)
    responses, number = as_trials(dataset.responses[trials][:, units], dataset.image_id[trials])
    first = np.unique(number, return_index=True)[1]
    index = dataset.image_index[trials][first]
    moments = image_moments(responses, number)
    with np.errstate(invalid="ignore", divide="ignore"):
        sem = np.sqrt(moments.variance / moments.count)
    predicted = ensemble.predict(dataset.images[index], units=units)
    return MeanResponses(moments.mean, sem, np.asarray(predicted, np.float64), index)


def slope_through_origin(x: ArrayLike, y: ArrayLike) -> float:
    """Least-squares slope of y on x through the origin, over units where both are known."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    valid = np.isfinite(x) & np.isfinite(y)
    square = float((x[valid] ** 2).sum())
    return float((x[valid] * y[valid]).sum() / square) if square > 0 else float("nan")


@dataclass(frozen=True)
class Evaluation:
    """Measures of an ensemble on one tier.

    `per_unit` holds arrays of shape (units,): all of `metrics` with the behavior and gaze of each
    trial, and `..._low`, `..._high` that bound 95 % of a bootstrap of each over images;
    `single_trial_frozen`, `to_average_frozen` and `fraction_oracle_frozen` for predictions at mean
    behavior and gaze (a model that knows the behavior may pass a fraction of 1, since the oracle
    does not); and `member_single_trial`, shape (members, units).

    `per_scan` holds the mean over units of each, except that both fractions of the oracle are
    slopes through the origin of correlation on oracle (also under `..._slope`); `..._low` and
    `..._high` bound 95 % of a bootstrap over units; `n_units` were known.
    """

    per_unit: dict[str, NDArray[np.float64]]
    per_scan: dict[str, float]


def evaluate(ensemble: Ensemble, dataset: Dataset, tier: str = "test") -> Evaluation:
    """Evaluate an ensemble, or a single encoder in one, on a tier of a data set.

    Parameters
    ----------
    ensemble : Ensemble
    dataset : Dataset
        Of the same units.
    tier : str
        'test' for reports; only 'validation' may guide a choice.

    Returns
    -------
    Evaluation

    Raises
    ------
    DataError
        If the tier has no trials.

    Examples
    --------
    >>> from pipeline.model.build import build_encoder
    >>> from pipeline.model.ensemble import Ensemble
    >>> rng, ids = np.random.default_rng(0), np.repeat(np.arange(6), 3)
    >>> images = rng.integers(0, 256, (6, 36, 64), np.uint8)
    >>> tiers = np.repeat(["train", "validation", "test"], 6)
    >>> data = Dataset(images, ids, ids, rng.random((18, 2)), tiers)
    >>> encoder = build_encoder({"core": {"channels": 4}}, data)
    >>> evaluate(Ensemble([encoder]), data).per_unit["single_trial"].shape
    (2,)
    """
    trials = dataset.trials(tier)
    if not len(trials):
        raise DataError("no trials to evaluate", field="tiers", found=f"no {tier}")
    if dataset.n_units != ensemble.n_units:
        raise ValueError(f"model has {ensemble.n_units} units, the data set {dataset.n_units}")
    responses = dataset.responses[trials].astype(np.float64)
    ids = dataset.image_id[trials]
    used, index = np.unique(dataset.image_index[trials], return_inverse=True)
    frozen = ensemble.predict(dataset.images[used])[index.reshape(-1)]
    behavior = None if dataset.behavior is None else dataset.behavior[trials]
    pupil = None if dataset.pupil_center is None else dataset.pupil_center[trials]
    images = dataset.images[dataset.image_index[trials]]
    members = ensemble.predict_members(images, behavior, pupil)
    unit = metrics(responses, ensemble.combine(members, np.float64), ids)
    still = metrics(responses, frozen, ids)
    for name in ("single_trial", "to_average", "fraction_oracle"):
        unit[f"{name}_frozen"] = still[name]
    scan = _summarize(unit)
    unit["member_single_trial"] = np.stack([correlate(responses, m) for m in members])
    scan["member_single_trial"] = float(np.nanmean(unit["member_single_trial"]))
    for name, (low, high) in intervals(responses, ensemble.combine(members), ids).items():
        unit[f"{name}_low"], unit[f"{name}_high"] = low, high
    return Evaluation(unit, scan)


def _summarize(unit: dict[str, NDArray[np.float64]]) -> dict[str, float]:
    slopes = {"fraction_oracle": "single_trial", "fraction_oracle_frozen": "single_trial_frozen"}
    n = len(unit["oracle"])
    draws = generator(0, "bootstrap units").integers(0, n, size=(N_BOOTSTRAP, n))
    scan: dict[str, float] = {"n_units": int(np.isfinite(unit["single_trial"]).sum())}
    for name, values in unit.items():
        if name in slopes:
            known = np.isfinite(unit["oracle"]) & np.isfinite(unit[slopes[name]])
            top = np.where(known, unit["oracle"] * unit[slopes[name]], 0.0)
            bottom = np.where(known, unit["oracle"] ** 2, 0.0)
            scan[f"{name}_slope"] = slope_through_origin(unit["oracle"], unit[slopes[name]])
        else:
            known = np.isfinite(values)
            top, bottom = np.where(known, values, 0.0), known.astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            scan[name] = float(top.sum() / bottom.sum())
            drawn = top[draws].sum(1) / bottom[draws].sum(1)
        drawn = drawn[np.isfinite(drawn)]
        low, high = np.percentile(drawn, [2.5, 97.5]) if len(drawn) else (np.nan, np.nan)
        scan[f"{name}_low"], scan[f"{name}_high"] = float(low), float(high)
    return scan


class _Callable(types.ModuleType):
    """Module that is called as its function: `pipeline.model.evaluate(...)`, beside `.metrics`."""

    def __call__(self, ensemble: Ensemble, dataset: Dataset, tier: str = "test") -> Evaluation:
        return evaluate(ensemble, dataset, tier)


_Callable.__call__.__doc__ = evaluate.__doc__
sys.modules[__name__].__class__ = _Callable
