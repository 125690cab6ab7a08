"""Configurations, decisions to train them, and the weights that came of it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datajoint as dj
import numpy as np

from pipeline.device import pick_device
from pipeline.model import build_encoder, complete_config, save_encoder, train
from pipeline.registry import config_hash
from schemas import dataset
from schemas.model.binding import schema
from schemas.store import file_bytes, number


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
