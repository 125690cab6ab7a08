"""Images, responses and behaviour meet: one training set per scan or prepared file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datajoint as dj
import numpy as np

from pipeline.dataset import (
    Dataset as TrainingSet,
)
from pipeline.dataset import (
    assign_tiers,
    behavior_windows,
    load,
    reliability_methods,
    response_windows,
)
from pipeline.errors import DataError
from pipeline.registry import config_hash
from pipeline.stimulus.images import to_model
from schemas import behavior, experiment, imaging, stimulus
from schemas.method import MethodTable
from schemas.store import file_bytes, local_file, number

schema = dj.Schema()


@schema
class ResponseMethod(MethodTable, dj.Lookup):
    definition = """
    # Response window with its complete parameters
    response_hash   : char(16)       # hash of method and parameters
    ---
    response_method : varchar(64)    # name in pipeline.dataset.windows
    response_params : json           # every keyword parameter, defaults filled in
    """
    registry = response_windows


@schema
class ResponseTask(dj.Manual):
    definition = """
    # Decision to read one response a trial from a scan's activity
    -> imaging.ImagingTask
    -> ResponseMethod
    ---
    min_soma_probability=0.5 : float64  # (1) units below are left out
    min_snr=3.0     : float64        # (1) units with a lower trace SNR are left out
    """


@schema
class Responses(dj.Computed):
    definition = """
    # One response per trial and unit of a scan
    -> ResponseTask
    -> behavior.Sync
    ---
    responses       : <npy@main>     # float32 (trials, units), a.u.; by trial_idx and unit_id
    n_trials        : int32          # trials; NaN where the window leaves the recording
    n_units         : int32          # units
    """

    class Unit(dj.Part):
        definition = """
        # A unit that passed, and its column
        -> master
        unit_id     : int32          # of imaging.Segmentation.Unit
        ---
        -> imaging.Activity.Unit
        response_column : int32      # column of the response array, from 0
        delay_s     : float64        # when the unit is scanned after the start of a frame (s)
        """

    @property
    def key_source(self):
        """Tasks whose scan has its activity in every field."""
        tasks = ResponseTask * behavior.Sync
        fields = ResponseTask.proj() * imaging.ImagingRecipe * imaging.ScanInfo.Field.proj()
        return (tasks & imaging.ScanInfo.proj()) - (fields - imaging.Activity.proj())

    def make_fetch(self, key):
        recipe = imaging.ImagingRecipe & key
        limits = (ResponseTask & key).fetch1("min_soma_probability", "min_snr")
        fields = []
        for activity in (imaging.Activity & key & recipe).keys(order_by="field"):
            quality = imaging.Segmentation.Unit.proj("soma_probability", "y_px")
            found = quality * imaging.Fluorescence.Unit.proj("snr") & activity
            rows = found.to_dicts(order_by="unit_id")
            kept = [row for row, unit in enumerate(rows) if _passes(unit, *limits)]
            scan = (imaging.ScanInfo.Field & activity).fetch1(
                "delay_s", "line_period_s", "height_px"
            )
            fields.append(
                {
                    "key": activity,
                    "activity": (imaging.Activity & activity).fetch1("activity"),
                    "rows": kept,
                    "unit_id": [rows[row]["unit_id"] for row in kept],
                    "delay_s": [_delay(rows[row]["y_px"], *scan) for row in kept],
                }
            )
        times = (behavior.Sync & key).fetch1("frame_times", "trial_times")
        return fields, times, *ResponseMethod.fetch_method(key)

    def make_compute(self, key, fields, times, method, params):
        frame_times, trial_times = (reference.load() for reference in times)
        activity = np.concatenate(
            [f["activity"].load(mmap_mode="r")[f["rows"]].astype(np.float32) for f in fields]
        )
        if not len(activity):
            raise DataError("no unit passes", field="min_soma_probability, min_snr",
                            remedy="lower the limits in dataset.ResponseTask")  # fmt: skip
        units = [
            {**field["key"], "unit_id": unit_id, "delay_s": delay}
            for field in fields
            for unit_id, delay in zip(field["unit_id"], field["delay_s"], strict=True)
        ]
        n = min(activity.shape[1], len(frame_times))
        responses = response_windows[method](
            activity[:, :n],
            frame_times[:n],
            trial_times[:, 0],
            trial_times[:, 1] - trial_times[:, 0],
            np.array([unit["delay_s"] for unit in units]),
            **params,
        )
        return units, np.asarray(responses, np.float32)

    def make_insert(self, key, units, responses):
        n_trials, n_units = responses.shape
        self.insert1({**key, "responses": responses, "n_trials": n_trials, "n_units": n_units})
        self.Unit.insert(
            {**key, **unit, "response_column": column} for column, unit in enumerate(units)
        )


def _passes(unit: dict[str, Any], min_soma_probability: float, min_snr: float) -> bool:
    """Tell whether a unit is kept; one of unknown shape is, one of unknown noise is not."""
    soma = unit["soma_probability"]
    return (soma is None or soma >= min_soma_probability) and (unit["snr"] or 0.0) >= min_snr


def _delay(y_px: float, delay_s: float, line_period_s: float, height_px: int) -> float:
    """Return when a row is scanned after the start of a frame (s)."""
    return float(delay_s + (y_px - (height_px - 1) / 2) * line_period_s)


@schema
class BehaviorWindow(MethodTable, dj.Lookup):
    definition = """
    # How pupil and running are read on a trial, with complete parameters
    window_hash     : char(16)       # hash of method and parameters
    ---
    window_method   : varchar(64)    # name in pipeline.dataset.behavior
    window_params   : json           # every keyword parameter, defaults filled in
    """
    registry = behavior_windows


@schema
class TrialBehaviorTask(dj.Manual):
    definition = """
    # Decision to read the animal's state on the trials of a scan
    -> behavior.BehaviorTask
    -> BehaviorWindow
    """


@schema
class TrialBehavior(dj.Computed):
    definition = """
    # State of the animal on every trial of a scan; NaN where it is not known
    -> TrialBehaviorTask
    -> behavior.Pupil
    -> behavior.Treadmill
    ---
    behavior        : <npy@main>     # float64 (trials, 3): radius (px), change (px/s), speed (cm/s)
    pupil_center    : <npy@main>     # float64 (trials, 2): x, y (px); by trial_idx
    n_complete      : int32          # trials without any NaN
    """

    def make_fetch(self, key):
        return (
            (behavior.Pupil & key).fetch1("pupil"),
            (behavior.Treadmill & key).fetch1("speed"),
            (behavior.Sync & key).fetch1("trial_times"),
            *BehaviorWindow.fetch_method(key),
        )

    def make_compute(self, key, pupil, speed, trial_times, method, params):
        eye, wheel = pupil.load(), speed.load()
        time, x, y, radius = eye[:, :4].T if len(eye) else (None,) * 4
        run_time, run = wheel.T if len(wheel) else (None,) * 2
        onset = trial_times.load()[:, 0]
        result = behavior_windows[method](time, x, y, radius, run_time, run, onset, **params)
        return (
            np.asarray(result.behavior, np.float64),
            np.asarray(result.pupil_center, np.float64),
        )

    def make_insert(self, key, state, center):
        known = np.isfinite(np.concatenate([state, center], axis=1)).all(axis=1)
        self.insert1(
            {**key, "behavior": state, "pupil_center": center, "n_complete": int(known.sum())}
        )


@schema
class ReliabilityMethod(MethodTable, dj.Lookup):
    definition = """
    # Reliability measure with its complete parameters
    reliability_hash : char(16)      # hash of method and parameters
    ---
    reliability_method : varchar(64)  # name in pipeline.dataset.reliability
    reliability_params : json        # every keyword parameter, defaults filled in
    """
    registry = reliability_methods


@schema
class Reliability(dj.Computed):
    definition = """
    # Reliability of every unit of a scan across repeated images
    -> Responses
    -> ReliabilityMethod
    ---
    median_reliability=null : float64  # (1) median over units
    """

    class Unit(dj.Part):
        definition = """
        # Reliability of one unit
        -> master
        -> Responses.Unit
        ---
        reliability=null : float64   # (1) null if the unit never varies
        """

    @property
    def key_source(self):
        """Responses of scans that repeat images."""
        shown = dj.U("animal_id", "session", "scan_idx", "image_hash").aggr(
            stimulus.Trial, n_shown="count(*)"
        )
        return (Responses * ReliabilityMethod) & (shown & "n_shown > 1")

    def make_fetch(self, key):
        trials = (stimulus.Trial & key).to_dicts(order_by="trial_idx")
        units = (Responses.Unit & key).to_arrays("unit_id", order_by="response_column").tolist()
        return (
            (Responses & key).fetch1("responses"),
            [trial["image_hash"] for trial in trials],
            units,
            *ReliabilityMethod.fetch_method(key),
        )

    def make_compute(self, key, responses, images, units, method, params):
        values = responses.load()
        known = np.isfinite(values).all(axis=1)
        return units, reliability_methods[method](values[known], np.array(images)[known], **params)

    def make_insert(self, key, units, values):
        known = values[np.isfinite(values)]
        self.insert1(
            {**key, "median_reliability": number(np.median(known)) if len(known) else None}
        )
        rows = zip(units, values, strict=True)
        self.Unit.insert({**key, "unit_id": u, "reliability": number(v)} for u, v in rows)


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


@schema
class PreparedFile(dj.Manual):
    definition = """
    # File or folder with a data set that somebody prepared
    -> DatasetSpec
    ---
    path            : varchar(1024)  # absolute path
    size_bytes      : int64          # size when ingested (bytes), all files together
    fingerprint     : char(64)       # SHA-256 of the content
    """


@schema
class Dataset(dj.Computed):
    definition = """
    # Training set: images, responses, tiers, behaviour, and statistics of the train tier
    -> DatasetSpec
    ---
    dataset_file    : <object@main>  # npz that pipeline.dataset.load reads
    n_trials        : int32          # complete trials
    n_dropped       : int32          # trials left out: NaN in responses, behaviour or gaze
    n_units         : int32          # units
    n_images        : int32          # different images
    n_train         : int32          # trials of the train tier
    n_validation    : int32          # trials of the validation tier
    n_test          : int32          # trials of the test tier
    image_mean      : float64        # mean of the training images (grey levels)
    image_sd        : float64        # standard deviation of the training images (grey levels)
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
        if PreparedFile & key:
            source = ("prepared", (PreparedFile & key).fetch1("path", "fingerprint"))
        else:
            source = ("scan", self._fetch_scan((DatasetSpec.Scan & key).fetch1()))
        return source, (spec["height_px"], spec["width_px"]), spec["tier_params"]

    @staticmethod
    def _fetch_scan(member: dict[str, Any]) -> dict[str, Any]:
        trials = (stimulus.Trial & member).to_dicts(order_by="trial_idx")
        hashes = [trial["image_hash"] for trial in trials]
        found = Responses.Unit * imaging.Segmentation.Unit.proj("y_px", "x_px") & member
        units = found.to_dicts(order_by="response_column")
        fields = {field["field"]: field for field in (imaging.ScanInfo.Field & member).to_dicts()}
        return {
            "unit_ids": [unit["unit_id"] for unit in units],
            "um_xyz": [_position(unit, fields[unit["field"]]) for unit in units],
            "unit_key": {name: member[name] for name in Responses.primary_key},
            "hashes": hashes,
            "images": stimulus.ImageSet.locate(hashes),
            "responses": (Responses & member).fetch1("responses"),
            "state": (TrialBehavior & member).fetch1("behavior", "pupil_center"),
        }

    def make_compute(self, key, source, shape, tier_params):
        kind, content = source
        prepared = kind == "prepared"
        data = _prepared(*content) if prepared else _assemble(content, shape, tier_params)
        whole, dropped = data.complete()
        counts = {tier: len(whole.trials(tier)) for tier in ("train", "validation", "test")}
        if not counts["train"] or not counts["validation"]:
            raise DataError("a tier is empty", field="tiers", found=counts,
                            remedy="record more images that are shown once")  # fmt: skip
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
        return row, [int(unit) for unit in whole.unit_ids], unit_key

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
    with local_file(reference) as path:
        return load(path)


