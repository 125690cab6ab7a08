"""The weights that came of training: of one data set, on a borrowed core, or of a group."""

from __future__ import annotations

from typing import Any, NamedTuple

import datajoint as dj

from schemas import dataset
from schemas.model.binding import schema
from schemas.model.tasks import CoreSource, JointTask, ModelConfig, TrainingTask
from schemas.model.weights import checkpoint_file, figures, stored
from schemas.store import local_file, number


class JointInputs(NamedTuple):
    """What the encoders of several data sets are trained with together."""

    files: list[tuple]  # of DatasetGroup.fetch_files
    members: list[dict[str, Any]]  # keys, in the order of the files
    config: dict[str, Any]
    seed: int
    max_seconds: float | None


@schema
class JointModel(dj.Computed):
    definition = """
    # Encoders of the data sets of a group, trained on one core
    -> JointTask
    ---
    validation_correlation=null : float64  # (1) single-trial correlation, mean over all units
    epochs          : int32          # epochs trained
    seconds         : float64        # wall time (s)
    device          : varchar(16)    # where it was trained: cpu or cuda
    history         : json           # validation correlation after every epoch
    """

    class Member(dj.Part):
        definition = """
        # Encoder of one data set
        -> master
        -> JointTask.Member
        ---
        -> dataset.Dataset.proj(trained_on="dataset_hash")
        weights     : <object@main>  # safetensors with configuration and statistics
        n_left_out  : int32          # trials whose image tests or validates another member
        """

    worker_queue = "gpu"

    @property
    def key_source(self):
        """Tasks whose data sets are all there."""
        return JointTask - (JointTask.Member - dataset.Dataset.proj())

    def make_fetch(self, key):
        task = (JointTask & key).fetch1()
        config = ModelConfig.fetch_config(task)
        files = dataset.DatasetGroup.fetch_files(task)
        members = (JointTask.Member & key).keys(order_by="dataset_hash")
        limit = task["joint_max_seconds"]
        return (JointInputs(files, members, config, task["joint_seed"], limit),)

    def make_compute(self, key, given):
        from pipeline.dataset import reconcile
        from pipeline.model import build_joint_encoder, train_jointly

        sets = [dataset.load_dataset(file) for _, file in given.files]
        encoder = build_joint_encoder(given.config, sets, seed=given.seed)
        checkpoint = checkpoint_file(key["joint_hash"])
        options = {"checkpoint": checkpoint, "max_seconds": given.max_seconds}
        result = train_jointly(encoder, sets, seed=given.seed, **options)
        rows = [
            {
                **member,
                "trained_on": name,
                "weights": stored(trained),
                "n_left_out": left_out,
            }
            for member, (name, _), trained, left_out in zip(
                given.members, given.files, encoder.members, reconcile(sets)[1], strict=True
            )
        ]
        return figures(result), rows, checkpoint

    def make_insert(self, key, row, rows, checkpoint):
        self.insert1({**key, **row})
        self.Member.insert({**member, **key} for member in rows)
        checkpoint.unlink(missing_ok=True)


class TrainingInputs(NamedTuple):
    """What an encoder is trained with, or taken from."""

    file: Any  # of Dataset.fetch_file
    config: dict[str, Any]
    max_seconds: float | None
    source: Any  # reference to the weights whose core is kept; None: all is trained
    joint: tuple | None  # what a joint training gave: weights, epochs, seconds, device, history


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

    @property
    def key_source(self):
        """Tasks whose data set is there, and the core or the group that they wait for."""
        trained = TrainedModel.proj(
            source_dataset_hash="dataset_hash", source_model_hash="model_hash", source_seed="seed"
        )
        borrowing = (CoreSource - trained).proj()
        joint = JointTask.Member - JointModel.Member.proj()
        return dataset.Dataset.proj() * TrainingTask.proj() - borrowing - joint

    def make_fetch(self, key):
        config = ModelConfig.fetch_config(key)
        limit = (TrainingTask & key).fetch1("max_seconds")
        source, joint = None, None
        if CoreSource & key:
            row = (CoreSource & key).fetch1()
            origin = {name: row[f"source_{name}"] for name in TrainingTask.primary_key}
            source = (TrainedModel & origin).fetch1("weights")
        elif JointTask.Member & key:
            joint = (JointModel * JointModel.Member & key).fetch1(
                "weights", "epochs", "seconds", "device", "history"
            )
        return (TrainingInputs(dataset.Dataset.fetch_file(key), config, limit, source, joint),)

    def make_compute(self, key, given):
        from pipeline.model import build_encoder, train, train_readout, transfer_core

        data, config = dataset.load_dataset(given.file), given.config
        if given.joint is not None:
            return _member(data, given.joint), None
        seed, checkpoint = key["seed"], checkpoint_file(*(key[n] for n in TrainingTask.primary_key))
        options: dict[str, Any] = {"seed": seed, "checkpoint": checkpoint}
        options["max_seconds"] = given.max_seconds
        if given.source is None:
            encoder = build_encoder(config, data, seed=seed)
            result = train(encoder, data, **options)
        else:
            encoder = transfer_core(_load(given.source), data, seed, config)
            result = train_readout(encoder, data, **options)
        return {"weights": stored(encoder), **figures(result)}, checkpoint

    def make_insert(self, key, row, checkpoint):
        self.insert1({**key, **row})
        if checkpoint is not None:
            checkpoint.unlink(missing_ok=True)


def _load(weights: Any):
    from pipeline.model import load_encoder

    with local_file(weights) as path:
        return load_encoder(path)


def _member(data: Any, joint: tuple) -> dict[str, Any]:
    """Return the row of an encoder that a joint training gave."""
    from pipeline.model import Ensemble, evaluate

    weights, epochs, seconds, device, history = joint
    encoder = _load(weights)
    found = evaluate(Ensemble([encoder]), data, tier="validation").per_scan["single_trial"]
    return {
        "weights": stored(encoder),
        "validation_correlation": number(found),
        "epochs": epochs,
        "seconds": seconds,
        "device": device,
        "history": history,
    }
