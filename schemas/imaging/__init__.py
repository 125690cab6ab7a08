"""From the frames of a scan to the deconvolved activity of its units.

One database schema in modules by question; this package has every table's name.
"""

from schemas.imaging.activity import Activity
from schemas.imaging.binding import schema
from schemas.imaging.chain import (
    UNITS_PER_FIELD,
    DeconvolutionMethod,
    Fluorescence,
    FluorescenceMethod,
    ImagingRecipe,
    ImagingTask,
    Motion,
    MotionMethod,
    RasterMethod,
    RasterPhase,
    ScanInfo,
    Segmentation,
    SegmentationMethod,
    channel_position,
    corrected_movie,
    field_movie,
    frame_times,
    load_masks,
    open_recording,
    recording_files,
)
from schemas.imaging.classification import (
    ClassifierMethod,
    LabelSet,
    MaskClassification,
    MaskClassificationTask,
    MaskClassifier,
    MaskLabel,
)
from schemas.imaging.summary import Quality, QualityMethod, SummaryImages

__all__ = [
    "UNITS_PER_FIELD",
    "Activity",
    "ClassifierMethod",
    "DeconvolutionMethod",
    "Fluorescence",
    "FluorescenceMethod",
    "ImagingRecipe",
    "ImagingTask",
    "LabelSet",
    "MaskClassification",
    "MaskClassificationTask",
    "MaskClassifier",
    "MaskLabel",
    "Motion",
    "MotionMethod",
    "Quality",
    "QualityMethod",
    "RasterMethod",
    "RasterPhase",
    "ScanInfo",
    "Segmentation",
    "SegmentationMethod",
    "SummaryImages",
    "channel_position",
    "corrected_movie",
    "field_movie",
    "frame_times",
    "load_masks",
    "open_recording",
    "recording_files",
    "schema",
]
