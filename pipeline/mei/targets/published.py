"""Rules by scores as they were measured: the published ones, and one by validation images."""

from __future__ import annotations

import numpy as np

from .data import TargetData, TargetResult, target_rules
from .selection import Selection, percentile


@target_rules.register("validation")
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
    chosen = Selection(data)
    chosen.require_above(data.cnn_score, min_score, "validation score of the CNN")
    best = percentile(np.asarray(data.cnn_score, float)[chosen.alive], 95)
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
    chosen = Selection(data)
    chosen.require_above(data.oracle, percentile(data.oracle, oracle_percentile), "oracle")
    chosen.inside(edge_um)
    fractions = {"CNN": np.asarray(data.cnn_fraction), "LN": np.asarray(data.ln_fraction)}
    # of the reliable units: over all, the highest fractions are those of oracles near 0
    limits = {n: percentile(v[chosen.alive], fraction_percentile) for n, v in fractions.items()}
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
    chosen = Selection(data)
    chosen.require_above(data.oracle, min_oracle, "oracle")
    chosen.inside(edge_um)
    chosen.require(np.isfinite(np.asarray(data.cnn_score, float)), "score is not known")
    return chosen.thin_out(data.cnn_score, n_targets, distance_um)
