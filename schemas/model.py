"""Encoders that predict every unit's response, their ensembles and how good they are."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datajoint as dj
import numpy as np

from pipeline.device import pick_device
from pipeline.model import (
    Ensemble,
    build_encoder,
    complete_config,
    load_encoder,
    save_encoder,
    train,
)
from pipeline.model.evaluate import evaluate
from pipeline.registry import config_hash
from schemas import dataset
from schemas.store import file_bytes, local_file, number

schema = dj.Schema()

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
class ModelConfig(dj.Lookup):
    definition = """
    # Complete configuration of an encoder and its training
    model_hash      : char(16)       # hash of the configuration
    ---
    model_kind      : varchar(32)    # cnn, ln or another short name
    model_config    : json           # core, readout, shifter, modulator, loss, training
    """

    @classmethod
    def add(cls, config: Mapping[str, Any], kind: str) -> dict:
        """Insert a configuration, completed, unless it is there, and return its key."""
        full = complete_config(config)
        key = {"model_hash": config_hash(full)}
        if not cls & key:
            cls.insert1({**key, "model_kind": kind, "model_config": full}, skip_duplicates=True)
        return key


@schema
class TrainingTask(dj.Manual):
    definition = """
    # Decision to train a configuration on a data set
    -> dataset.DatasetSpec
    -> ModelConfig
    seed            : int32          # names all random numbers of the training
    ---
    max_seconds=null : float64       # wall time after which the best weights so far are kept (s)
    """


@schema
class TrainedModel(dj.Computed):
    definition = """
    # Weights of one encoder
    -> dataset.Dataset
    -> TrainingTask
    ---
    weights         : <object@main>  # safetensors with configuration and statistics
    validation_correlation=null : float64  # (1) single-trial correlation, mean over units
    epochs          : int32          # epochs trained
    seconds         : float64        # wall time (s)
    device          : varchar(16)    # where it was trained: cpu or cuda
    history         : json           # validation correlation after every epoch
    """

    worker_queue = "gpu"

    def make_fetch(self, key):
        config = (ModelConfig & key).fetch1("model_config")
        limit = (TrainingTask & key).fetch1("max_seconds")
        return dataset.Dataset.fetch_file(key), config, limit

    def make_compute(self, key, file, config, limit):
        data = dataset.load_dataset(file)
        encoder = build_encoder(config, data, seed=key["seed"])
        checkpoint = _checkpoint(key)
        result = train(encoder, data, seed=key["seed"], checkpoint=checkpoint, max_seconds=limit)
        encoder.cpu()
        row = {
            "weights": file_bytes(lambda path: save_encoder(encoder, path), ".safetensors"),
            "validation_correlation": number(result.validation_correlation),
            "epochs": int(result.epochs),
            "seconds": float(result.seconds),
            "device": str(pick_device()).split(":")[0],
            "history": [_plain(entry) for entry in result.history],
        }
        return row, checkpoint

    def make_insert(self, key, row, checkpoint):
        self.insert1({**key, **row})
        checkpoint.unlink(missing_ok=True)


def _plain(entry: Any) -> Any:
    """Return an entry of a training history as JSON: NaN is null."""
    if isinstance(entry, Mapping):
        return {name: _plain(value) for name, value in entry.items()}
    return number(entry) if isinstance(entry, (int, float, np.number)) else str(entry)


def _checkpoint(key: Mapping[str, Any]) -> Path:
    """Return where a training keeps its place, so that a killed one goes on from there."""
    home = os.environ.get("INCEPTION_HOME")
    base = Path(home) if home else Path(tempfile.gettempdir()) / f"inception-{os.getuid()}"
    folder = base / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{key['dataset_hash']}-{key['model_hash']}-{key['seed']}.ckpt"


@schema
class EnsembleSpec(dj.Manual):
    definition = """
    # Decision which trained models predict together
    ensemble_hash   : char(16)       # hash of the members' keys
    ---
    -> dataset.DatasetSpec
    ensemble_kind   : varchar(32)    # cnn, ln or another short name
    """

    class Member(dj.Part):
        definition = """
        # Model of the ensemble
        -> master
        -> TrainingTask
        """

    @classmethod
    def add(cls, tasks: Sequence[Mapping[str, Any]], kind: str) -> dict:
        """Insert an ensemble of training tasks unless it is there, and return its key."""
        names = TrainingTask.primary_key
        members = sorted(
            ({name: task[name] for name in names} for task in tasks),
            key=lambda task: [str(task[name]) for name in names],
        )
        key = {"ensemble_hash": config_hash(members)}
        if not cls & key:
            (data,) = {member["dataset_hash"] for member in members}
            cls.insert1({**key, "dataset_hash": data, "ensemble_kind": kind})
            cls.Member.insert({**key, **member} for member in members)
        return key

    @classmethod
    def fetch_weights(cls, key: Mapping[str, Any]) -> list:
        """Return the references to the members' weights, in the order of configuration and seed."""
        members = cls.Member & {"ensemble_hash": key["ensemble_hash"]}
        rows = (TrainedModel & members).to_dicts(order_by=["model_hash", "seed"])
        if len(rows) != len(members):
            raise ValueError(
                f"ensemble {key['ensemble_hash']}: {len(rows)} of {len(members)} trained"
            )
        return [row["weights"] for row in rows]


