"""Segmentation: registered methods that find cells in a motion-corrected movie."""

from pipeline.imaging.segmentation import cnmf, given, peaks  # noqa: F401  registers methods
from pipeline.imaging.segmentation.base import SegmentationResult, segmenters

__all__ = ["SegmentationResult", "segmenters"]
