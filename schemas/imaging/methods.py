"""The methods of every step from frames to activity, recipes of them, and who asked for which."""

from __future__ import annotations

from typing import Any, ClassVar

import datajoint as dj

from pipeline.registry import config_hash
from schemas import experiment  # noqa: F401  named in a definition
from schemas.imaging.binding import schema
from schemas.method import Methods, MethodTable


@schema
class RasterMethod(MethodTable, dj.Lookup):
    definition = """
    # Estimate of the raster phase with its complete parameters
    raster_hash     : char(16)       # hash of method and parameters
    ---
    raster_method   : varchar(64)    # name in pipeline.imaging.raster
    raster_params   : json           # every keyword parameter, defaults filled in
    """
    registry = Methods("pipeline.imaging.raster", "raster_methods")


@schema
class MotionMethod(MethodTable, dj.Lookup):
    definition = """
    # Motion estimate with its complete parameters
    motion_hash     : char(16)       # hash of method and parameters
    ---
    motion_method   : varchar(64)    # name in pipeline.imaging.motion
    motion_params   : json           # every keyword parameter, defaults filled in
    """
    registry = Methods("pipeline.imaging.motion", "motion_methods")


@schema
class SegmentationMethod(MethodTable, dj.Lookup):
    definition = """
    # Segmenter with its complete parameters
    segmentation_hash : char(16)     # hash of method and parameters
    ---
    segmentation_method : varchar(64)  # name in pipeline.imaging.segmentation
    segmentation_params : json       # every keyword parameter, defaults filled in
    """
    registry = Methods("pipeline.imaging.segmentation", "segmenters")


@schema
class FluorescenceMethod(MethodTable, dj.Lookup):
    definition = """
    # Extraction of traces with its complete parameters
    fluorescence_hash : char(16)     # hash of method and parameters
    ---
    fluorescence_method : varchar(64)  # name in pipeline.imaging.extraction
    fluorescence_params : json       # every keyword parameter, defaults filled in
    """
    registry = Methods("pipeline.imaging.extraction", "fluorescence_methods")


@schema
class DeconvolutionMethod(MethodTable, dj.Lookup):
    definition = """
    # Deconvolver with its complete parameters
    deconvolution_hash : char(16)    # hash of method and parameters
    ---
    deconvolution_method : varchar(64)  # name in pipeline.imaging.deconvolution
    deconvolution_params : json      # every keyword parameter, defaults filled in
    """
    registry = Methods("pipeline.imaging.deconvolution", "deconvolvers")


@schema
class ImagingRecipe(dj.Lookup):
    definition = """
    # One method for every step from frames to activity
    imaging_hash    : char(16)       # hash of the five methods
    ---
    -> RasterMethod
    -> MotionMethod
    -> SegmentationMethod
    -> FluorescenceMethod
    -> DeconvolutionMethod
    """

    steps: ClassVar[dict[str, type]] = {
        "raster": RasterMethod,
        "motion": MotionMethod,
        "segmentation": SegmentationMethod,
        "fluorescence": FluorescenceMethod,
        "deconvolution": DeconvolutionMethod,
    }

    @classmethod
    def add(cls, methods: dict[str, dict[str, Any]] | None = None) -> dict:
        """Insert a recipe unless it is there, and return its key.

        Parameters
        ----------
        methods : dict, optional
            Step (raster, motion, segmentation, fluorescence, deconvolution) to
            `{"method": name, "params": {...}}`; what is left out is the recommended one.
        """
        methods = methods or {}
        unknown = sorted(set(methods) - set(cls.steps))
        if unknown:
            raise ValueError(f"no imaging step {unknown}; there are {sorted(cls.steps)}")
        row = {}
        for step, table in cls.steps.items():
            chosen = methods.get(step) or {}
            row.update(table.add(chosen.get("method"), chosen.get("params")))
        key = {"imaging_hash": config_hash(row)}
        cls.insert1({**key, **row}, skip_duplicates=True)
        return key


@schema
class ImagingTask(dj.Manual):
    definition = """
    # Decision to process a scan by a recipe
    -> experiment.Scan
    -> ImagingRecipe
    """


class StepOfRecipe:
    """Mixin of the steps: only fields and methods of the recipes that somebody asked for."""

    @property
    def key_source(self):
        """Parents' keys that belong to a task."""
        return super().key_source & (ImagingTask * ImagingRecipe)
