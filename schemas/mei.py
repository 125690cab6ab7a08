"""From an ensemble to the images that are shown: targets, MEIs, masks, controls, display.

Work is cut into batches of target ranks, so that workers share it; no result depends on how.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import datajoint as dj
import numpy as np

from pipeline.errors import DataError
from pipeline.mei import ascent_methods, synthesize
from pipeline.mei.controls import ControlContext, Controls, control_kinds
from pipeline.mei.masks import mask_methods, mask_properties
from pipeline.mei.search import own_responses
from pipeline.mei.targets import TargetData, fraction_of, half_oracles, target_rules
from pipeline.stimulus.display import displays
from pipeline.stimulus.images import image_hash, to_model
from schemas import dataset, experiment, imaging, model, stimulus
from schemas.method import MethodTable
from schemas.store import number

schema = dj.Schema()


@control_kinds.register("mei")
def most_exciting(context: ControlContext) -> Controls:
    """Show the MEI itself, so that it goes the way of its controls."""
    images = np.asarray(context.mei_images, np.float32)
    answers = own_responses(context.cnn, context.zscore(images), context.pick())
    return Controls(images, None, answers, [{} for _ in context.units])


@schema
class TargetRule(MethodTable, dj.Lookup):
    definition = """
    # Selection of target units with its complete parameters
    target_hash     : char(16)       # hash of method and parameters
    ---
    target_method   : varchar(64)    # name in pipeline.mei.targets
    target_params   : json           # every keyword parameter, defaults filled in
    """
    registry = target_rules


@schema
class TargetTask(dj.Manual):
    definition = """
    # Decision to select targets by a rule from a CNN ensemble and its linear-nonlinear twin
    -> model.EnsembleSpec
    -> model.EnsembleSpec.proj(ln_ensemble_hash='ensemble_hash')
    -> TargetRule
    """


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
        """

    def make_fetch(self, key):
        cnn = {"ensemble_hash": key["ensemble_hash"]}
        ln = {"ensemble_hash": key["ln_ensemble_hash"]}
        order = {"order_by": "unit_index"}
        good = (model.Evaluation.Unit & cnn).to_dicts(**order)
        plain = (model.Evaluation.Unit & ln).to_dicts(**order)
        data_hash = (model.EnsembleSpec & cnn).fetch1("dataset_hash")
        if {row["dataset_hash"] for row in (*good, *plain)} != {data_hash}:
            raise DataError("ensembles of different data sets", field="TargetTask",
                            expected=data_hash)  # fmt: skip
        scores = tuple([row["validation"] for row in rows] for rows in (good, plain))
        return (
            data_hash,
            scores,
            _places(data_hash),
            dataset.Dataset.fetch_file({"dataset_hash": data_hash}),
            *TargetRule.fetch_method(key),
        )

    def make_compute(self, key, data_hash, scores, places, file, method, params):
        loaded = dataset.load_dataset(file)
        data = target_data(scores, places, loaded)
        result = target_rules[method](data, **params)
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
            }
            for index in range(len(result.kept))
        ]
        if not any(row["kept"] for row in rows):
            raise DataError("no unit qualifies as a target", field="TargetRule",
                            found=f"{len(rows)} units: {rows[0]['reason']} ...",
                            remedy="choose a more lenient rule or record longer")  # fmt: skip
        return rows, data_hash

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
    trials = data.trials("test")
    return half_oracles(data.responses[trials], np.asarray(data.image_id)[trials])


def target_data(scores: tuple[list, list], places: dict[str, Any] | None, data: Any) -> TargetData:
    """Gather what a target rule looks at: validation scores, and the oracle on half of the repeats.

    The models' scores on test images are not among it; the other half of the repeats reports.
    """
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


def _batch(key: Mapping[str, Any]) -> tuple[str, list[int]]:
    """Return data set and unit_index of the targets of one batch, best first."""
    first, last = (MEITask & key).fetch1("first_rank", "last_rank")
    kept = Targets.Unit & key & f"target_rank >= {first}" & f"target_rank <= {last}"
    rows = kept.to_dicts(order_by="target_rank")
    data_hash = (model.EnsembleSpec & {"ensemble_hash": key["ensemble_hash"]}).fetch1(
        "dataset_hash"
    )
    return data_hash, [row["unit_index"] for row in rows]


@schema
class AscentMethod(MethodTable, dj.Lookup):
    definition = """
    # Image synthesis with its complete parameters
    ascent_hash     : char(16)       # hash of method and parameters
    ---
    ascent_method   : varchar(64)    # name in pipeline.mei.ascent_methods
    ascent_params   : json           # every keyword parameter, defaults filled in
    """
    registry = ascent_methods


