"""Searches over configurations, pruned by validation: successive halving as rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import datajoint as dj

from pipeline.registry import config_hash
from schemas import dataset
from schemas.method import Methods, MethodTable
from schemas.model.binding import schema
from schemas.model.tasks import ModelConfig, TrainingTask
from schemas.model.weights import checkpoint_file, figures


@schema
class SearchMethod(MethodTable, dj.Lookup):
    definition = """
    # Grid or random draws, with space and complete parameters
    space_hash      : char(16)       # hash of method and parameters
    ---
    space_method    : varchar(64)    # name in pipeline.model.search
    space_params    : json           # every keyword parameter, defaults filled in
    """
    registry = Methods("pipeline.model.search", "search_methods")


@schema
class Search(dj.Manual):
    definition = """
    # Decision to look for the configuration that predicts a data set best
    search_hash     : char(16)       # hash of all that follows
    ---
    -> dataset.DatasetSpec
    -> SearchMethod
    base_config     : json           # complete configuration that the candidates differ from
    search_seed     : int32          # names all random numbers of the trainings
    keep            : float64        # (1) share of a rung's candidates that goes on to the next
    search_kind     : varchar(32)    # kind of model: cnn, ln or another short name
    """

    class Rung(dj.Part):
        definition = """
        # Round of trainings
        -> master
        rung        : int16          # from 0
        ---
        max_epochs  : int32          # epochs of each training; the last rung's are the longest
        """

    class Candidate(dj.Part):
        definition = """
        # Configuration to try
        -> master
        -> ModelConfig
        """

    @classmethod
    def add(
        cls,
        dataset_key: Mapping[str, Any],
        space: Mapping[str, Any],
        *,
        base: Mapping[str, Any] | None = None,
        method: str = "grid",
        epochs: Sequence[int] = (3, 9, 24),
        keep: float = 1 / 3,
        seed: int = 1,
        kind: str = "cnn",
        params: Mapping[str, Any] | None = None,
    ) -> dict:
        """Insert a search with its candidates unless it is there, and return its key.

        Parameters
        ----------
        dataset_key : mapping
            `dataset_hash`.
        space : mapping
            ``"section.parameter"`` to values or a range (`pipeline.model.search`).
        base : mapping, optional
            What the candidates differ from; default the recommended encoder.
        method : str
            'grid' or 'random'.
        epochs : sequence of int
            Rising; one rung of trainings each.
        keep : float
            Share of a rung's candidates, the best on validation, that goes on to the next.
        seed : int
            Of all trainings.
        kind : str
            Kind of the candidates.
        params : mapping, optional
            Further parameters of the method, such as `n` and `seed` of random draws.
        """
        from pipeline.model import complete_config
        from pipeline.model.search import search_methods, survivors

        if list(epochs) != sorted(set(epochs)) or not epochs or epochs[0] < 1:
            raise ValueError(f"epochs must rise from 1 or more, got {list(epochs)}")
        survivors({"a": 0.0}, keep)  # raises where keep is no share
        base = complete_config(base)
        params = {"space": space, **(params or {})}
        candidates = search_methods[method](base, **params)
        chosen = {"space_hash": search_methods.hash(method, params)}
        own = {"dataset_hash": dataset_key["dataset_hash"], **chosen, "base_config": base}
        own |= {"search_seed": int(seed), "keep": float(keep), "search_kind": kind}
        key = {"search_hash": config_hash({**own, "epochs": list(epochs)})}
        if cls & key:
            return key
        with nullcontext() if cls().connection.in_transaction else cls().connection.transaction:
            SearchMethod.add(method, params)
            models = [ModelConfig.add(config, kind) for config in candidates]
            cls.insert1({**key, **own})
            rungs = enumerate(epochs)
            cls.Rung.insert({**key, "rung": i, "max_epochs": int(n)} for i, n in rungs)
            cls.Candidate.insert({**key, **model} for model in models)
        return key

    @classmethod
    def ranking(cls, key: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the candidates that were tried, best first: by rung reached, then validation."""
        from pipeline.model.search import survivors

        rows = (SearchTrial & {"search_hash": key["search_hash"]}).to_dicts()
        last: dict[str, dict] = {}
        for row in sorted(rows, key=lambda row: row["rung"]):
            last[row["model_hash"]] = row
        found = []
        for rung in sorted({row["rung"] for row in last.values()}, reverse=True):
            tied = {name: row for name, row in last.items() if row["rung"] == rung}
            found += [tied[name] for name in survivors(_scores(tied.values()), 1.0)]
        return found

    @classmethod
    def promote(cls, key: Mapping[str, Any], *, seeds: Sequence[int], best: int = 1) -> list[dict]:
        """Decide to train the best configurations in full; return the keys of the tasks.

        Raises
        ------
        ValueError
            If the search has not ended.
        """
        search = {"search_hash": key["search_hash"]}
        last = max((cls.Rung & search).to_arrays("rung"))
        open_ = (Shortlist.Candidate & search & {"rung": int(last)}) - SearchTrial.proj()
        if not Shortlist & search & {"rung": int(last)} or open_:
            raise ValueError(f"search {key['search_hash']} has not ended: populate SearchTrial")
        data = (cls & search).fetch1("dataset_hash")
        return [
            task
            for row in cls.ranking(search)[:best]
            for task in TrainingTask.decide({"dataset_hash": data}, row, seeds)
        ]


