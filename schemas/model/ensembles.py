"""Ensembles of trained encoders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import datajoint as dj
import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.device import pick_device
from pipeline.model import Ensemble, load_encoder
from pipeline.registry import config_hash
from schemas import dataset  # noqa: F401  in a foreign key
from schemas.model.binding import schema
from schemas.model.tasks import TrainingTask
from schemas.model.training import TrainedModel
from schemas.store import local_file


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


def predict(
    key: Mapping[str, Any],
    images: NDArray,
    behavior: NDArray | None = None,
    pupil_center: NDArray | None = None,
    units: ArrayLike | None = None,
) -> NDArray[np.float32]:
    """Return what the ensemble of a key expects, in one call.

    Parameters
    ----------
    key : mapping
        `ensemble_hash`, or anything that holds it, such as a row of `Evaluation`.
    images : array, shape (n, H, W)
        Grey levels, any size of the right aspect ratio.
    behavior, pupil_center : array, shape (n, columns) or (columns,), optional
        Raw values, as in the data set; None is the training mean.
    units : int array, optional
        Values of `Dataset.Unit.unit_index`, in the order wanted; default all.

    Returns
    -------
    array, shape (n, units)
        Expected response, in the units of the data set.
    """
    return _ensemble(key["ensemble_hash"]).predict(images, behavior, pupil_center, units)


@lru_cache(maxsize=2)
def _ensemble(ensemble_hash: str) -> Ensemble:
    """Load an ensemble once: stored weights never change."""
    return load_ensemble(EnsembleSpec.fetch_weights({"ensemble_hash": ensemble_hash}))