@schema
class MEITask(dj.Manual):
    definition = """
    # Decision to synthesise the MEIs of some targets
    -> TargetTask
    -> AscentMethod
    batch           : int16          # number of the batch, from 0
    ---
    first_rank      : int32          # rank of the first target of the batch
    last_rank       : int32          # rank of the last target of the batch, if there are so many
    starts          : int16          # independent starts of every image
    seed            : int32          # names all random numbers
    norm=null       : float64        # (1) L2 norm of z-scored pixels; null: the method's own
    """


@schema
class MEI(dj.Computed):
    definition = """
    # Most exciting inputs of a batch of targets; arrays in the order of target_rank
    -> MEITask
    -> Targets
    ---
    images          : <npy@main>     # float32 (units, h, w): the best start's image, in grey levels
    all_activations : <npy@main>     # float32 (units, starts): predicted responses (a.u.)
    trace           : <npy@main>     # float32 (points, units, starts): objective during the ascent
    n_units         : int32          # targets in this batch; 0 if there were fewer targets
    """

    class Unit(dj.Part):
        definition = """
        # MEI of one unit
        -> master
        -> dataset.Dataset.Unit
        ---
        image_row   : int32          # row of the arrays
        activation  : float64        # predicted response to the MEI at mean behaviour (a.u.)
        converged   : bool           # the last steps changed little
        restarted   : int32          # fresh starts because the unit was silent at first
        """

    worker_queue = "gpu"

    def make_fetch(self, key):
        data_hash, units = _batch(key)
        weights = model.EnsembleSpec.fetch_weights({"ensemble_hash": key["ensemble_hash"]})
        settings = (MEITask & key).fetch1("starts", "seed", "norm")
        return data_hash, units, weights, settings, *AscentMethod.fetch_method(key)

    def make_compute(self, key, data_hash, units, weights, settings, method, params):
        starts, seed, norm = settings
        ensemble = model.load_ensemble(weights)
        if not units:  # fewer targets than this batch begins at
            empty = np.zeros((0, *ensemble.input_shape), np.float32)
            return empty, np.zeros((0, starts), np.float32), np.zeros((0, 0, starts)), [], data_hash
        result = synthesize(
            ensemble.frozen(),
            np.array(units),
            shape=(1, *ensemble.input_shape),
            mean=ensemble.image_mean,
            sd=ensemble.image_sd,
            norm=norm,
            method=method,
            starts=starts,
            seed=seed,
            params=params,
        )
        rows = [
            {
                "unit_index": unit,
                "image_row": row,
                "activation": float(result.activations[row]),
                "converged": bool(result.converged[row]),
                "restarted": int(result.restarted[row]),
            }
            for row, unit in enumerate(units)
        ]
        return result.images[:, 0], result.all_activations, result.trace, rows, data_hash

    def make_insert(self, key, images, activations, trace, rows, data_hash):
        self.insert1(
            {
                **key,
                "images": np.asarray(images, np.float32),
                "all_activations": np.asarray(activations, np.float32),
                "trace": np.asarray(trace, np.float32),
                "n_units": len(rows),
            }
        )
        self.Unit.insert({**key, "dataset_hash": data_hash, **row} for row in rows)


@schema
class MaskMethod(MethodTable, dj.Lookup):
    definition = """
    # Mask of an MEI with its complete parameters
    mask_hash       : char(16)       # hash of method and parameters
    ---
    mask_method     : varchar(64)    # name in pipeline.mei.masks
    mask_params     : json           # every keyword parameter, defaults filled in
    """
    registry = mask_methods


@schema
class MaskTask(dj.Manual):
    definition = """
    # Decision to mask the MEIs of a batch
    -> MEITask
    -> MaskMethod
    """


