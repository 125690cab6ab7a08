"""Ensembles of trained encoders, and how their members share the prediction of a unit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import datajoint as dj
import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.registry import config_hash
from schemas import dataset
from schemas.method import Methods, MethodTable
from schemas.model.binding import schema
from schemas.model.tasks import ModelConfig, TrainingTask
from schemas.model.training import TrainedModel
from schemas.store import local_file

if TYPE_CHECKING:
    from pipeline.model import Ensemble


@schema
class CombinationMethod(MethodTable, dj.Lookup):
    definition = """
    # How members share the prediction of a unit, with its complete parameters
    combination_hash   : char(16)    # hash of method and parameters
    ---
    combination_method : varchar(64)  # name in pipeline.model.combinations
    combination_params : json        # every keyword parameter, defaults filled in
    """
    registry = Methods("pipeline.model", "combinations")


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

    class Combination(dj.Part):
        definition = """
        # How members share the prediction of every unit; without a row, equally
        -> master
        ---
        -> CombinationMethod
        """

    @classmethod
    def add(
        cls,
        tasks: Sequence[Mapping[str, Any]],
        kind: str,
        combination: Mapping[str, Any] | None = None,
    ) -> dict:
        """Insert an ensemble of training tasks unless it is there, and return its key.

        Parameters
        ----------
        tasks : sequence of mapping
            Keys of the training tasks of its members.
        kind : str
            A short name.
        combination : mapping, optional
            `method` (None: the recommended one) and `params` of how members share the prediction
            of a unit; None: equally. It is part of the hash.
        """
        members = _sorted(tasks)
        content: Any = members
        if combination is not None:
            method = CombinationMethod.add(
                combination.get("method"), combination.get("params") or {}
            )
            content = {"members": members, **method}
        key = {"ensemble_hash": config_hash(content)}
        if not cls & key:
            (data,) = {member["dataset_hash"] for member in members}
            cls.insert1({**key, "dataset_hash": data, "ensemble_kind": kind})
            cls.Member.insert({**key, **member} for member in members)
            if combination is not None:
                cls.Combination.insert1({**key, **method})
        return key

    @classmethod
    def of_kind(cls, key: Mapping[str, Any], kind: str) -> dict | None:
        """Return the key of the plain ensemble of those members whose configuration is of a kind.

        None if nobody decided on one.
        """
        chosen = ModelConfig & {"model_kind": kind}
        members = (cls.Member & {"ensemble_hash": key["ensemble_hash"]}) & chosen
        plain = {"ensemble_hash": config_hash(_sorted(members.to_dicts()))}
        return plain if cls & plain else None

    @classmethod
    def trained(cls) -> dj.Table:
        """Return the ensembles whose members are all trained."""
        return cls - (cls.Member - TrainedModel.proj())

    @classmethod
    def complete(cls) -> dj.Table:
        """Return the ensembles that can predict: trained, and their shares known."""
        return cls.trained() - (cls.Combination - MemberShares.proj())

    @classmethod
    def fetch_weights(cls, key: Mapping[str, Any]) -> dict[str, Any]:
        """Return references for `load_ensemble`, members in the order of configuration and seed.

        Returns
        -------
        dict
            `members`, to the weights of each; `shares`, to their shares, or None.
        """
        key = {"ensemble_hash": key["ensemble_hash"]}
        shares = (MemberShares & key).to_dicts()
        if not shares and cls.Combination & key:
            raise ValueError(f"ensemble {key['ensemble_hash']}: shares are not computed yet")
        members = cls.fetch_members(key)
        return {"members": members, "shares": shares[0]["shares"] if shares else None}

    @classmethod
    def fetch_members(cls, key: Mapping[str, Any]) -> list:
        """Return the references to the members' weights, in the order of configuration and seed."""
        members = cls.Member & {"ensemble_hash": key["ensemble_hash"]}
        rows = (TrainedModel & members).to_dicts(order_by=["model_hash", "seed"])
        if len(rows) != len(members):
            raise ValueError(
                f"ensemble {key['ensemble_hash']}: {len(rows)} of {len(members)} trained"
            )
        return [row["weights"] for row in rows]


def _sorted(tasks: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the keys of training tasks in the order that names an ensemble."""
    names = TrainingTask.primary_key
    keys = ({name: task[name] for name in names} for task in tasks)
    return sorted(keys, key=lambda key: [str(key[name]) for name in names])


class SharesInputs(NamedTuple):
    """What the shares of the members of an ensemble are fitted to."""

    members: list[dict[str, Any]]  # keys
    weights: list[Any]  # references, in the order of the members
    file: Any  # of Dataset.fetch_file
    method: str
    params: dict[str, Any]


@schema
class MemberShares(dj.Computed):
    definition = """
    # Share of every member in the prediction of every unit, found on the validation tier
    -> EnsembleSpec.Combination
    ---
    shares          : <npy@main>     # float32 (members, units): members by model_hash and seed (1)
    """

    class Member(dj.Part):
        definition = """
        # How much one member has to say
        -> master
        -> TrainedModel
        ---
        mean_share  : float64        # (1) mean over units
        n_units     : int32          # units whose prediction it takes part in
        """

    @property
    def key_source(self):
        """Ensembles whose members do not simply share equally, once all are trained."""
        return EnsembleSpec.Combination.proj() & EnsembleSpec.trained()

    def make_fetch(self, key):
        data = (EnsembleSpec & key).fetch1("dataset_hash")
        members = (EnsembleSpec.Member & key).keys(order_by=["model_hash", "seed"])
        method = CombinationMethod.fetch_method(EnsembleSpec.Combination & key)
        file = dataset.Dataset.fetch_file({"dataset_hash": data})
        return (SharesInputs(members, EnsembleSpec.fetch_members(key), file, *method),)

    def make_compute(self, key, given):
        from pipeline.model import fit_shares

        ensemble = load_ensemble({"members": given.weights})
        data = dataset.load_dataset(given.file)
        shares = fit_shares(ensemble, data, given.method, given.params)
        return given.members, np.asarray(shares, np.float32)

    def make_insert(self, key, members, shares):
        self.insert1({**key, "shares": shares})
        self.Member.insert(
            {
                **key,
                **member,
                "mean_share": float(row.mean(dtype=np.float64)),
                "n_units": int((row > 0).sum()),
            }
            for member, row in zip(members, shares, strict=True)
        )


def load_ensemble(weights: Mapping[str, Any]) -> Ensemble:
    """Return the ensemble that the references of `EnsembleSpec.fetch_weights` lead to."""
    from pipeline.device import pick_device
    from pipeline.model import Ensemble, load_encoder

    device = pick_device()
    members, shares = [], weights.get("shares")
    for reference in weights["members"]:
        with local_file(reference) as path:
            members.append(load_encoder(path, device))
    return Ensemble(members, None if shares is None else shares.load())


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
        Gray levels, any size of the right aspect ratio.
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
