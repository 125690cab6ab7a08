"""Configurations, and decisions to train them on a data set, on a borrowed core, or jointly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from typing import Any

import datajoint as dj

from pipeline.registry import config_hash
from schemas import dataset
from schemas.model.binding import schema


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
        from pipeline.model import complete_config

        full = complete_config(config)
        key = {"model_hash": config_hash(full)}
        if not cls & key:
            cls.insert1({**key, "model_kind": kind, "model_config": full}, skip_duplicates=True)
        return key

    @classmethod
    def fetch_config(cls, key: Mapping[str, Any]) -> dict[str, Any]:
        """Return the one configuration that `key` restricts to, to train by it.

        Raises
        ------
        DataError
            If a part of it is of a revision that this program does not compute.
        """
        from pipeline.model import check_config

        config = (cls & key).fetch1("model_config")
        check_config(config)
        return config


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

    @classmethod
    def decide(
        cls,
        dataset_key: Mapping[str, Any],
        model_key: Mapping[str, Any],
        seeds: Iterable[int],
        max_seconds: float | None = None,
    ) -> list[dict]:
        """Insert one task a seed unless it is there, and return their keys."""
        key = {
            "dataset_hash": dataset_key["dataset_hash"],
            "model_hash": model_key["model_hash"],
        }
        tasks = [{**key, "seed": int(seed)} for seed in seeds]
        rows = [{**task, "max_seconds": max_seconds} for task in tasks]
        cls.insert(rows, skip_duplicates=True)
        return tasks


SOURCE = 'source_dataset_hash="dataset_hash", source_model_hash="model_hash", source_seed="seed"'


@schema
class CoreSource(dj.Manual):
    definition = f"""
    # Whose core a configuration takes as it is: only the rest is trained
    -> ModelConfig
    ---
    -> TrainingTask.proj({SOURCE})
    """

    @classmethod
    def add(
        cls,
        source: Mapping[str, Any],
        dataset_key: Mapping[str, Any],
        *,
        seeds: Iterable[int] = (1,),
        training: Mapping[str, Any] | None = None,
    ) -> list[dict]:
        """Decide to fit readouts of a data set on the core of another training; idempotent.

        Parameters
        ----------
        source : mapping
            Key of the `TrainingTask` that trains the core; it need not have run yet.
        dataset_key : mapping
            `dataset_hash` of the new data set.
        seeds : iterable of int
            One task each.
        training : mapping, optional
            How the rest is trained (section `training` of a configuration); default as the source.

        Returns
        -------
        list of dict
            Keys of the training tasks: members of an ensemble, if you like.
        """
        from pipeline.model import check_config, transfer_config

        origin = (TrainingTask & {name: source[name] for name in TrainingTask.primary_key}).fetch1(
            "KEY"
        )
        row = (ModelConfig & origin).fetch1()
        check_config(row["model_config"])  # what is trained on the core is of its kind
        plain = {**row["model_config"], "training": _plain_training(row["model_config"], training)}
        config = transfer_config(plain, config_hash(origin))
        with _transaction(cls):
            key = ModelConfig.add(config, row["model_kind"])
            link = {f"source_{name}": value for name, value in origin.items()}
            cls.insert1({**key, **link}, skip_duplicates=True)
            return TrainingTask.decide(dataset_key, key, seeds)


@schema
class JointTask(dj.Manual):
    definition = """
    # Decision to train the data sets of a group on one core
    joint_hash      : char(16)       # hash of configuration, which names the group, and seed
    ---
    -> dataset.DatasetGroup
    -> ModelConfig
    joint_seed      : int32          # names all random numbers of the training
    joint_max_seconds=null : float64  # wall time after which the best weights so far are kept (s)
    """

    class Member(dj.Part):
        definition = """
        # Encoder of one data set that the training gives
        -> master
        -> TrainingTask
        """

    @classmethod
    def add(
        cls,
        group: Mapping[str, Any],
        config: Mapping[str, Any] | None = None,
        kind: str = "cnn",
        *,
        seeds: Iterable[int] = (1,),
        max_seconds: float | None = None,
    ) -> list[dict]:
        """Decide to train a configuration on a group, once a seed; idempotent.

        Returns
        -------
        list of dict
            Keys of the members' training tasks, whose `TrainedModel` rows follow.
        """
        from pipeline.model import joint_config

        full = joint_config(config or {}, group["group_hash"])
        members = (dataset.DatasetGroup.Member & {"group_hash": group["group_hash"]}).keys(
            order_by="dataset_hash"
        )
        tasks = []
        with _transaction(cls):
            key = ModelConfig.add(full, kind)
            for seed in seeds:
                joint = {"joint_hash": config_hash({**key, "seed": int(seed)})}
                own = [
                    task
                    for member in members
                    for task in TrainingTask.decide(member, key, [seed], max_seconds)
                ]
                tasks += own
                if not cls & joint:
                    row = {**joint, **key, "group_hash": group["group_hash"]}
                    cls.insert1({**row, "joint_seed": int(seed), "joint_max_seconds": max_seconds})
                    cls.Member.insert({**joint, **task} for task in own)
        return tasks


def _plain_training(
    config: Mapping[str, Any], training: Mapping[str, Any] | None
) -> Mapping[str, Any]:
    """Return how to train without the core: as given, or as the core was trained."""
    if training is not None:
        return training
    own = config["training"]
    return {"name": own["method"], **own["params"]} if "method" in own else own


def _transaction(table: type[dj.Table]) -> Any:
    """Open a transaction, or take part in the one that is open."""
    connection = table().connection
    return nullcontext() if connection.in_transaction else connection.transaction
