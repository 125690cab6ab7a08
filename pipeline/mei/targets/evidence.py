"""How well each unit is predicted, how well that is known, and what is expected without the noise.

A single trial can hold a large share of a unit's variance. Correlations are therefore of responses
whose extremes are cut off, each has a standard error from what every trial contributes to it, and
the units together say how much of the differences between them is noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.dataset.moments import as_trials, image_sums, mean_over_rows, others_mean

CNN, LN, ORACLE = range(3)  # columns of the evidence
TAIL = 0.01  # of the responses of a unit, at either end, that is cut off
ROUNDS = 200  # of the iteration over the population
LEAST_VARIANCE = 1e-6  # between units; keeps the population's covariance regular


@dataclass(frozen=True)
class Evidence:
    """Correlations of every unit with their errors; the columns are CNN, LN model and oracle.

    Attributes
    ----------
    value : array, shape (units, 3)
        Correlation of the predictions at mean behavior and gaze with the responses to validation
        images, of both models, and the oracle on half of the repeats. NaN where not known.
    covariance : array, shape (units, 3, 3)
        Of their errors. Both models are judged on the same trials, so that their errors agree.
    """

    value: NDArray[np.float64]
    covariance: NDArray[np.float64]

    @classmethod
    def assumed(
        cls, cnn: ArrayLike, ln: ArrayLike, oracle: ArrayLike, error: float, shared: float = 0.8
    ) -> Evidence:
        """Take correlations whose errors were not measured.

        Parameters
        ----------
        cnn, ln, oracle : array, shape (units,)
        error : float
            Standard error of each.
        shared : float
            Correlation of the errors of both models.
        """
        value = np.column_stack([np.asarray(v, np.float64) for v in (cnn, ln, oracle)])
        covariance = error**2 * np.eye(3)
        covariance[CNN, LN] = covariance[LN, CNN] = shared * error**2
        return cls(value, np.broadcast_to(covariance, (len(value), 3, 3)))

    def error(self, column: int) -> NDArray[np.float64]:
        """Return the standard error of a column, shape (units,)."""
        return np.sqrt(self.covariance[:, column, column])

    @property
    def contrast(self) -> NDArray[np.float64]:
        """What the CNN predicts beyond the LN model, shape (units,)."""
        return self.value[:, CNN] - self.value[:, LN]

    @property
    def contrast_error(self) -> NDArray[np.float64]:
        """Its standard error, shape (units,)."""
        c = self.covariance
        return np.sqrt(np.maximum(c[:, CNN, CNN] + c[:, LN, LN] - 2 * c[:, CNN, LN], 0))


def gather(
    responses: ArrayLike,
    cnn: ArrayLike,
    ln: ArrayLike,
    repeated: ArrayLike,
    image_id: ArrayLike,
) -> Evidence:
    """Measure the evidence of a data set.

    Parameters
    ----------
    responses : array, shape (trials, units)
        To validation images.
    cnn, ln : array, shape (trials, units)
        What the models predict at mean behavior and gaze.
    repeated : array, shape (trials, units)
        Responses to repeated images, in the order of presentation; every second presentation is
        looked at, as in `half_oracles`.
    image_id : array, shape (trials,)
        Of the repeated images.

    Returns
    -------
    Evidence
    """
    y = _without_extremes(responses)
    n_units = y.shape[1]
    value = np.full((n_units, 3), np.nan)
    covariance = np.full((n_units, 3, 3), np.nan)
    parts = []
    for column, predicted in ((CNN, cnn), (LN, ln)):
        value[:, column], share = _correlation(np.asarray(predicted, np.float64), y)
        parts.append(share)
    errors = np.stack(parts)
    covariance[:, :2, :2] = np.einsum("atn,btn->nab", errors, errors)
    names = np.asarray(image_id)
    turn, enough = presentations(names)
    seen = enough & (turn % 2 == 0)
    covariance[:, ORACLE, :2] = covariance[:, :2, ORACLE] = 0.0
    if len(set(names[seen].tolist())) > 1:
        trials, number = as_trials(np.asarray(repeated)[seen], names[seen])
        trials = _without_extremes(trials)
        value[:, ORACLE], share = _correlation(trials, others_mean(trials, number))
        covariance[:, ORACLE, ORACLE] = (image_sums(share, number) ** 2).sum(0)
    return Evidence(value, covariance)


def presentations(image_id: NDArray) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Count the presentations of every image, and mark the images with four or more.

    Parameters
    ----------
    image_id : array, shape (trials,)
        In the order of presentation.

    Returns
    -------
    array of int, array of bool, shape (trials,)
        0 for the first presentation of an image; whether it has at least four.
    """
    count: dict[object, int] = {}
    turn = np.empty(len(image_id), np.int64)
    for trial, name in enumerate(image_id.tolist()):
        turn[trial] = count.get(name, 0)
        count[name] = turn[trial] + 1
    enough = np.array([count[name] >= 4 for name in image_id.tolist()], bool)
    return turn, enough