@schema
class Mask(dj.Computed):
    definition = """
    # Where in the image the MEI is
    -> MaskTask
    -> MEI
    ---
    masks           : <npy@main>     # float32 (units, h, w): 0 outside to 1 inside (1)
    """

    class Unit(dj.Part):
        definition = """
        # Mask of one unit
        -> master
        -> MEI.Unit
        ---
        mask_area_px : float64       # sum of the mask (model px)
        mask_y_px=null : float64     # centre, down (model px); null if the mask is empty
        mask_x_px=null : float64     # centre, right (model px); null if the mask is empty
        energy_inside=null : float64  # (1) share of the MEI's squared contrast inside
        """

    def make_fetch(self, key):
        data_hash, units = _batch(key)
        weights = model.EnsembleSpec.fetch_weights({"ensemble_hash": key["ensemble_hash"]})
        images = (MEI & key).fetch1("images")
        return data_hash, units, images, weights, *MaskMethod.fetch_method(key)

    def make_compute(self, key, data_hash, units, images, weights, method, params):
        found = images.load()
        if not units:
            return found, [], data_hash
        ensemble = model.load_ensemble(weights)

        def rates(shown: np.ndarray) -> np.ndarray:
            return ensemble.predict(shown)[np.arange(len(units)), units]

        masks = mask_methods[method](found, ensemble.image_mean, rates, **params)
        about = mask_properties(found, masks, ensemble.image_mean)
        rows = [
            {
                "unit_index": unit,
                "mask_area_px": float(about.area_px[row]),
                "mask_y_px": number(about.y_px[row]),
                "mask_x_px": number(about.x_px[row]),
                "energy_inside": number(about.energy_inside[row]),
            }
            for row, unit in enumerate(units)
        ]
        return np.asarray(masks, np.float32), rows, data_hash

    def make_insert(self, key, masks, rows, data_hash):
        self.insert1({**key, "masks": masks})
        self.Unit.insert({**key, "dataset_hash": data_hash, **row} for row in rows)


@schema
class ControlMethod(MethodTable, dj.Lookup):
    definition = """
    # Kind of stimulus made for a target, with its complete parameters
    control_hash    : char(16)       # hash of kind and parameters
    ---
    control_method  : varchar(64)    # kind: mei rf gabor mni fni ...
    control_params  : json           # every keyword parameter, defaults filled in
    """
    registry = control_kinds


@schema
class ControlTask(dj.Manual):
    definition = """
    # Decision to make stimuli of one kind for a batch
    -> MaskTask
    -> ControlMethod
    ---
    seed            : int32          # names all random numbers
    """

    class Pool(dj.Part):
        definition = """
        # Further natural images to search, beside the training images of the data set
        -> master
        -> stimulus.ImageSet
        """


@schema
class Control(dj.Computed):
    definition = """
    # Stimuli of one kind for a batch of targets; arrays in the order of target_rank
    -> ControlTask
    -> Mask
    ---
    kind            : varchar(16)    # mei rf gabor mni fni ...
    images          : <npy@main>     # float32 (units, h, w), in grey levels
    masks           : <npy@main>     # float32 (units, h, w), or (0, h, w) if shown in full (1)
    """

    class Unit(dj.Part):
        definition = """
        # Stimulus of one unit
        -> master
        -> MEI.Unit
        ---
        activation=null : float64    # predicted response at mean behaviour (a.u.)
        info        : json           # what the kind has to say: Gabor parameters, natural image ...
        """

    worker_queue = "gpu"

    def make_fetch(self, key):
        data_hash, units = _batch(key)
        spec = {"dataset_hash": data_hash}
        pools = stimulus.ImageSet & (ControlTask.Pool & key)
        task = {
            "units": units,
            "mei": (MEI & key).fetch1("images"),
            "masks": (Mask & key).fetch1("masks"),
            "file": dataset.Dataset.fetch_file(spec),
            "pools": [row["images"] for row in pools.to_dicts(order_by="imageset_hash")],
            "norm": (MEITask & key).fetch1("norm"),
            "seed": (ControlTask & key).fetch1("seed"),
            "cnn": model.EnsembleSpec.fetch_weights({"ensemble_hash": key["ensemble_hash"]}),
            "ln": model.EnsembleSpec.fetch_weights({"ensemble_hash": key["ln_ensemble_hash"]}),
        }
        return data_hash, task, *ControlMethod.fetch_method(key)

    def make_compute(self, key, data_hash, task, kind, params):
        found = task["mei"].load()
        if not task["units"]:
            return kind, found, found, [], data_hash
        ensemble = model.load_ensemble(task["cnn"])
        context = ControlContext(
            cnn=ensemble.frozen(),
            ln=model.load_ensemble(task["ln"]).frozen(),
            units=np.array(task["units"]),
            mei_images=found,
            mei_masks=task["masks"].load(),
            image_mean=ensemble.image_mean,
            image_sd=ensemble.image_sd,
            natural=natural_pool(task["file"], task["pools"], ensemble.input_shape),
            norm=task["norm"],
            seed=task["seed"],
        )
        result = control_kinds[kind](context, **params)
        masks = found[:0] if result.masks is None else result.masks
        rows = [
            {
                "unit_index": unit,
                "activation": number(result.activations[row]),
                "info": as_json(result.info[row]),
            }
            for row, unit in enumerate(task["units"])
        ]
        return kind, result.images, masks, rows, data_hash

    def make_insert(self, key, kind, images, masks, rows, data_hash):
        self.insert1(
            {
                **key,
                "kind": kind,
                "images": np.asarray(images, np.float32),
                "masks": np.asarray(masks, np.float32),
            }
        )
        self.Unit.insert({**key, "dataset_hash": data_hash, **row} for row in rows)


