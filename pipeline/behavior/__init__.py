"""Pupil, running and the clocks that they were recorded on."""

from . import imported, rays  # noqa: F401  registers the trackers
from .clocks import ClockMap, resample
from .pupil import PupilResult, pupil_trackers
from .treadmill import SpeedResult, running_periods, treadmill_methods

__all__ = [
    "ClockMap",
    "PupilResult",
    "SpeedResult",
    "pupil_trackers",
    "resample",
    "running_periods",
    "treadmill_methods",
]
