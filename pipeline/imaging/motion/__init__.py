"""Motion correction: registered methods that estimate how the field moved."""

from pipeline.imaging.motion import piecewise, rigid  # noqa: F401  registers its methods
from pipeline.imaging.motion.base import MotionResult, corrected_movie, motion_methods

__all__ = ["MotionResult", "corrected_movie", "motion_methods"]
