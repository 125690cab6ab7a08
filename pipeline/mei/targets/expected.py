"""The recommended rule: what is expected of a unit, noise taken into account."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .data import TargetData, TargetResult, target_rules
from .evidence import CNN, LN, Evidence, regression
from .selection import Selection, percentile


@target_rules.register("expected", default=True)
def expected(
    data: TargetData,
    *,
    n_targets: int = 150,
    edge_um: float = 10.0,
    distance_um: float = 20.0,
    min_expected: float = 0.1,
    share_of_best: float = 0.4,
    full_gain: float = 0.1,
    ln_weight: float = 0.25,
    assumed_error: float = 0.05,
) -> TargetResult:
    """Take the units of which the best prediction is expected.

    A unit's validation correlation, the LN model's, and its oracle are noisy measurements whose
    errors are known (`Evidence`). What is expected without the noise follows from the unit itself
    and from all others (`regression`), so that a unit is not taken because it was lucky. A unit
    that is known to be linear has an MEI no better than its receptive field and comes last; where
    the noise hides by how much the CNN is better, nothing is held against a unit.

    Parameters
    ----------
    data : TargetData
        With `evidence`; without it `cnn_score`, `ln_score` and `oracle` are taken with the error
        `assumed_error`.
    n_targets : int
        At most so many; fewer if fewer pass.
    edge_um : float
        Least distance to the field's edge.
    distance_um : float
        Least distance between targets; of two nearer ones the better stays.
    min_expected : float
        Least expected correlation with responses to validation images.
    share_of_best : float
        The same as a share of that of the 95th percentile.
    full_gain : float
        Share of its own expected correlation by which the CNN has to be above the LN model, one
        standard error added; with half of it a unit counts half in the ranking, and so on.
    ln_weight : float
        How much of the LN model's expected correlation is subtracted in the ranking.
    assumed_error : float
        Standard error of correlations of which none was measured.
    """
    measured = data.evidence
    if measured is None:
        measured = Evidence.assumed(data.cnn_score, data.ln_score, data.oracle, assumed_error)
    found = regression(measured)
    cnn, ln = found.value[:, CNN], np.nan_to_num(found.value[:, LN])
    chosen = Selection(data)
    seen = np.isfinite(measured.value[:, CNN])
    chosen.require(seen, "validation score of the CNN is not known")
    chosen.require_above(cnn, min_expected, "expected score of the CNN")
    best = percentile(cnn[chosen.alive], 95)
    if np.isfinite(best):
        chosen.require_above(cnn, share_of_best * best, "expected score of the CNN")
    chosen.inside(edge_um)
    gain = np.nan_to_num(found.contrast + found.contrast_error, nan=np.inf)
    with np.errstate(invalid="ignore", divide="ignore"):
        counted = np.where(full_gain * cnn > 0, np.clip(gain / (full_gain * cnn), 0, 1), 1.0)
    score = (cnn - ln_weight * np.maximum(ln, 0)) * counted
    result = chosen.thin_out(score, n_targets, distance_um)
    return replace(result, shrunken=found)
