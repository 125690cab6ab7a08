"""Which neurons get images of their own.

Models are judged on validation images, never on the test tier. How reliable a unit is, is judged
on one half of the repeats; the other half is left for the report.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.dataset.names import unit_name
from pipeline.dataset.reliability import oracle_correlation
from pipeline.registry import Registry

target_rules = Registry("target rule")


@dataclass(frozen=True)
class ByHand:
    """What a person decided about a unit: always a target, or never, and why."""

    included: bool
    why: str

    def __str__(self) -> str:
        return f"{'included' if self.included else 'excluded'} by hand: {self.why}"


@dataclass(frozen=True)
class TargetData:
    """What a rule may look at; arrays of shape (units,), NaN where something is not known.

    Attributes
    ----------
    oracle : array
        Reliability on the half of the repeats that selection may see (`half_oracles`); NaN if
        there are too few.
    cnn_score, ln_score : array
        Validation correlation of the ensembles.
    cnn_fraction, ln_fraction : array
        The same as a fraction of the oracle.
    y_px, x_px : array
        Centroid in its imaging field.
    um_xyz : array, shape (units, 3), or None
        Place in the tissue; without it distances are within a field.
    field_size_px : array, shape (2,) or (units, 2), or None
        Height and width of the field; None: no edges are known.
    field : int array
    um_per_px : float, (2,) or (units, 2), or None
        Along y and x.
    names : sequence of str, or None
        What the units are called in reasons; None: by their outputs.
    by_hand : mapping of int to ByHand, or None
        Units that a person decided about. They come before the rule: one that is excluded is no
        target, one that is included is, whatever its scores and however many others are better.
    """

    oracle: NDArray
    cnn_score: NDArray
    ln_score: NDArray
    cnn_fraction: NDArray
    ln_fraction: NDArray
    y_px: NDArray
    x_px: NDArray
    um_xyz: NDArray | None
    field_size_px: ArrayLike | None
    field: NDArray
    um_per_px: ArrayLike | None
    names: Sequence[str] | None = None
    by_hand: Mapping[int, ByHand] | None = None


@dataclass(frozen=True)
class TargetResult:
    """Chosen units; arrays of shape (units,)."""

    kept: NDArray[np.bool_]
    rank: NDArray[np.int64]  # 0 is the best, -1 if dropped
    reason: list[str]  # why a unit was dropped, or included by hand; else empty
    score: NDArray[np.float64]  # what the kept ones are ranked by

    def explained(self) -> list[str]:
        """Return why each unit was kept or dropped."""
        return [
            self.reason[unit] or f"kept: passes every limit, number {rank + 1} by {score:.3g}"
            for unit, (rank, score) in enumerate(zip(self.rank, self.score, strict=True))
        ]


def half_oracles(responses: ArrayLike, image_id: ArrayLike) -> NDArray[np.float64]:
    """Return the oracle on the odd and on the even presentations of every repeated image.

    Selection may look at the first, so that the second reports on the chosen units without having
    chosen them.

    Parameters
    ----------
    responses : array, shape (trials, units)
        Trials of repeated images, in the order of presentation.
    image_id : array, shape (trials,)

    Returns
    -------
    array, shape (2, units)
        NaN where an image has fewer than four presentations, or fewer than two have.
    """
    values, names = np.asarray(responses, float), np.asarray(image_id)
    count: dict[object, int] = {}
    turn = np.empty(len(names), int)
    for trial, name in enumerate(names.tolist()):
        turn[trial] = count.get(name, 0)
        count[name] = turn[trial] + 1
    enough = np.array([count[name] >= 4 for name in names.tolist()], bool)
    result = np.full((2, values.shape[1]), np.nan)
    if len(set(names[enough].tolist())) < 2:
        return result
    for half in (0, 1):
        chosen = enough & (turn % 2 == half)
        result[half] = oracle_correlation(values[chosen], names[chosen])
    return result


def fraction_of(score: ArrayLike, oracle: ArrayLike) -> NDArray[np.float64]:
    """Return scores as a fraction of the oracle; NaN where that is not positive or not known."""
    score, oracle = np.asarray(score, float), np.asarray(oracle, float)
    return np.divide(score, oracle, out=np.full(len(score), np.nan), where=oracle > 0)


class _Selection:
    """Units that are still in, and why the others are not."""

    def __init__(self, data: TargetData) -> None:
        self.data, self.n = data, len(data.oracle)
        self.reason = [""] * self.n
        self.alive = np.ones(self.n, bool)
        self.included = np.zeros(self.n, bool)
        for unit, decision in (data.by_hand or {}).items():
            self.included[unit] = decision.included
            self.alive[unit] = decision.included
            self.reason[unit] = _reason(decision)

    def require(self, good: NDArray, reason: str) -> None:
        """Drop living units that are not `good`; those included by hand get no reason."""
        for unit in np.flatnonzero(self.alive & ~good & ~self.included):
            self.reason[unit] = reason
        self.alive &= good

    def require_above(self, values: NDArray, limit: float, name: str) -> None:
        values = np.asarray(values, float)
        self.require(np.isfinite(values), f"{name} is not known")
        self.require(values > limit, f"{name} is not above {limit:.3g}")  # NaN is gone already

    def inside(self, edge_um: float) -> None:
        """Drop units nearer than `edge_um` to the edge of their field, where edges are known."""
        data = self.data
        if data.field_size_px is None:
            return
        size = np.broadcast_to(np.asarray(data.field_size_px, float), (self.n, 2))
        scale = _um_per_px(data, self.n)
        place = np.column_stack([data.y_px, data.x_px]).astype(float)
        with np.errstate(invalid="ignore"):
            near = np.minimum(place, size - 1 - place) * scale <= edge_um
        self.require(~near.any(1), f"centroid within {edge_um:g} um of the field's edge")

    def thin_out(self, score: NDArray, n_targets: int, distance_um: float) -> TargetResult:
        """Take units by score, none nearer than `distance_um` to a better one.

        Those included by hand come first, all of them.
        """
        place, field = _places(self.data, self.n)
        # equal scores: the order of the units decides, whatever the sort
        by_score = np.lexsort((np.arange(self.n), -np.nan_to_num(score, nan=-np.inf)))
        kept: list[int] = [int(unit) for unit in by_score if self.included[unit]]
        for unit in by_score:
            if not self.alive[unit] or self.included[unit]:
                continue
            if len(kept) >= n_targets:
                self.reason[unit] = f"not among the best {n_targets}"
                continue
            with np.errstate(invalid="ignore"):
                apart = np.sqrt(((place[kept] - place[unit]) ** 2).sum(1))
                near = (apart < distance_um) & (field[kept] == field[unit])
            if near.any():
                best = kept[int(np.flatnonzero(near)[0])]
                names = self.data.names
                name = unit_name(None, output=best) if names is None else names[best]
                self.reason[unit] = f"within {distance_um:g} um of better {name}"
            else:
                kept.append(int(unit))
        rank = np.full(self.n, -1, np.int64)
        rank[kept] = np.arange(len(kept))
        return TargetResult(rank >= 0, rank, self.reason, np.asarray(score, float))


def _reason(decision: ByHand) -> str:
    return f"kept: {decision}" if decision.included else str(decision)


def choose_targets(method: str, data: TargetData, params: Mapping[str, Any]) -> TargetResult:
    """Apply a target rule, and see to it that decisions by hand come before it.

    Parameters
    ----------
    method : str
        Name in `target_rules`. A rule of a plug-in that does not read `data.by_hand` has its
        choice corrected: excluded units go, included ones come first, and as many stay as
        `n_targets` says where the rule has such a parameter.
    data : TargetData
    params : mapping
        Keyword parameters of the rule.
    """
    result = target_rules[method](data, **params)
    by_hand = data.by_hand or {}
    if all(result.kept[unit] == decision.included for unit, decision in by_hand.items()):
        return result
    included = [unit for unit, decision in by_hand.items() if decision.included]
    score = np.nan_to_num(np.asarray(result.score, float), nan=-np.inf)
    first = sorted(included, key=lambda unit: (-score[unit], unit))
    others = [int(unit) for unit in np.argsort(result.rank) if result.kept[unit]]
    most = max(int(params.get("n_targets", len(score))), len(first))
    kept = [*first, *(unit for unit in others if unit not in by_hand)]
    reason = list(result.reason)
    for unit in kept[most:]:
        reason[unit] = f"not among the best {most}"
    for unit, decision in by_hand.items():
        reason[unit] = _reason(decision)
    rank = np.full(len(score), -1, np.int64)
    rank[kept[:most]] = np.arange(len(kept[:most]))
    return replace(result, kept=rank >= 0, rank=rank, reason=reason)


def _um_per_px(data: TargetData, n: int) -> NDArray[np.float64]:
    scale = 1.0 if data.um_per_px is None else data.um_per_px
    return np.broadcast_to(np.asarray(scale, float), (n, 2))


def _places(data: TargetData, n: int) -> tuple[NDArray, NDArray]:
    """Return places in um and the group within which distances count."""
    if data.um_xyz is not None:
        return np.asarray(data.um_xyz, float), np.zeros(n, int)
    place = np.column_stack([data.y_px, data.x_px]).astype(float) * _um_per_px(data, n)
    return place, np.asarray(data.field)


def _percentile(values: NDArray, percent: float) -> float:
    finite = np.asarray(values, float)
    finite = finite[np.isfinite(finite)]
    return float(np.percentile(finite, percent)) if len(finite) else np.inf


@target_rules.register("validation", default=True)
def validation(
    data: TargetData,
    *,
    n_targets: int = 150,
    edge_um: float = 10.0,
    distance_um: float = 20.0,
    min_score: float = 0.1,
    share_of_best: float = 0.4,
    min_oracle: float = 0.1,
    ln_weight: float = 1.0,
) -> TargetResult:
    """Take the units that the CNN predicts best on validation images.

    An image made for a unit is as good as the model of it, so that the validation score decides
    who passes. Ranked by what the CNN predicts beyond the LN model, as published: a unit that is
    linear has an MEI no better than its receptive field.

    Parameters
    ----------
    data : TargetData
    n_targets : int
        At most so many; fewer if fewer pass.
    edge_um : float
        Least distance to the field's edge.
    distance_um : float
        Least distance between targets; of two nearer ones the better stays.
    min_score : float
        Least validation correlation.
    share_of_best : float
        Least validation correlation as a share of that of the 95th percentile.
    min_oracle : float
        Least reliability, where it is known.
    ln_weight : float
        How much of the LN model's score is subtracted in the ranking.
    """
    chosen = _Selection(data)
    chosen.require_above(data.cnn_score, min_score, "validation score of the CNN")
    best = _percentile(np.asarray(data.cnn_score, float)[chosen.alive], 95)
    if np.isfinite(best):
        chosen.require_above(data.cnn_score, share_of_best * best, "validation score of the CNN")
    oracle = np.asarray(data.oracle, float)
    chosen.require(np.isnan(oracle) | (oracle > min_oracle), f"oracle is not above {min_oracle:g}")
    chosen.inside(edge_um)
    ln = np.nan_to_num(np.asarray(data.ln_score, float))
    return chosen.thin_out(
        np.asarray(data.cnn_score, float) - ln_weight * np.maximum(ln, 0), n_targets, distance_um
    )


@target_rules.register("walker2019", revision=2)
def walker2019(
    data: TargetData,
    *,
    n_targets: int = 150,
    oracle_percentile: float = 50.0,
    fraction_percentile: float = 70.0,
    edge_um: float = 10.0,
    distance_um: float = 20.0,
) -> TargetResult:
    """Take what the CNN predicts better than the LN model, among what both predict well.

    The published rule (reliable half; off the edge; both models above the 70th percentile of
    fraction oracle; ranked by their difference; none within 20 um of a better one), from
    validation data and half of the repeats where the published one used the test tier.

    Parameters
    ----------
    n_targets : int
        Most units to take.
    oracle_percentile : float
        Units above this percentile of the oracle correlation are reliable (%).
    fraction_percentile : float
        Percentile of fraction oracle that both models have to exceed (%).
    edge_um : float
        Least distance from the edge of the field (um).
    distance_um : float
        Least distance between two units (um).

    References
    ----------
    Walker et al. (2019), Nature Neuroscience, doi:10.1038/s41593-019-0517-x
    """
    chosen = _Selection(data)
    chosen.require_above(data.oracle, _percentile(data.oracle, oracle_percentile), "oracle")
    chosen.inside(edge_um)
    fractions = {"CNN": np.asarray(data.cnn_fraction), "LN": np.asarray(data.ln_fraction)}
    # of the reliable units: over all, the highest fractions are those of oracles near 0
    limits = {n: _percentile(v[chosen.alive], fraction_percentile) for n, v in fractions.items()}
    for name, values in fractions.items():
        chosen.require_above(values, limits[name], f"fraction oracle of the {name}")
    difference = np.asarray(data.cnn_fraction, float) - np.asarray(data.ln_fraction, float)
    return chosen.thin_out(difference, n_targets, distance_um)


@target_rules.register("successor")
def successor(
    data: TargetData,
    *,
    n_targets: int = 150,
    min_oracle: float = 0.5,
    edge_um: float = 10.0,
    distance_um: float = 25.0,
) -> TargetResult:
    """Take the best predicted of the reliable units, as the later system does.

    It spares neighbors whose fluorescence is not correlated; here every unit within
    `distance_um` of a better one goes.
    """
    chosen = _Selection(data)
    chosen.require_above(data.oracle, min_oracle, "oracle")
    chosen.inside(edge_um)
    chosen.require(np.isfinite(np.asarray(data.cnn_score, float)), "score is not known")
    return chosen.thin_out(data.cnn_score, n_targets, distance_um)
