"""The verdict of a loop: every neuron's responses to its own images, compared.

`outcome_methods` run the whole of it on one scan, or on several days of the same neurons.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from pipeline.closed_loop.verdict.confusion import Confusion, confusion
from pipeline.closed_loop.verdict.moments import Moments, normalized, pool, response_moments
from pipeline.closed_loop.verdict.statistics import (
    Comparison,
    Population,
    benjamini_hochberg,
    compare,
    population,
)
from pipeline.registry import Registry, config_hash

__all__ = [
    "Comparison",
    "Confusion",
    "Moments",
    "Outcome",
    "Population",
    "analysis_plan",
    "benjamini_hochberg",
    "compare",
    "confusion",
    "normalized",
    "outcome_methods",
    "pool",
    "population",
    "response_moments",
    "sensitivity",
]

outcome_methods = Registry("outcome method")


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


@outcome_methods.register("welch_bh", default=True)
def welch_bh(
    responses: ArrayLike | Sequence[ArrayLike],
    image: ArrayLike | Sequence[ArrayLike],
    images_by_kind: Mapping[str, Sequence[str | None]],
    animal: ArrayLike | None = None,
    *,
    reference: str = "mei",
    normalization: Literal["sd", "zscore", "raw"] = "sd",
    alpha: float = 0.05,
    min_trials: int = 3,
    confidence: float = 0.95,
    n_bootstrap: int = 2000,
    seed: int = 0,
) -> Outcome:
    """Compare the reference with every control: Welch per neuron, Wilcoxon over neurons.

    Parameters
    ----------
    responses : array, shape (trials, neurons), or a list of them, one per day
        Response of the matched unit of each neuron; only trials that passed the audit. NaN where
        not known; a column of NaN for a neuron that a day does not have. Give every trial of the
        scan, natural images too: the sd is over the scan.
    image : array, shape (trials,), or a list of them
        Content hash of the image on each trial.
    images_by_kind : mapping of kind to list of image ids, length (neurons,)
        Own image of every neuron; None where it has none of that kind. Lists of another length
        (natural images) are not compared.
    animal : array, shape (neurons,), optional
        Animal of each neuron, for the hierarchical bootstrap.
    reference : str
        Kind that all others are compared with.
    normalization : {"sd", "zscore", "raw"}
        Unit of the responses, per day, before days are pooled.
    alpha, min_trials, confidence, n_bootstrap, seed
        As in `compare` and `population`.

    Raises
    ------
    ValueError
        If shapes disagree or the reference is not among the kinds.

    References
    ----------
    Walker et al. (2019), doi:10.1038/s41593-019-0517-x; tests as Ding et al. (2023).
    """
    days, names = _days(responses, image)
    n_neurons = days[0].shape[1]
    own = {kind: list(ids) for kind, ids in images_by_kind.items() if len(ids) == n_neurons}
    if reference not in own:
        raise ValueError(f"no {reference!r} image for {n_neurons} neurons; kinds {list(own)}")
    kinds = [reference, *(kind for kind in own if kind != reference)]
    moments = pool(
        [
            response_moments(normalized(d, normalization), i)
            for d, i in zip(days, names, strict=True)
        ]
    )
    raw = pool([response_moments(d, i) for d, i in zip(days, names, strict=True)])
    scores = {kind: _own(moments, own[kind]) for kind in kinds}
    raw_scores = {kind: _own(raw, own[kind]) for kind in kinds}
    rows, comparisons, populations = [], [], []
    for kind in kinds:
        mean, variance, n = scores[kind]
        has = np.flatnonzero([name is not None for name in own[kind]])
        raw_mean, raw_variance, raw_n = raw_scores[kind]
        rows.append(
            pd.DataFrame(
                {
                    "neuron": has,
                    "kind": kind,
                    "image": [own[kind][i] for i in has],
                    "mean": mean[has],
                    "sem": _sem(variance, n)[has],
                    "n": n[has].astype(int),
                    "raw_mean": raw_mean[has],
                    "raw_sem": _sem(raw_variance, raw_n)[has],
                }
            )
        )
        if kind == reference:
            continue
        result = compare(*scores[reference], *scores[kind], alpha=alpha, min_trials=min_trials)
        table = pd.DataFrame({"neuron": np.arange(n_neurons), "kind": kind, **vars(result)})
        comparisons.append(table)
        spread = np.sqrt(_sem(*scores[reference][1:]) ** 2 + _sem(variance, n) ** 2)
        total = population(
            result, spread, animal=animal, confidence=confidence, n_bootstrap=n_bootstrap, seed=seed
        )
        populations.append({"kind": kind, **asdict(total)})
    return Outcome(
        responses=pd.concat(rows, ignore_index=True),
        comparisons=pd.concat(comparisons, ignore_index=True) if comparisons else pd.DataFrame(),
        populations=pd.DataFrame(populations),
        confusions={kind: confusion(_matrix(moments, own[kind])) for kind in kinds},
        kinds=kinds,
    )


def sensitivity(
    outcome: Outcome,
    score: ArrayLike,
    thresholds: Sequence[float],
    *,
    alpha: float = 0.05,
) -> pd.DataFrame:
    """Repeat the population result with only the better matched neurons.

    Parameters
    ----------
    score : array, shape (neurons,)
        Match probability (or minus distance, or functional confirmation).
    thresholds : sequence of float
        A neuron counts if its score is at least the threshold.

    Returns
    -------
    DataFrame
        `kind, threshold, n, fraction, fraction_significant, median_difference, wilcoxon_p`; the
        Benjamini-Hochberg correction is repeated within each subset.
    """
    score = np.asarray(score, np.float64)
    rows = []
    for kind, table in outcome.comparisons.groupby("kind", sort=False):
        for threshold in thresholds:
            use = table[table.scored.to_numpy() & (score[table.neuron] >= threshold)]
            difference = use.difference.to_numpy()
            with np.errstate(invalid="ignore"):
                significant = benjamini_hochberg(use.p) <= alpha
            zero = np.zeros(len(use))
            whole = population(
                Comparison(
                    difference,
                    use.ratio.to_numpy(),
                    use.t.to_numpy(),
                    use.df.to_numpy(),
                    use.p.to_numpy(),
                    zero,
                    significant,
                    use.scored.to_numpy(),
                ),
                zero,
                n_bootstrap=1,
            )
            rows.append(
                {
                    "kind": kind,
                    "threshold": float(threshold),
                    "n": whole.n,
                    "fraction": whole.fraction,
                    "fraction_significant": whole.fraction_significant,
                    "median_difference": whole.median_difference,
                    "wilcoxon_p": whole.wilcoxon_p,
                }
            )
    return pd.DataFrame(rows)


def analysis_plan(
    kinds: Sequence[str],
    *,
    method: str | None = None,
    params: Mapping | None = None,
    min_match_probability: float = 0.5,
) -> dict:
    """Return what will be compared and how, with a hash, to be frozen before day 2.

    Parameters
    ----------
    kinds : sequence of str
        Kinds that will be shown, the reference included.
    method, params
        Outcome method (default: the recommended) and parameters that differ from its defaults.
    min_match_probability : float
        Inclusion rule of matched neurons.
    """
    method = method or outcome_methods.default
    full = outcome_methods.complete(method, params)
    plan = {
        "comparisons": [[full["reference"], k] for k in kinds if k != full["reference"]],
        "method": method,
        "params": full,
        "inclusion": {"min_match_probability": min_match_probability, "trials": "audit ok"},
    }
    return {**plan, "hash": config_hash(plan)}


def _days(responses: Any, image: Any) -> tuple[list[NDArray], list[NDArray]]:
    several = isinstance(responses, (list, tuple)) and np.ndim(responses[0]) == 2
    days = [np.asarray(r, np.float64) for r in (responses if several else [responses])]
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


def _sem(variance: NDArray, n: NDArray) -> NDArray[np.float64]:
    return np.sqrt(np.divide(variance, n, out=np.full(len(n), np.nan), where=n > 0))
