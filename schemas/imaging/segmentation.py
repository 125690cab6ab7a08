"""Units of a field: their masks, and ids that are unique in a scan."""

from __future__ import annotations

from typing import Any

import datajoint as dj
import numpy as np

from schemas.imaging.binding import schema
from schemas.imaging.methods import SegmentationMethod, StepOfRecipe
from schemas.imaging.motion import Motion, corrected_movie
from schemas.imaging.scan import ScanInfo
from schemas.store import number


@schema
class Segmentation(StepOfRecipe, dj.Computed):
    definition = """
    # Units of a field
    -> Motion
    -> SegmentationMethod
    ---
    n_units         : int32          # number of units
    mask_start      : <npy@main>     # int64 (units + 1): where each unit's pixels begin
    mask_pixel      : <npy@main>     # int32 (pixels): row * width + column, from 0
    mask_weight     : <npy@main>     # float32 (pixels): share of the pixel in the unit's trace (1)
    """

    class Unit(dj.Part):
        definition = """
        # One unit
        -> master
        unit_id     : int32          # unique in a scan: field * 100000 + row of the arrays + 1
        ---
        y_px        : float64        # center in the motion-corrected mean image, down (px)
        x_px        : float64        # center in the motion-corrected mean image, right (px)
        area_px     : int32          # pixels of the mask
        score=null  : float64        # (1) size of transients over noise; the segmenter's order
        soma_probability=null : float64  # (1) that it is a cell body
        """

    def make_fetch(self, key):
        return Motion.fetch_corrections(key), *SegmentationMethod.fetch_method(key)

    def make_compute(self, key, corrections, method, params):
        from pipeline.imaging.segmentation import segmenters
        from pipeline.imaging.segmentation.masks import centroids, pack_masks, unit_ids

        movie = corrected_movie(key["field"], corrections)
        result = segmenters[method](movie, **params)
        packed = pack_masks(result.masks, result.weights)
        center = centroids(*packed, width=movie.shape[2])
        ids = unit_ids(key["field"], len(result.masks))
        units = [
            {
                "unit_id": unit_id,
                "y_px": float(center[row, 0]),
                "x_px": float(center[row, 1]),
                "area_px": int(packed[0][row + 1] - packed[0][row]),
                "score": number(result.score[row]),
                "soma_probability": number(result.soma_probability[row]),
            }
            for row, unit_id in enumerate(ids)
        ]
        return packed, units

    def make_insert(self, key, packed, units):
        start, pixel, weight = packed
        self.insert1(
            {
                **key,
                "n_units": len(units),
                "mask_start": start,
                "mask_pixel": pixel,
                "mask_weight": weight,
            }
        )
        self.Unit.insert({**key, **unit} for unit in units)

    @classmethod
    def fetch_masks(cls, key: dict[str, Any]) -> dict[str, Any]:
        """Return what `load_masks` needs (references and numbers, no arrays)."""
        start, pixel, weight = (cls & key).fetch1("mask_start", "mask_pixel", "mask_weight")
        height, width = (ScanInfo.Field & key).fetch1("height_px", "width_px")
        return {"start": start, "pixel": pixel, "weight": weight, "shape": (height, width)}

    @classmethod
    def fetch_units(cls, key: dict[str, Any]) -> list[int]:
        """Return the unit_id of every row of the arrays of a field."""
        return (cls.Unit & key).to_arrays("unit_id", order_by="unit_id").tolist()


def load_masks(packed: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return masks bool and weights float32, both (units, H, W), of `Segmentation.fetch_masks`."""
    from pipeline.imaging.segmentation.masks import unpack_masks

    parts = (packed[name].load() for name in ("start", "pixel", "weight"))
    return unpack_masks(*parts, tuple(packed["shape"]))
