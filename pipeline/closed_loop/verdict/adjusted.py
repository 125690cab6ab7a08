"""A comparison that knows each trial's gain and takes heavy tails: permutation per neuron."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from pipeline.closed_loop.verdict.statistics import Comparison, benjamini_hochberg, population
from pipeline.closed_loop.verdict.trials import Outcome, Trials, by_day, outcome_methods
from pipeline.rng import generator

GAINS = (0.25, 4.0)  # a gain beyond is no gain: what a model says at the edge of its data


@outcome_methods.register("gain_permutation")
def gain_permutation(
    responses: ArrayLike | Sequence[ArrayLike],
    image: ArrayLike | Sequence[ArrayLike],
    images_by_kind: Mapping[str, Sequence[str | None]],
    animal: ArrayLike | None = None,
    gain: ArrayLike | Sequence[ArrayLike] | None = None,
    *,
    reference: str = "mei",
    normalization: Literal["sd", "zscore", "raw"] = "sd",
    alpha: float = 0.05,
    min_trials: int = 3,
    confidence: float = 0.95,
    n_permutations: int = 4999,
    n_bootstrap: int = 2000,
    seed: int = 0,
) -> Outcome:
    """Compare the reference with every control: permutation per neuron, Wilcoxon over neurons.

    Every response is divided by the gain that the animal's state had on its trial. A neuron's
    score on a trial is the adjusted response and its rank among all trials of both images, in
    equal parts: ranks do not hear how far out a single trial lies, responses hear how large the
    others are. The difference of the mean scores is tested against that of trials whose images
    are permuted, within each day.

    Parameters
    ----------
    responses, image, images_by_kind, animal
        As in `welch_bh`.
    gain : array, shape (trials, neurons), or a list of them, one per day, optional
        Factor by which the state of the animal (pupil, running, gaze) changes the neuron's
        response to the image of the trial; known without these responses, as from the model of
        day 1. NaN where not known: 1. Default: 1 throughout.
    reference, normalization, alpha, min_trials, confidence, n_bootstrap, seed
        As in `welch_bh`.
    n_permutations : int
        Drawn for the p of a neuron, whose smallest value is 1 / (n_permutations + 1).

    Returns
    -------
    Outcome
        `difference` is half the difference of the adjusted means and half that of the ranks, in
        units of the method: ranks are scaled to the standard deviation of the responses. `ratio`
        is that of the adjusted means; `t` and `df` are of the scores, as if they were normal.

    Raises
    ------
    ValueError
        If shapes disagree or the reference is not among the kinds.

    References
    ----------
    Permutation of ranks as of values: Conover and Iman (1981), doi:10.2307/2683975; p of drawn
    permutations: Phipson and Smyth (2010), doi:10.2202/1544-6115.1585
    """
    trials = Trials.of(responses, image, images_by_kind, reference, normalization)
    gains = _gains(gain, trials.days)
    adjusted = [day / factor for day, factor in zip(trials.days, gains, strict=True)]
    comparisons, populations = [], []
    for kind in trials.kinds[1:]:
        result, spread = _compare(trials, adjusted, kind, alpha, min_trials, n_permutations, seed)
        neurons = np.arange(len(result.difference))
        comparisons.append(pd.DataFrame({"neuron": neurons, "kind": kind, **vars(result)}))
        total = population(
            result, spread, animal=animal, confidence=confidence, n_bootstrap=n_bootstrap, seed=seed
        )
        populations.append({"kind": kind, **asdict(total)})
    return trials.outcome(comparisons, populations)


def _gains(
    gain: ArrayLike | Sequence[ArrayLike] | None, days: list[NDArray]
) -> list[NDArray[np.float64]]:
    if gain is None:
        return [np.ones(day.shape) for day in days]
    given, _ = by_day(gain)
    if [g.shape for g in given] != [day.shape for day in days]:
        raise ValueError(
            f"gains {[g.shape for g in given]} do not fit responses {[d.shape for d in days]}"
        )
    return [np.clip(np.where(np.isfinite(g), g, 1.0), *GAINS) for g in given]


def _compare(
    trials: Trials,
    adjusted: list[NDArray],
    kind: str,
    alpha: float,
    min_trials: int,
    n_permutations: int,
    seed: int,
) -> tuple[Comparison, NDArray]:
    """Test every neuron; return the comparison and the standard errors of the differences."""
    n_neurons = adjusted[0].shape[1]
    names = [trials.own[which] for which in (trials.kinds[0], kind)]
    difference, ratio, t, df, p, error = np.full((6, n_neurons), np.nan)
    scored = np.zeros(n_neurons, bool)
    waiting: dict[tuple, list[tuple[int, NDArray]]] = {}
    for neuron in range(n_neurons):
        values, is_own, sizes = _own_trials(trials, adjusted, names, neuron)
        scored[neuron] = min(is_own.sum(), (~is_own).sum()) >= min_trials
        if not scored[neuron]:
            continue
        mean_own, mean_other = values[is_own].mean(), values[~is_own].mean()
        ratio[neuron] = mean_own / mean_other if mean_other > 0 else np.nan
        sd = values.std()
        if sd <= 1e-12 * np.abs(values).max():  # a silent neuron
            difference[neuron], p[neuron] = 0.0, 1.0
            continue
        rank = rankdata(values)
        score = (values - values.mean() + sd * (rank - rank.mean()) / rank.std()) / 2
        own, other = score[is_own], score[~is_own]
        difference[neuron] = own.mean() - other.mean()
        df[neuron] = len(score) - 2
        pooled = ((own - own.mean()) ** 2).sum() + ((other - other.mean()) ** 2).sum()
        error[neuron] = np.sqrt(pooled / df[neuron] * (1 / len(own) + 1 / len(other)))
        if error[neuron] > 0:
            t[neuron] = difference[neuron] / error[neuron]
        waiting.setdefault(sizes, []).append((neuron, score))
    rng = generator(seed, "permutation", kind)
    for sizes in sorted(waiting):
        drawn = _permutations(rng, sizes, n_permutations)
        for neuron, score in waiting[sizes]:
            # all sums of the reference's trials; the total is fixed, so that these say it all
            expected = (
                np.concatenate([np.full(a + b, a / (a + b)) for a, b in sizes if a + b]) @ score
            )
            found = np.concatenate([np.r_[np.ones(a), np.zeros(b)] for a, b in sizes]) @ score
            extreme = np.abs(drawn @ score - expected) >= np.abs(found - expected) * (1 - 1e-9)
            p[neuron] = (1 + extreme.sum()) / (1 + n_permutations)
    q = benjamini_hochberg(p)
    with np.errstate(invalid="ignore"):
        significant = q <= alpha
    return Comparison(difference, ratio, t, df, p, q, significant, scored), error


def _own_trials(
    trials: Trials, adjusted: list[NDArray], names: list, neuron: int
) -> tuple[NDArray, NDArray[np.bool_], tuple[tuple[int, int], ...]]:
    """Return a neuron's responses to its two images, day by day, the reference's first."""
    values, is_own, sizes = [], [], []
    for day, shown in zip(adjusted, trials.names, strict=True):
        parts = [
            day[shown == name[neuron], neuron] if name[neuron] is not None else np.zeros(0)
            for name in names
        ]
        parts = [part[np.isfinite(part)] for part in parts]
        values += parts
        is_own += [np.ones(len(parts[0]), bool), np.zeros(len(parts[1]), bool)]
        sizes.append((len(parts[0]), len(parts[1])))
    return np.concatenate(values), np.concatenate(is_own), tuple(sizes)


def _permutations(
    rng: np.random.Generator, sizes: tuple[tuple[int, int], ...], count: int
) -> NDArray[np.float32]:
    """Return which trials (count, trials) are called the reference's, within each day."""
    parts = []
    for own, other in sizes:
        order = np.argsort(rng.random((count, own + other)), axis=1)
        parts.append((order < own).astype(np.float32))
    return np.concatenate(parts, axis=1)
