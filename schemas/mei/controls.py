"""Stimuli of every kind for the same units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import datajoint as dj
import numpy as np

from schemas import dataset, model, stimulus
from schemas.mei.binding import schema
from schemas.mei.masks import Mask, MaskTask  # noqa: F401  in a foreign key
from schemas.mei.synthesis import MEI, MEITask, batch_units
from schemas.method import Methods, MethodTable
from schemas.store import number


@schema
class ControlMethod(MethodTable, dj.Lookup):
    definition = """
    # Kind of stimulus made for a target, with its complete parameters
    control_hash    : char(16)       # hash of kind and parameters
    ---
    control_method  : varchar(64)    # kind: mei rf gabor mni fni ...
    control_params  : json           # every keyword parameter, defaults filled in
    """
    registry = Methods("pipeline.mei.controls", "control_kinds")


@schema
class ControlTask(dj.Manual):
    definition = """
    # Decision to make stimuli of one kind for a batch
    -> MaskTask
    -> ControlMethod
    variant         : int16          # which of a unit's images of this kind, from 0
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
    kind            : varchar(64)    # mei rf gabor mni fni ...
    images          : <npy@main>     # float32 (units, h, w), in gray levels
    masks           : <npy@main>     # float32 (units, h, w), or (0, h, w) if shown in full (1)
    """

    class Unit(dj.Part):
        definition = """
        # Stimulus of one unit
        -> master
        -> MEI.Unit
        ---
        activation=null : float64    # predicted response at mean behavior (a.u.)
        info        : json           # what the kind has to say: Gabor parameters, natural image ...
        """

    worker_queue = "gpu"

    def make_fetch(self, key):
        data_hash, units = batch_units(key)
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
        from pipeline.mei.controls import ControlContext, control_kinds

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
    """Return natural images to search, gray levels (n, h, w): the train tier and further sets."""
    from pipeline.stimulus.images import to_model

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
