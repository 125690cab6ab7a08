"""The 8-bit images that the monitor shows."""

from __future__ import annotations

from typing import Any, NamedTuple

import datajoint as dj
import numpy as np

from schemas import dataset, experiment, model  # noqa: F401  in a foreign key
from schemas.mei.binding import schema
from schemas.mei.controls import Control, ControlTask  # noqa: F401  in a foreign key
from schemas.mei.synthesis import MEI, batch_units  # noqa: F401  in a foreign key
from schemas.method import Methods, MethodTable
from schemas.pictures import ShowsPictures, rows_of


@schema
class DisplayMethod(MethodTable, dj.Lookup):
    definition = """
    # Way to the monitor: luminance, contrast, with complete parameters
    display_hash    : char(16)       # hash of method and parameters
    ---
    display_method  : varchar(64)    # name in pipeline.stimulus.display
    display_params  : json           # every keyword parameter, defaults filled in
    """
    registry = Methods("pipeline.stimulus.display", "displays")


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


class DisplayInputs(NamedTuple):
    """What the shown images of a batch are made of."""

    data_hash: str
    units: list[int]  # unit_index, in the order of the images
    curve: tuple  # of experiment.monitor_curve
    kind: str
    images: Any  # reference, (units, height, width) of the model
    masks: Any  # reference, the same, or (0, ...) without masks
    weights: dict[str, Any]  # of EnsembleSpec.fetch_weights
    size_px: tuple[int, int]  # height, width of the shown images
    method: str
    params: dict[str, Any]


@schema
class Display(dj.Computed):
    definition = """
    # 8-bit images of matched luminance and contrast; rows in the order of target_rank
    -> DisplayTask
    -> Control
    ---
    images          : <npy@main>     # uint8 (units, height, width), in gray levels
    n_ok            : int32          # images whose luminance and contrast are as wanted
    """

    class Image(ShowsPictures, dj.Part):
        definition = """
        # One image as the rig will show it
        -> master
        -> MEI.Unit
        ---
        image_hash  : char(64)       # content hash; a row of stimulus.Image once it is planned
        image_row   : int32          # row of the array
        kind        : varchar(64)    # mei rf gabor mni fni ...
        mean_cd_m2  : float64        # mean luminance of the 8-bit image (cd/m2)
        sd_cd_m2    : float64        # standard deviation of its luminance (cd/m2)
        clipped_fraction : float64   # (1) share of pixels that wanted to leave the monitor's range
        ok          : bool           # luminance and contrast are as wanted
        reason      : varchar(255)   # why not
        predicted   : float64        # predicted response to exactly this image (a.u.)
        """

        def pictures(self, most):
            """Return the first images as the rig shows them."""
            found = []
            for row in rows_of(self, most):
                images = (Display & {k: row[k] for k in Display.primary_key}).fetch1("images")
                image = images.load(mmap_mode="r")[row["image_row"]]
                found.append((f"output {row['unit_index']}: {row['kind']}", image))
            return found

    def make_fetch(self, key):
        data_hash, units = batch_units(key)
        task = (DisplayTask & key).fetch1()
        calibration = {name: task[name] for name in experiment.MonitorCalibration.primary_key}
        curve = (experiment.MonitorCalibration & calibration).fetch1(
            "pixel_value", "luminance_cd_m2"
        )
        given = DisplayInputs(
            data_hash,
            units,
            curve,
            *(Control & key).fetch1("kind", "images", "masks"),
            model.EnsembleSpec.fetch_weights({"ensemble_hash": key["ensemble_hash"]}),
            (task["height_px"], task["width_px"]),
            *DisplayMethod.fetch_method(key),
        )
        return (given,)

    def make_compute(self, key, given):
        from pipeline.stimulus.display import displays
        from pipeline.stimulus.images import image_hash

        if not given.units:
            return np.zeros((0, *given.size_px), np.uint8), [], given.data_hash
        window, curve = given.masks.load(), experiment.monitor_curve(*given.curve)
        params = {
            **given.params,
            "size_px": given.size_px,
            "masks": window if len(window) else None,
        }
        shown = displays[given.method](given.images.load(), curve, **params)
        predicted = model.load_ensemble(given.weights).predict(shown.images)
        rows = [
            {
                "unit_index": unit,
                "image_hash": image_hash(shown.images[row]),
                "image_row": row,
                "kind": given.kind,
                "mean_cd_m2": float(shown.mean_cd_m2[row]),
                "sd_cd_m2": float(shown.sd_cd_m2[row]),
                "clipped_fraction": float(shown.clipped_fraction[row]),
                "ok": bool(shown.ok[row]),
                "reason": shown.reason[row][:255],
                "predicted": float(predicted[row, unit]),
            }
            for row, unit in enumerate(given.units)
        ]
        return shown.images, rows, given.data_hash

    def make_insert(self, key, images, rows, data_hash):
        self.insert1({**key, "images": images, "n_ok": sum(row["ok"] for row in rows)})
        self.Image.insert({**key, "dataset_hash": data_hash, **row} for row in rows)
