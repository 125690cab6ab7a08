"""Images, responses and behavior meet: one training set per scan or prepared file."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import datajoint as dj

from pipeline.errors import DataError
from pipeline.registry import config_hash
from schemas import experiment, imaging, stimulus
from schemas.dataset.assemble import assemble, known, position, prepared, unit_table
from schemas.dataset.binding import schema
from schemas.dataset.responses import Responses, ResponseTask, TrialBehavior, TrialBehaviorTask
from schemas.method import Methods, MethodTable
from schemas.store import file_bytes, local_file

if TYPE_CHECKING:
    from pipeline.dataset import Dataset as TrainingSet


@schema
class UnitFilter(MethodTable, dj.Lookup):
    definition = """
    # Which units enter a training set, with complete parameters
    filter_hash     : char(16)       # hash of method and parameters
    ---
    filter_method   : varchar(64)    # name in pipeline.dataset.filters
    filter_params   : json           # every keyword parameter, defaults filled in
    """
    registry = Methods("pipeline.dataset", "unit_filters")


@schema
class DatasetSpec(dj.Manual):
    definition = """
    # Decision what a training set is made of
    dataset_hash    : char(16)       # hash of the members' keys and of what follows
    ---
    height_px       : int16          # height of the model's images (px)
    width_px        : int16          # width of the model's images (px)
    tier_params     : json           # parameters of pipeline.dataset.assign_tiers
    dataset_notes='' : varchar(512)  # free text
    """

    class Scan(dj.Part):
        definition = """
        # Scan in the set
        -> master
        -> experiment.Scan
        ---
        -> ResponseTask
        -> TrialBehaviorTask
        """

    class Filter(dj.Part):
        definition = """
        # Filter of the units; without a row all units of the responses or the file are in
        -> master
        ---
        -> UnitFilter
        """

    @classmethod
    def add(
        cls, member: dict[str, Any], shape: tuple[int, int], tier_params: dict[str, Any]
    ) -> dict:
        """Insert the training set of one scan unless it is there, and return its key.

        Parameters
        ----------
        member : dict
            Keys of the `ResponseTask` and the `TrialBehaviorTask` together.
        shape : (int, int)
            Height and width of the model's images (px).
        tier_params : dict
            Of `pipeline.dataset.assign_tiers`.
        """
        names = {*ResponseTask.primary_key, *TrialBehaviorTask.primary_key}
        member = {name: member[name] for name in sorted(names)}
        content = {"members": [member], "shape": list(shape), "tiers": tier_params}
        key = {"dataset_hash": config_hash(content)}
        if not cls & key:
            height, width = shape
            cls.insert1({**key, "height_px": height, "width_px": width, "tier_params": tier_params})
            cls.Scan.insert1({**key, **member})
        return key

    @classmethod
    def filtered(
        cls, key: Mapping[str, Any], method: str | None = None, params: Mapping | None = None
    ) -> dict:
        """Insert a set that keeps some units of another unless it is there, and return its key.

        Parameters
        ----------
        key : mapping
            `dataset_hash` of a set without filter, of a scan or a prepared file.
        method, params
            Name in `pipeline.dataset.filters`, and what differs from its defaults.
        """
        source = {"dataset_hash": key["dataset_hash"]}
        if cls.Filter & source:
            raise ValueError(
                f"data set {key['dataset_hash']} is filtered already; filter its source"
            )
        chosen = UnitFilter.add(method, params)
        new = {"dataset_hash": config_hash({**source, **chosen})}
        if cls & new:
            return new
        with nullcontext() if cls.connection.in_transaction else cls.connection.transaction:
            cls.insert1({**(cls & source).fetch1(), **new})
            cls.Filter.insert1({**new, **chosen})
            for table in (cls.Scan, PreparedFile):
                table.insert({**row, **new} for row in (table & source).to_dicts())
        return new


@schema
class PreparedFile(dj.Manual):
    definition = """
    # File or folder with a data set that somebody prepared
    -> DatasetSpec
    ---
    path            : varchar(1024)  # absolute path
    size_bytes      : int64          # size when ingested (bytes), all files together
    fingerprint     : char(64)       # SHA-256 of the content
    digest=null     : varchar(64)    # blake2b of all content, checked when it is read
    """


@schema
class Dataset(dj.Computed):
    definition = """
    # Training set: images, responses, tiers, behavior, and statistics of the train tier
    -> DatasetSpec
    ---
    dataset_file    : <object@main>  # npz that pipeline.dataset.load reads
    n_trials        : int32          # complete trials
    n_dropped       : int32          # trials left out: NaN in responses, behavior or gaze
    n_units         : int32          # units
    n_images        : int32          # different images
    n_train         : int32          # trials of the train tier
    n_validation    : int32          # trials of the validation tier
    n_test          : int32          # trials of the test tier
    image_mean      : float64        # mean of the training images (gray levels)
    image_sd        : float64        # standard deviation of the training images (gray levels)
    """

    class Unit(dj.Part):
        definition = """
        # A unit of the set
        -> master
        unit_index  : int32          # column of the responses, output of the model, from 0
        ---
        -> [nullable] Responses.Unit
        label       : int64          # unit_id, or the prepared file's own number
        """

    @property
    def key_source(self):
        """Specifications whose inputs are complete."""
        waiting = [
            DatasetSpec.Scan - Responses.proj(),
            DatasetSpec.Scan - TrialBehavior.proj(),
        ]
        ready = DatasetSpec.proj() & DatasetSpec.Scan.proj()
        return DatasetSpec & [PreparedFile.proj(), ready - waiting]

    def make_fetch(self, key):
        spec = (DatasetSpec & key).fetch1()
        chosen = UnitFilter & (DatasetSpec.Filter & key)
        if PreparedFile & key:
            source = ("prepared", (PreparedFile & key).fetch1("path", "fingerprint", "digest"))
        else:
            source = ("scan", self._fetch_scan((DatasetSpec.Scan & key).fetch1()))
        filter_ = UnitFilter.fetch_method(chosen.fetch1("KEY")) if chosen else None
        return source, filter_, (spec["height_px"], spec["width_px"]), spec["tier_params"]

    @staticmethod
    def _fetch_scan(member: dict[str, Any]) -> dict[str, Any]:
        trials = (stimulus.Trial & member).to_dicts(order_by="trial_idx")
        hashes = [trial["image_hash"] for trial in trials]
        masks = imaging.Segmentation.Unit.proj("y_px", "x_px", "soma_probability")
        found = Responses.Unit * masks * imaging.Fluorescence.Unit.proj("snr") & member
        units = found.to_dicts(order_by="response_column")
        fields = {field["field"]: field for field in (imaging.ScanInfo.Field & member).to_dicts()}
        scan = (experiment.Scan & member).fetch1()
        return {
            "unit_ids": [unit["unit_id"] for unit in units],
            "um_xyz": [position(unit, fields[unit["field"]]) for unit in units],
            "known": [known(unit, scan, fields) for unit in units],
            "unit_key": {name: member[name] for name in Responses.primary_key},
            "hashes": hashes,
            "images": stimulus.ImageSet.locate(hashes),
            "responses": (Responses & member).fetch1("responses"),
            "state": (TrialBehavior & member).fetch1("behavior", "pupil_center"),
        }

    def make_compute(self, key, source, filter_, shape, tier_params):
        from pipeline.dataset import UnitTable
        from pipeline.dataset.filters import apply_filter
        from pipeline.dataset.names import unit_numbers

        kind, content = source
        if kind == "prepared":
            data = prepared(*content)
            units = UnitTable.unknown(data.n_units, data.um_xyz)
        else:
            data, units = assemble(content, shape, tier_params), unit_table(content["known"])
        if filter_ is not None:
            data = data.select(units=apply_filter(units, *filter_))
        whole, dropped = data.complete()
        counts = {tier: len(whole.trials(tier)) for tier in ("train", "validation", "test")}
        if not counts["train"] or not counts["validation"]:
            raise DataError(
                "a tier is empty",
                field="tiers",
                found=counts,
                remedy="record more images that are shown once",
            )
        row = {
            "dataset_file": file_bytes(whole.save, ".npz"),
            "n_trials": whole.n_trials,
            "n_dropped": int(dropped),
            "n_units": whole.n_units,
            "n_images": len(whole.images),
            "n_train": counts["train"],
            "n_validation": counts["validation"],
            "n_test": counts["test"],
            "image_mean": float(whole.stats.image_mean),
            "image_sd": float(whole.stats.image_sd),
        }
        unit_key = content["unit_key"] if kind == "scan" else None
        return row, unit_numbers(whole.unit_ids), unit_key

    def make_insert(self, key, row, labels, unit_key):
        self.insert1({**key, **row})
        rows = []
        for index, label in enumerate(labels):
            link = {name: None for name in Responses.Unit.primary_key}
            if unit_key is not None:
                link = {**unit_key, "unit_id": label}
            rows.append({**key, "unit_index": index, "label": label, **link})
        self.Unit.insert(rows)

    @classmethod
    def fetch_file(cls, key: dict[str, Any]):
        """Return the reference to the file of one data set."""
        return (cls & key).fetch1("dataset_file")


def load_dataset(reference) -> TrainingSet:
    """Return the training set that `Dataset.fetch_file` points to."""
    from pipeline.dataset import load

    with local_file(reference) as path:
        return load(path)


def training_set(which: Any) -> TrainingSet:
    """Return the data set of a scan: images, responses, behavior and tiers.

    Parameters
    ----------
    which : restriction
        Of `DatasetSpec.Scan` or `Dataset`: the key of a scan, or a `dataset_hash` where a scan has
        several.

    Raises
    ------
    DataError
        If there is none, or more than one.

    Examples
    --------
    >>> data = schemas.dataset({"animal_id": 7})  # doctest: +SKIP
    """
    named = isinstance(which, Mapping) and "dataset_hash" in which
    found = Dataset & which if named else Dataset & (DatasetSpec.Scan & which).proj()
    hashes = sorted(found.to_arrays("dataset_hash").tolist())
    if len(hashes) != 1:
        raise DataError(
            "no data set" if not hashes else f"{len(hashes)} data sets",
            field="dataset",
            found=hashes or which,
            expected="one",
            remedy="name one by its dataset_hash" if hashes else "compute it first",
        )
    return load_dataset(Dataset.fetch_file({"dataset_hash": hashes[0]}))