def load_ensemble(weights: Sequence[Any]) -> Ensemble:
    """Return the ensemble whose members' weights `EnsembleSpec.fetch_weights` points to."""
    device = pick_device()
    members = []
    for reference in weights:
        with local_file(reference) as path:
            members.append(load_encoder(path, device))
    return Ensemble(members)


@schema
class Evaluation(dj.Computed):
    definition = """
    # How well an ensemble predicts: validation guides choices, all else is the test tier's
    -> EnsembleSpec
    ---
    n_members       : int16          # models in the ensemble
    validation=null : float64        # (1) single-trial correlation, validation tier, mean
    validation_frozen=null : float64  # (1) the same with behaviour and gaze at their means
    single_trial=null : float64      # (1) correlation over single trials, mean over units
    single_trial_frozen=null : float64  # (1) the same with behaviour and gaze at their means
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

    class Unit(dj.Part):
        definition = """
        # Measures of one unit; null if not defined
        -> master
        -> dataset.Dataset.Unit
        ---
        validation=null : float64    # (1) single-trial correlation on the validation tier
        validation_frozen=null : float64  # (1) the same with behaviour and gaze at their means
        single_trial=null : float64  # (1) correlation over single trials
        single_trial_frozen=null : float64  # (1) the same with behaviour and gaze at their means
        to_average=null : float64    # (1) correlation with the mean over repeats
        oracle=null : float64        # (1) correlation with the mean of the other repeats
        fraction_oracle=null : float64  # (1) single_trial / oracle
        fraction_oracle_frozen=null : float64  # (1) single_trial_frozen / oracle
        fev=null    : float64        # (1) explainable share of the variance
        feve=null   : float64        # (1) explained share of the explainable variance
        cc_norm=null : float64       # (1) correlation normalised by the signal power
        """

    @property
    def key_source(self):
        """Ensembles whose members are all trained."""
        return EnsembleSpec - (EnsembleSpec.Member - TrainedModel.proj())

    def make_fetch(self, key):
        data = (EnsembleSpec & key).fetch1("dataset_hash")
        members = (EnsembleSpec.Member & key).keys(order_by=["model_hash", "seed"])
        weights = EnsembleSpec.fetch_weights(key)
        return weights, members, dataset.Dataset.fetch_file({"dataset_hash": data}), data

    def make_compute(self, key, weights, members, file, data_hash):
        ensemble, data = load_ensemble(weights), dataset.load_dataset(file)
        row: dict[str, Any] = {"n_members": len(ensemble)}
        units: list[dict[str, Any]] = [{"unit_index": i} for i in range(data.n_units)]
        held = evaluate(ensemble, data, tier="validation")
        _record(row, units, held, {"validation": "single_trial",
                                   "validation_frozen": "single_trial_frozen"})  # fmt: skip
        if len(data.trials("test")):
            _record(row, units, evaluate(ensemble, data, tier="test"), MEASURES)
        else:
            for target in (row, *units):
                target.update(dict.fromkeys(MEASURES))
        return row, units, members, data_hash

    def make_insert(self, key, row, units, members, data_hash):
        self.insert1({**key, **row})
        self.Member.insert({**member, **key} for member in members)
        self.Unit.insert({**key, "dataset_hash": data_hash, **unit} for unit in units)


def _record(row: dict, units: list[dict], found: Any, columns: Mapping[str, str]) -> None:
    for column, name in columns.items():
        row[column] = number(found.per_scan[name])
        for unit, value in zip(units, found.per_unit[name], strict=True):
            unit[column] = number(value)
