"""The verdict of a loop: every neuron's responses to its own images, compared.

`outcome_methods` run the whole of it on one scan, or on several days of the same neurons.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from pipeline.closed_loop.verdict import adjusted  # noqa: F401  registers its method
from pipeline.closed_loop.verdict.confusion import Confusion, confusion
from pipeline.closed_loop.verdict.moments import Moments, normalized, pool, response_moments
from pipeline.closed_loop.verdict.statistics import (
    Comparison,
    Population,
    benjamini_hochberg,
    compare,
    population,
)
from pipeline.closed_loop.verdict.trials import Outcome, Trials, outcome_methods, sem, takes_gain
from pipeline.registry import config_hash

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
    "takes_gain",
]


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
    trials = Trials.of(responses, image, images_by_kind, reference, normalization)
    comparisons, populations = [], []
    for kind in trials.kinds[1:]:
        own, other = trials.scores(reference), trials.scores(kind)
        result = compare(*own, *other, alpha=alpha, min_trials=min_trials)
        neurons = np.arange(len(result.difference))
        comparisons.append(pd.DataFrame({"neuron": neurons, "kind": kind, **vars(result)}))
        spread = np.sqrt(sem(*own[1:]) ** 2 + sem(*other[1:]) ** 2)
        total = population(
            result, spread, animal=animal, confidence=confidence, n_bootstrap=n_bootstrap, seed=seed
        )
        populations.append({"kind": kind, **asdict(total)})
    return trials.outcome(comparisons, populations)


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
