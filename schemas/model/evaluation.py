"""How good ensembles are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import datajoint as dj

from schemas import dataset
from schemas.model.binding import schema
from schemas.model.ensembles import EnsembleSpec, MemberShares, load_ensemble
from schemas.model.training import TrainedModel  # noqa: F401  in a foreign key
from schemas.store import number

MEASURES = {
    "single_trial": "single_trial",
    "single_trial_frozen": "single_trial_frozen",
    "to_average": "to_average",
    "oracle": "oracle",
    "fraction_oracle": "fraction_oracle",
    "fraction_oracle_frozen": "fraction_oracle_frozen",
    "fev": "fev",
    "feve": "feve",
    "cc_norm": "cc_norm",
}
"""Column of `Evaluation` and `Evaluation.Unit` -> name in pipeline.model.evaluate."""


@schema
class Evaluation(dj.Computed):
    definition = """
    # How well an ensemble predicts: validation guides choices, all else is the test tier's
    -> EnsembleSpec
    ---
    n_members       : int16          # models in the ensemble
    validation=null : float64        # (1) single-trial correlation, validation tier, mean
    validation_frozen=null : float64  # (1) the same with behavior and gaze at their means
    single_trial=null : float64      # (1) correlation over single trials, mean over units
    single_trial_frozen=null : float64  # (1) the same with behavior and gaze at their means
    to_average=null : float64        # (1) correlation with the mean over repeats, mean over units
    oracle=null     : float64        # (1) correlation with the mean of the other repeats, mean
    fraction_oracle=null : float64   # (1) slope of single_trial on oracle through the origin
    fraction_oracle_frozen=null : float64  # (1) slope of single_trial_frozen on oracle
    fev=null        : float64        # (1) explainable share of the variance, mean over units
    feve=null       : float64        # (1) explained share of the explainable, mean over units
    cc_norm=null    : float64        # (1) correlation over its ceiling by signal power, mean
    """

    class Member(dj.Part):
        definition = """
        # Model that took part
        -> master
        -> TrainedModel
        """

    class Shares(dj.Part):
        definition = """
        # Shares of the members that were used; without a row, equal ones
        -> master
        -> MemberShares
        """

    class Unit(dj.Part):
        definition = """
        # Measures of one unit; null if not defined
        -> master
        -> dataset.Dataset.Unit
        ---
        validation=null : float64    # (1) single-trial correlation on the validation tier
        validation_frozen=null : float64  # (1) the same with behavior and gaze at their means
        single_trial=null : float64  # (1) correlation over single trials
        single_trial_frozen=null : float64  # (1) the same with behavior and gaze at their means
        to_average=null : float64    # (1) correlation with the mean over repeats
        oracle=null : float64        # (1) correlation with the mean of the other repeats
        fraction_oracle=null : float64  # (1) single_trial / oracle
        fraction_oracle_frozen=null : float64  # (1) single_trial_frozen / oracle
        fev=null    : float64        # (1) explainable share of the variance
        feve=null   : float64        # (1) explained share of the explainable variance
        cc_norm=null : float64       # (1) correlation normalized by the signal power
        """

    class Measure(dj.Part):
        definition = """
        # Every measure of the scan, with its 95 percent interval from a bootstrap over units
        -> master
        tier        : varchar(16)    # validation or test
        measure     : varchar(64)    # name in pipeline.model.evaluate
        ---
        value=null  : float64        # (1) mean over units, or slope through the origin
        low=null    : float64        # (1) lower bound
        high=null   : float64        # (1) upper bound
        """

    @property
    def key_source(self):
        """Ensembles whose members are all trained, and their shares known."""
        return EnsembleSpec.complete()

    def make_fetch(self, key):
        data = (EnsembleSpec & key).fetch1("dataset_hash")
        members = (EnsembleSpec.Member & key).keys(order_by=["model_hash", "seed"])
        weights = EnsembleSpec.fetch_weights(key)
        shares = (MemberShares & key).keys()
        file = dataset.Dataset.fetch_file({"dataset_hash": data})
        return weights, {"Member": members, "Shares": shares}, file, data

    def make_compute(self, key, weights, used, file, data_hash):
        from pipeline.model.evaluate import evaluate

        ensemble, data = load_ensemble(weights), dataset.load_dataset(file)
        row: dict[str, Any] = {"n_members": len(ensemble)}
        units: list[dict[str, Any]] = [{"unit_index": i} for i in range(data.n_units)]
        held = evaluate(ensemble, data, tier="validation")
        _record(
            row,
            units,
            held,
            {"validation": "single_trial", "validation_frozen": "single_trial_frozen"},
        )
        measures = _measures("validation", held)
        if len(data.trials("test")):
            shown = evaluate(ensemble, data, tier="test")
            _record(row, units, shown, MEASURES)
            measures += _measures("test", shown)
        else:
            for target in (row, *units):
                target.update(dict.fromkeys(MEASURES))
        return row, units, measures, used, data_hash

    def make_insert(self, key, row, units, measures, used, data_hash):
        self.insert1({**key, **row})
        for part, rows in used.items():
            getattr(self, part).insert({**used_row, **key} for used_row in rows)
        self.Unit.insert({**key, "dataset_hash": data_hash, **unit} for unit in units)
        self.Measure.insert({**key, **measure} for measure in measures)


def _record(row: dict, units: list[dict], found: Any, columns: Mapping[str, str]) -> None:
    for column, name in columns.items():
        row[column] = number(found.per_scan[name])
        for unit, value in zip(units, found.per_unit[name], strict=True):
            unit[column] = number(value)


def _measures(tier: str, found: Any) -> list[dict[str, Any]]:
    """Return the rows of `Evaluation.Measure` of one tier."""
    bounds = ("low", "high")
    names = [name for name in found.per_scan if name.rpartition("_")[2] not in bounds]
    return [
        {
            "tier": tier,
            "measure": name,
            "value": number(found.per_scan[name]),
            **{bound: number(found.per_scan.get(f"{name}_{bound}")) for bound in bounds},
        }
        for name in names
    ]