def _position(unit: dict[str, Any], field: dict[str, Any]) -> list[float | None]:
    """Return x, y, z (um) of a unit in the coordinates of its microscope, None if unknown."""
    if field["um_per_px_y"] is None:
        return [None, None, None]
    down = (unit["y_px"] - (field["height_px"] - 1) / 2) * field["um_per_px_y"]
    right = (unit["x_px"] - (field["width_px"] - 1) / 2) * field["um_per_px_x"]
    return [(field["x_um"] or 0.0) + right, (field["y_um"] or 0.0) + down, field["z_um"] or 0.0]


def _prepared(path: str, fingerprint: str) -> TrainingSet:
    if experiment.fingerprint(Path(path)) != fingerprint:
        raise DataError("prepared data set changed after ingest", file=path,
                        remedy="ingest it again under another name")  # fmt: skip
    return load(path)


def _assemble(
    content: dict[str, Any], shape: tuple[int, int], tier_params: dict[str, Any]
) -> TrainingSet:
    """Make the training set of one scan."""
    pixels = stimulus.load_images(content["images"])
    names = sorted(pixels)
    sizes: dict[tuple[int, int], list[str]] = {}
    for name in names:
        sizes.setdefault(pixels[name].shape, []).append(name)
    small = {}
    for group in sizes.values():
        scaled = to_model(np.stack([pixels[name] for name in group]), shape)
        small.update(zip(group, scaled, strict=True))
    position = {name: index for index, name in enumerate(names)}
    hashes = np.array(content["hashes"])
    um = np.array(content["um_xyz"], np.float64)
    state, center = (reference.load() for reference in content["state"])
    return TrainingSet(
        images=np.stack([small[name] for name in names]),
        image_index=np.array([position[name] for name in hashes]),
        image_id=hashes,
        responses=content["responses"].load(),
        tiers=assign_tiers(hashes, **tier_params),
        behavior=state,
        pupil_center=center,
        unit_ids=np.array(content["unit_ids"]),
        um_xyz=um if np.isfinite(um).all() else None,
    )
