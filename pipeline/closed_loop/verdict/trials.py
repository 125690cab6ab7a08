"""What an outcome method takes and returns, and what all of them share."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from pipeline.closed_loop.verdict.confusion import Confusion, confusion
from pipeline.closed_loop.verdict.moments import Moments, normalized, pool, response_moments
from pipeline.registry import Registry

outcome_methods = Registry("outcome method")


def takes_gain(method: str) -> bool:
    """Tell whether an outcome method takes the gain of every trial as `gain`."""
    return "gain" in inspect.signature(outcome_methods[method]).parameters


@dataclass(frozen=True)
class Outcome:
    """What a loop showed.

    Attributes
    ----------
    responses : DataFrame
        One row per neuron (its place in the input) and kind: `neuron, kind, image, mean, sem, n`
        (in the unit of the method), `raw_mean, raw_sem`. Only neurons with that image.
    comparisons : DataFrame
        One row per neuron and control: `neuron, kind, difference, ratio, t, df, p, p_adjusted,
        significant, scored`; the difference is reference minus control.
    populations : DataFrame
        One row per control: `kind` and the attributes of `Population`.
    confusions : dict of kind to Confusion
        Rows and columns are the neurons of the input.
    kinds : list of str
        Kinds compared, the reference first.

    Notes
    -----
    A kind here is a name of `pipeline.stimulus.kinds`: `gabor`, and `gabor:1` for a neuron's second
    image of that kind.
    """

    responses: pd.DataFrame
    comparisons: pd.DataFrame
    populations: pd.DataFrame
    confusions: dict[str, Confusion]
    kinds: list[str]


@dataclass(frozen=True)
class Trials:
    """Responses of one presentation or several days of it, sorted by image.

    Attributes
    ----------
    days : list of arrays, shape (trials, neurons)
        In the unit of the method.
    names : list of arrays, shape (trials,)
        Image of every trial.
    own : dict of kind to list of image ids, length (neurons,)
        Own image of every neuron; None where it has none of that kind.
    kinds : list of str
        The reference first.
    moments, raw : Moments
        Over all days, in the unit of the method and as the responses are.
    """

    days: list[NDArray[np.float64]]
    names: list[NDArray]
    own: dict[str, list[str | None]]
    kinds: list[str]
    moments: Moments
    raw: Moments

    @classmethod
    def of(
        cls,
        responses: ArrayLike | Sequence[ArrayLike],
        image: ArrayLike | Sequence[ArrayLike],
        images_by_kind: Mapping[str, Sequence[str | None]],
        reference: str,
        normalization: str,
    ) -> Trials:
        """Check and sort what an outcome method was given.

        Raises
        ------
        ValueError
            If shapes disagree or the reference is not among the kinds.
        """
        days, names = _split(responses, image)
        n_neurons = days[0].shape[1]
        own = {kind: list(ids) for kind, ids in images_by_kind.items() if len(ids) == n_neurons}
        if reference not in own:
            raise ValueError(f"no {reference!r} image for {n_neurons} neurons; kinds {list(own)}")
        kinds = [reference, *(kind for kind in own if kind != reference)]
        scaled = [normalized(day, normalization) for day in days]
        moments = pool([response_moments(d, i) for d, i in zip(scaled, names, strict=True)])
        raw = pool([response_moments(d, i) for d, i in zip(days, names, strict=True)])
        return cls(scaled, names, own, kinds, moments, raw)

    def scores(self, kind: str) -> tuple[NDArray, NDArray, NDArray]:
        """Return mean, variance and n of every neuron for its own image of a kind."""
        return _own(self.moments, self.own[kind])

    def outcome(self, comparisons: list[pd.DataFrame], populations: list[dict]) -> Outcome:
        """Return the outcome: responses and confusions beside what a method compared."""
        rows = []
        for kind in self.kinds:
            mean, variance, n = self.scores(kind)
            has = np.flatnonzero([name is not None for name in self.own[kind]])
            raw_mean, raw_variance, raw_n = _own(self.raw, self.own[kind])
            rows.append(
                pd.DataFrame(
                    {
                        "neuron": has,
                        "kind": kind,
                        "image": [self.own[kind][i] for i in has],
                        "mean": mean[has],
                        "sem": sem(variance, n)[has],
                        "n": n[has].astype(int),
                        "raw_mean": raw_mean[has],
                        "raw_sem": sem(raw_variance, raw_n)[has],
                    }
                )
            )
        return Outcome(
            responses=pd.concat(rows, ignore_index=True),
            comparisons=pd.concat(comparisons, ignore_index=True)
            if comparisons
            else pd.DataFrame(),
            populations=pd.DataFrame(populations),
            confusions={
                kind: confusion(_matrix(self.moments, self.own[kind])) for kind in self.kinds
            },
            kinds=self.kinds,
        )


def by_day(values: Any) -> tuple[list[NDArray[np.float64]], bool]:
    """Return one array (trials, neurons) a day, and whether several days were given."""
    several = isinstance(values, (list, tuple)) and np.ndim(values[0]) == 2
    return [np.asarray(v, np.float64) for v in (values if several else [values])], several


def _split(responses: Any, image: Any) -> tuple[list[NDArray], list[NDArray]]:
    days, several = by_day(responses)
    names = [np.asarray(i).astype(str) for i in (image if several else [image])]
    if len(days) != len(names) or any(
        d.ndim != 2 or len(d) != len(i) for d, i in zip(days, names, strict=False)
    ):
        raise ValueError(
            f"responses (trials, neurons) {[d.shape for d in days]} do not fit "
            f"images (trials,) {[i.shape for i in names]}"
        )
    return days, names


def _own(moments: Moments, images: list[str | None]) -> tuple[NDArray, NDArray, NDArray]:
    """Mean, variance and n of every neuron for its own image."""
    row = moments.at(images)
    unit = np.arange(len(images))
    shown = row >= 0
    return (
        np.where(shown, moments.mean[row, unit], np.nan),
        np.where(shown, moments.variance[row, unit], np.nan),
        np.where(shown, moments.n[row, unit], 0),
    )


def _matrix(moments: Moments, images: list[str | None]) -> NDArray[np.float64]:
    row = moments.at(images)
    return np.where((row >= 0)[:, None], moments.mean[row], np.nan)


def sem(variance: NDArray, n: NDArray) -> NDArray[np.float64]:
    """Return the standard error of a mean; NaN without a trial."""
    return np.sqrt(np.divide(variance, n, out=np.full(len(n), np.nan), where=n > 0))