def natural_pool(file: Any, pools: Sequence[Any], shape: tuple[int, int]) -> np.ndarray:
    """Return natural images to search, grey levels (n, h, w): the train tier and further sets."""
    data = dataset.load_dataset(file)
    shown = np.unique(data.image_index[data.trials("train")])
    parts = [to_model(data.images[shown], shape)]
    parts += [to_model(reference.load(mmap_mode="r"), shape) for reference in pools]
    return np.concatenate(parts)


def as_json(value: Any) -> Any:
    """Return a value as JSON can hold it; not finite numbers are null."""
    if isinstance(value, Mapping):
        return {str(name): as_json(item) for name, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [as_json(item) for item in value]
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return number(value)
    return value if value is None else str(value)


@schema
class DisplayMethod(MethodTable, dj.Lookup):
    definition = """
    # Way to the monitor: luminance, contrast, with complete parameters
    display_hash    : char(16)       # hash of method and parameters
    ---
    display_method  : varchar(64)    # name in pipeline.stimulus.display
    display_params  : json           # every keyword parameter, defaults filled in
    """
    registry = displays


@schema
class DisplayTask(dj.Manual):
    definition = """
    # Decision to bring the stimuli of one kind and batch to a monitor
    -> ControlTask
    -> DisplayMethod
    ---
    -> experiment.MonitorCalibration
    height_px       : int32          # height of the images for the rig (px)
    width_px        : int32          # width of the images for the rig (px)
    """


@schema
class Display(dj.Computed):
    definition = """
    # 8-bit images of matched luminance and contrast; rows in the order of target_rank
    -> DisplayTask
    -> Control
    ---
    images          : <npy@main>     # uint8 (units, height, width), in grey levels
    n_ok            : int32          # images whose luminance and contrast are as wanted
    """

    class Image(dj.Part):
        definition = """
        # One image as the rig will show it
        -> master
        -> MEI.Unit
        ---
        image_hash  : char(64)       # content hash; a row of stimulus.Image once it is planned
        image_row   : int32          # row of the array
        kind        : varchar(16)    # mei rf gabor mni fni ...
        mean_cd_m2  : float64        # mean luminance of the 8-bit image (cd/m2)
        sd_cd_m2    : float64        # standard deviation of its luminance (cd/m2)
        clipped_fraction : float64   # (1) share of pixels that wanted to leave the monitor's range
        ok          : bool           # luminance and contrast are as wanted
        reason      : varchar(255)   # why not
        predicted   : float64        # predicted response to exactly this image (a.u.)
        """

    def make_fetch(self, key):
        data_hash, units = _batch(key)
        task = (DisplayTask & key).fetch1()
        calibration = {name: task[name] for name in experiment.MonitorCalibration.primary_key}
        curve = (experiment.MonitorCalibration & calibration).fetch1(
            "pixel_value", "luminance_cd_m2"
        )
        control = (Control & key).fetch1("kind", "images", "masks")
        weights = model.EnsembleSpec.fetch_weights({"ensemble_hash": key["ensemble_hash"]})
        size = (task["height_px"], task["width_px"])
        return data_hash, units, curve, control, weights, size, *DisplayMethod.fetch_method(key)

    def make_compute(self, key, data_hash, units, curve, control, weights, size, method, params):
        kind, images, masks = control
        if not units:
            return np.zeros((0, *size), np.uint8), [], data_hash
        window = masks.load()
        given = {**params, "size_px": size, "masks": window if len(window) else None}
        shown = displays[method](images.load(), experiment.monitor_curve(*curve), **given)
        predicted = model.load_ensemble(weights).predict(shown.images)
        rows = [
            {
                "unit_index": unit,
                "image_hash": image_hash(shown.images[row]),
                "image_row": row,
                "kind": kind,
                "mean_cd_m2": float(shown.mean_cd_m2[row]),
                "sd_cd_m2": float(shown.sd_cd_m2[row]),
                "clipped_fraction": float(shown.clipped_fraction[row]),
                "ok": bool(shown.ok[row]),
                "reason": shown.reason[row][:255],
                "predicted": float(predicted[row, unit]),
            }
            for row, unit in enumerate(units)
        ]
        return shown.images, rows, data_hash

    def make_insert(self, key, images, rows, data_hash):
        self.insert1({**key, "images": images, "n_ok": sum(row["ok"] for row in rows)})
        self.Image.insert({**key, "dataset_hash": data_hash, **row} for row in rows)