def regression(evidence: Evidence) -> Evidence:
    """Return what is expected of each unit, given all units: empirical Bayes.

    The true correlations of the units are taken as draws from one normal distribution whose mean
    and covariance are estimated by expectation maximization; of each unit the posterior mean and
    covariance are returned. A unit that is known badly moves towards what the others, and its own
    other columns, say; the best of many units that are known badly are not that good.

    Parameters
    ----------
    evidence : Evidence

    Returns
    -------
    Evidence
        `value` and `covariance` of the posterior; NaN for a unit of which nothing is known.

    References
    ----------
    Efron and Morris (1972), Biometrika 59, 335-347: shrinkage of vector observations.
    """
    variance = np.diagonal(evidence.covariance, axis1=1, axis2=2)
    known = np.isfinite(evidence.value) & np.isfinite(variance)
    value = np.where(known, evidence.value, 0.0)
    precision = _precision(evidence.covariance, known)
    columns = known.any(0)
    mean = np.where(columns, value.sum(0) / np.maximum(known.sum(0), 1), 0.0)
    away = np.where(known, value - mean, 0.0)
    between = np.diag((away**2).sum(0) / np.maximum(known.sum(0), 1) + LEAST_VARIANCE)
    some = np.atleast_1d(known.any(1))
    weighted = np.einsum("nij,nj->ni", precision, value)
    for _ in range(ROUNDS if some.any() else 0):
        spread = np.linalg.inv(np.linalg.inv(between) + precision)
        pull = weighted + np.linalg.solve(between, mean)
        expected = np.einsum("nij,nj->ni", spread, pull)
        mean = expected[some].mean(0)
        away = expected[some] - mean
        between = (away.T @ away + spread[some].sum(0)) / some.sum()
        between = between + LEAST_VARIANCE * np.eye(3)
    spread = np.linalg.inv(np.linalg.inv(between) + precision)
    expected = np.einsum("nij,nj->ni", spread, weighted + np.linalg.solve(between, mean))
    expected[:, ~columns] = np.nan
    return Evidence(np.where(some[:, None], expected, np.nan), np.asarray(spread, np.float64))


def _precision(covariance: NDArray, known: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Invert the covariance of each unit's known columns; 0 for the others."""
    both = known[:, :, None] & known[:, None, :]
    alone = np.eye(3) * ~known[:, :, None]
    filled = np.where(both, np.nan_to_num(covariance), 0.0) + alone
    return np.where(both, np.linalg.inv(filled + LEAST_VARIANCE * np.eye(3)), 0.0)


def _without_extremes(responses: ArrayLike) -> NDArray[np.float64]:
    """Bring the extremes of every unit to the quantiles `TAIL` and 1 - `TAIL`."""
    values = np.asarray(responses, np.float64)
    silent = np.isnan(values).all(0)
    low, high = np.nanquantile(np.where(silent, 0.0, values), (TAIL, 1 - TAIL), axis=0)
    return np.clip(values, low, high)


def _correlation(x: NDArray, y: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the correlation down the columns and what each row adds to its error.

    The sum of the squares of the latter is the variance of the correlation, to first order (the
    influence of a trial on it), whatever the distribution is.
    """
    valid = ~(np.isnan(x) | np.isnan(y))
    x, y = (np.where(valid, a, np.nan) for a in (x, y))
    dx, dy = (np.where(valid, a - mean_over_rows(a), 0.0) for a in (x, y))
    n = valid.sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        zx, zy = (d / np.sqrt((d**2).sum(0) / n) for d in (dx, dy))
        r = (zx * zy).sum(0) / n
        share = (zx * zy - r * (zx**2 + zy**2) / 2) / n
    return np.where(np.isfinite(r), r, np.nan), share