@schema
class Shortlist(dj.Computed):
    definition = """
    # Who takes part in a rung: all in the first, then the best of the rung before
    -> Search.Rung
    ---
    n_candidates    : int32          # configurations in it
    """

    class Candidate(dj.Part):
        definition = """
        # Configuration of the rung
        -> master
        -> Search.Candidate
        """

    @property
    def key_source(self):
        """First rungs, and those whose rung before has been trained to the last candidate."""
        rungs = (Search.Rung - Shortlist.proj()).keys(order_by=["search_hash", "rung"])
        ready = [key for key in rungs if key["rung"] == 0 or _done(_before(key))]
        done = Search.Rung.proj() & Shortlist.proj()
        return Search.Rung.proj() & [done, *ready]

    def make(self, key):
        from pipeline.model.search import survivors

        if key["rung"] == 0:
            chosen = (
                (Search.Candidate & key).to_arrays("model_hash", order_by="model_hash").tolist()
            )
        else:
            rows = (SearchTrial & _before(key)).to_dicts(order_by="model_hash")
            chosen = survivors(_scores(rows), (Search & key).fetch1("keep"))
        self.insert1({**key, "n_candidates": len(chosen)})
        self.Candidate.insert({**key, "model_hash": name} for name in chosen)


class TrialInputs(NamedTuple):
    """What a candidate of a search is trained with."""

    file: Any  # of Dataset.fetch_file
    data_key: dict[str, str]
    config: dict[str, Any]
    seed: int
    epochs: int


@schema
class SearchTrial(dj.Computed):
    definition = """
    # One candidate trained for the epochs of a rung; the test tier is not read
    -> Shortlist.Candidate
    ---
    -> dataset.Dataset
    validation_correlation=null : float64  # (1) single-trial correlation, mean over units
    epochs          : int32          # epochs trained
    seconds         : float64        # wall time (s)
    device          : varchar(16)    # where it was trained: cpu or cuda
    history         : json           # validation correlation after every epoch
    """

    worker_queue = "gpu"

    @property
    def key_source(self):
        """Candidates of searches whose data set is there."""
        return Shortlist.Candidate.proj() & (Search & dataset.Dataset.proj()).proj()

    def make_fetch(self, key):
        search = (Search & key).fetch1()
        epochs = (Search.Rung & key).fetch1("max_epochs")
        config = ModelConfig.fetch_config(key)
        data = {"dataset_hash": search["dataset_hash"]}
        file = dataset.Dataset.fetch_file(data)
        return (TrialInputs(file, data, config, search["search_seed"], epochs),)

    def make_compute(self, key, given):
        from pipeline.model import build_encoder, train

        data, checkpoint = dataset.load_dataset(given.file), checkpoint_file(*key.values())
        encoder = build_encoder(given.config, data, seed=given.seed)
        options = {"checkpoint": checkpoint, "max_epochs": given.epochs}
        result = train(encoder, data, seed=given.seed, **options)
        return {**given.data_key, **figures(result)}, checkpoint

    def make_insert(self, key, row, checkpoint):
        self.insert1({**key, **row})
        checkpoint.unlink(missing_ok=True)


def _before(key: Mapping[str, Any]) -> dict[str, Any]:
    """Return the key of the rung before one."""
    return {"search_hash": key["search_hash"], "rung": key["rung"] - 1}


def _done(rung: Mapping[str, Any]) -> bool:
    """Tell whether every candidate of a rung has been trained."""
    return bool(Shortlist & rung) and not (Shortlist.Candidate & rung) - SearchTrial.proj()


def _scores(rows: Any) -> dict[str, float]:
    """Return candidates with their validation correlation, NaN where there is none."""
    found = {row["model_hash"]: row["validation_correlation"] for row in rows}
    return {name: float("nan") if value is None else value for name, value in found.items()}
