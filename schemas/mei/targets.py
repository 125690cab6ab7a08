"""Which units to make stimuli for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import datajoint as dj
import numpy as np

from pipeline.errors import DataError
from pipeline.registry import config_hash
from schemas import dataset, imaging, model
from schemas.mei.binding import schema
from schemas.mei.decisions import DecisionSet, decided_units  # noqa: F401  one in a foreign key
from schemas.method import Methods, MethodTable
from schemas.store import number

if TYPE_CHECKING:
    from pipeline.mei.targets import Evidence, TargetData


@schema
class TargetRule(MethodTable, dj.Lookup):
    definition = """
    # Selection of target units with its complete parameters
    target_hash     : char(16)       # hash of method and parameters
    ---
    target_method   : varchar(64)    # name in pipeline.mei.targets
    target_params   : json           # every keyword parameter, defaults filled in
    """
    registry = Methods("pipeline.mei.targets", "target_rules")

    class Decided(dj.Part):
        definition = """
        # Decisions by hand that come before the rule; their hash is part of the rule's
        -> master
        ---
        -> DecisionSet
        """

    @classmethod
    def add(
        cls,
        name: str | None = None,
        params: Mapping[str, Any] | None = None,
        *,
        decision_set: str | None = None,
    ) -> dict:
        """Insert a rule unless it is there already, and return its key.

        Parameters
        ----------
        name, params
            See `MethodTable.add`.
        decision_set : str, optional
            Of `DecisionSet`: decisions that come before the rule.
        """
        if decision_set is None:
            return super().add(name, params)
        name = name or cls.registry.default
        key = {"target_hash": _decided_hash(cls.registry.hash(name, params), decision_set)}
        if not cls & key:
            full = cls.registry.complete(name, params)
            cls.insert1({**key, "target_method": name, "target_params": full})
            cls.Decided.insert1({**key, "decision_set": decision_set})
        return key

    @classmethod
    def key_of(cls, found: str, row: Mapping[str, Any]) -> str:
        """Return the key of a rule, which decisions by hand are part of."""
        decided = cls.Decided & {"target_hash": row["target_hash"]}
        return _decided_hash(found, decided.fetch1("decision_set")) if decided else found


def _decided_hash(rule: str, decision_set: str) -> str:
    return config_hash({"target_hash": rule, "decision_set": decision_set})


@schema
class TargetTask(dj.Manual):
    definition = """
    # Decision to select targets by a rule from a CNN ensemble and its linear-nonlinear twin
    -> model.EnsembleSpec
    -> model.EnsembleSpec.proj(ln_ensemble_hash='ensemble_hash')
    -> TargetRule
    """


class TargetInputs(NamedTuple):
    """What targets are selected by; all lists in the order of unit_index."""

    data_hash: str
    scores: tuple[list, list]  # validation correlations of the ensemble and of the LN models
    weights: tuple[dict, dict]  # of `load_ensemble`, for both
    places: Any  # of the units in the scan
    names: list[str]
    file: Any  # of Dataset.fetch_file
    method: str
    params: dict[str, Any]
    by_hand: list[dict[str, Any]]  # of `decided_units`


@schema
class Targets(dj.Computed):
    definition = """
    # Units to make stimuli for
    -> TargetTask
    -> model.Evaluation
    -> model.Evaluation.proj(ln_ensemble_hash='ensemble_hash')
    ---
    n_targets       : int32          # units kept
    n_candidates    : int32          # units looked at
    """

    class Unit(dj.Part):
        definition = """
        # Every unit that was looked at, and why it was kept or not
        -> master
        -> dataset.Dataset.Unit
        ---
        kept        : bool           # it is a target
        target_rank : int32          # 0 is the best target; -1 if not kept
        reason      : varchar(255)   # why it was kept or left out
        score=null  : float64        # (1) what the ranking went by; larger is better
        oracle=null : float64        # (1) on the half of the repeats that selection may see
        oracle_held=null : float64   # (1) on the other half: reports on the chosen units
        measured=null : float64      # (1) validation correlation at mean behavior, without extremes
        expected=null : float64      # (1) the same without its noise, if the rule estimates it
        expected_se=null : float64   # (1) standard error of expected
        contrast=null : float64      # (1) CNN less LN model in expected
        contrast_se=null : float64   # (1) standard error of contrast
        """

    def make_fetch(self, key):
        cnn = {"ensemble_hash": key["ensemble_hash"]}
        ln = {"ensemble_hash": key["ln_ensemble_hash"]}
        order = {"order_by": "unit_index"}
        good = (model.Evaluation.Unit & cnn).to_dicts(**order)
        plain = (model.Evaluation.Unit & ln).to_dicts(**order)
        data_hash = (model.EnsembleSpec & cnn).fetch1("dataset_hash")
        if {row["dataset_hash"] for row in (*good, *plain)} != {data_hash}:
            raise DataError(
                "ensembles of different data sets", field="TargetTask", expected=data_hash
            )
        scores = tuple([row["validation"] for row in rows] for rows in (good, plain))
        given = TargetInputs(
            data_hash,
            scores,
            (model.EnsembleSpec.fetch_weights(cnn), model.EnsembleSpec.fetch_weights(ln)),
            _places(data_hash),
            dataset.unit_names({"dataset_hash": data_hash})["unit"].tolist(),
            dataset.Dataset.fetch_file({"dataset_hash": data_hash}),
            *TargetRule.fetch_method(key),
            decided_units(data_hash, TargetRule.Decided & key),
        )
        return (given,)

    def make_compute(self, key, given):
        from pipeline.mei.targets import ByHand, choose_targets

        loaded = dataset.load_dataset(given.file)
        evidence = measured_evidence(given.weights, loaded)
        data = replace(
            target_data(given.scores, given.places, loaded),
            names=given.names,
            evidence=evidence,
            by_hand={
                row["unit_index"]: ByHand(row["included"], f"{row['why']} ({row['who']})")
                for row in given.by_hand
            },
        )
        result = choose_targets(given.method, data, given.params)
        told = _expectations(evidence, result.shrunken)
        explained, (seen, held) = result.explained(), reliabilities(loaded)
        rows = [
            {
                "unit_index": index,
                "kept": bool(result.kept[index]),
                "target_rank": int(result.rank[index]),
                "reason": explained[index][:255],
                "score": number(result.score[index]),
                "oracle": number(seen[index]),
                "oracle_held": number(held[index]),
                **{name: number(values[index]) for name, values in told.items()},
            }
            for index in range(len(result.kept))
        ]
        if not any(row["kept"] for row in rows):
            raise DataError(
                "no unit qualifies as a target",
                field="TargetRule",
                found=f"{len(rows)} units: {rows[0]['reason']} ...",
                remedy="choose a more lenient rule or record longer",
            )
        return rows, given.data_hash

    def make_insert(self, key, rows, data_hash):
        kept = sum(row["kept"] for row in rows)
        self.insert1({**key, "n_targets": kept, "n_candidates": len(rows)})
        self.Unit.insert({**key, "dataset_hash": data_hash, **row} for row in rows)


def _places(data_hash: str) -> dict[str, Any] | None:
    """Return where the units of a data set are in their fields; None for a prepared file."""
    units = dataset.Dataset.Unit & {"dataset_hash": data_hash}
    placed = units * dataset.Responses.Unit * imaging.Segmentation.Unit.proj("y_px", "x_px")
    rows = placed.to_dicts(order_by="unit_index")
    if not rows:
        return None
    scan = {name: rows[0][name] for name in imaging.ScanInfo.primary_key}
    sizes = {f["field"]: f for f in (imaging.ScanInfo.Field & scan).to_dicts()}
    names = ("height_px", "width_px", "um_per_px_y", "um_per_px_x")
    return {
        "y_px": [row["y_px"] for row in rows],
        "x_px": [row["x_px"] for row in rows],
        "field": [row["field"] for row in rows],
        "fields": {index: [size[name] for name in names] for index, size in sizes.items()},
    }


def reliabilities(data: Any) -> np.ndarray:
    """Return the oracle of every unit on both halves of the repeats, shape (2, units)."""
    from pipeline.mei.targets import half_oracles

    trials = data.trials("test")
    return half_oracles(data.responses[trials], np.asarray(data.image_id)[trials])


def measured_evidence(weights: tuple[dict, dict], data: Any) -> Evidence:
    """Return how well an ensemble and its LN models predict validation images, with the errors."""
    from pipeline.mei.targets import gather

    trials, repeated = data.trials("validation"), data.trials("test")
    used, index = np.unique(data.image_index[trials], return_inverse=True)
    predicted = [
        model.load_ensemble(of_one).predict(data.images[used])[index.reshape(-1)]
        for of_one in weights
    ]
    return gather(
        data.responses[trials],
        *predicted,
        data.responses[repeated],
        np.asarray(data.image_id)[repeated],
    )


def _expectations(measured: Evidence, shrunken: Evidence | None) -> dict[str, np.ndarray]:
    """Return the columns of `Targets.Unit` about what is expected; NaN by a rule that does not."""
    from pipeline.mei.targets.evidence import CNN

    columns = {"measured": measured.value[:, CNN]}
    names = ("expected", "expected_se", "contrast", "contrast_se")
    if shrunken is None:
        return columns | dict.fromkeys(names, np.full(len(measured.value), np.nan))
    found = (
        shrunken.value[:, CNN],
        shrunken.error(CNN),
        shrunken.contrast,
        shrunken.contrast_error,
    )
    return columns | dict(zip(names, found, strict=True))


def target_data(scores: tuple[list, list], places: dict[str, Any] | None, data: Any) -> TargetData:
    """Gather what a target rule looks at: validation scores, and the oracle on half of the repeats.

    The models' scores on test images are not among it; the other half of the repeats reports.
    """
    from pipeline.mei.targets import TargetData, fraction_of

    cnn, ln = (np.array(values, np.float64) for values in scores)
    unknown = np.full(len(cnn), np.nan)
    oracle = reliabilities(data)[0]
    if places is None:
        where = {"y_px": unknown, "x_px": unknown, "field": np.zeros(len(cnn), int)}
        size = scale = None
    else:
        where = {name: np.array(places[name]) for name in ("y_px", "x_px", "field")}
        table = np.array([places["fields"][field] for field in places["field"]], np.float64)
        size, scale = table[:, :2], (None if np.isnan(table).any() else table[:, 2:])
    return TargetData(
        oracle=oracle,
        cnn_score=cnn,
        ln_score=ln,
        cnn_fraction=fraction_of(cnn, oracle),
        ln_fraction=fraction_of(ln, oracle),
        um_xyz=data.um_xyz,
        field_size_px=size,
        um_per_px=scale,
        **where,
    )
