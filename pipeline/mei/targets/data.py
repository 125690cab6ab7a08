"""What rules for targets look at, and what they return."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.dataset.reliability import oracle_correlation
from pipeline.registry import Registry

from .evidence import Evidence, presentations

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
    evidence : Evidence, optional
        Correlations that outliers do not rule, with their errors (`gather`); None: not measured.
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
    evidence: Evidence | None = None
    by_hand: Mapping[int, ByHand] | None = None


@dataclass(frozen=True)
class TargetResult:
    """Chosen units; arrays of shape (units,)."""

    kept: NDArray[np.bool_]
    rank: NDArray[np.int64]  # 0 is the best, -1 if dropped
    reason: list[str]  # why a unit was dropped, or included by hand; else empty
    score: NDArray[np.float64]  # what the kept ones are ranked by
    shrunken: Evidence | None = None  # what is expected of each unit, by a rule that estimates it

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
    turn, enough = presentations(names)
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
