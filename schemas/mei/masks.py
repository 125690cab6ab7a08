"""Where in the image an MEI is."""

from __future__ import annotations

from typing import Any, NamedTuple

import datajoint as dj
import numpy as np

from schemas import dataset, model  # noqa: F401  in a foreign key
from schemas.mei.binding import schema
from schemas.mei.synthesis import MEI, MEITask, batch_units  # noqa: F401  in a foreign key
from schemas.method import Methods, MethodTable
from schemas.store import number


@schema
class MaskMethod(MethodTable, dj.Lookup):
    definition = """
    # Mask of an MEI with its complete parameters
    mask_hash       : char(16)       # hash of method and parameters
    ---
    mask_method     : varchar(64)    # name in pipeline.mei.masks
    mask_params     : json           # every keyword parameter, defaults filled in
    """
    registry = Methods("pipeline.mei.masks", "mask_methods")


@schema
class MaskTask(dj.Manual):
    definition = """
    # Decision to mask the MEIs of a batch
    -> MEITask
    -> MaskMethod
    """


class MaskInputs(NamedTuple):
    """What the masks of a batch of MEIs are made of."""

    data_hash: str
    units: list[int]  # unit_index, in the order of the images
    images: Any  # reference, (units, height, width)
    weights: dict[str, Any]  # of EnsembleSpec.fetch_weights
    method: str
    params: dict[str, Any]


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
        mask_y_px=null : float64     # center, down (model px); null if the mask is empty
        mask_x_px=null : float64     # center, right (model px); null if the mask is empty
        energy_inside=null : float64  # (1) share of the MEI's squared contrast inside
        """

    def make_fetch(self, key):
        data_hash, units = batch_units(key)
        weights = model.EnsembleSpec.fetch_weights({"ensemble_hash": key["ensemble_hash"]})
        images = (MEI & key).fetch1("images")
        return (MaskInputs(data_hash, units, images, weights, *MaskMethod.fetch_method(key)),)

    def make_compute(self, key, given):
        from pipeline.mei.masks import mask_methods, mask_properties

        found, units = given.images.load(), given.units
        if not units:
            return found, [], given.data_hash
        ensemble = model.load_ensemble(given.weights)

        def rates(shown: np.ndarray) -> np.ndarray:
            return ensemble.predict(shown)[np.arange(len(units)), units]

        find = mask_methods[given.method]
        masks = find(found, ensemble.image_mean, rates, **given.params)
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
        return np.asarray(masks, np.float32), rows, given.data_hash

    def make_insert(self, key, masks, rows, data_hash):
        self.insert1({**key, "masks": masks})
        self.Unit.insert({**key, "dataset_hash": data_hash, **row} for row in rows)
