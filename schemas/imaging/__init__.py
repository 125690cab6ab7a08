"""From the frames of a scan to the deconvolved activity of its units.

Every step is keyed by the scan, the field and the methods so far, so that two recipes that differ
in the last step share all others. One database schema in modules by step; this package has every
table's name.
"""

from schemas.imaging.binding import schema
from schemas.imaging.classification import (
    ClassifierMethod,
    LabelSet,
    MaskClassification,
    MaskClassificationTask,
    MaskClassifier,
    MaskLabel,
)
from schemas.imaging.methods import (
    DeconvolutionMethod,
    FluorescenceMethod,
    ImagingRecipe,
    ImagingTask,
    MotionMethod,
    RasterMethod,
    SegmentationMethod,
)
from schemas.imaging.motion import Motion, RasterPhase, corrected_movie
from schemas.imaging.opening import (
    channel_position,
    field_movie,
    frame_times,
    open_recording,
    recording_files,
)
from schemas.imaging.scan import ScanInfo
from schemas.imaging.segmentation import Segmentation, load_masks
from schemas.imaging.summary import Quality, QualityMethod, SummaryImages
from schemas.imaging.traces import Activity, Fluorescence

__all__ = [
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
