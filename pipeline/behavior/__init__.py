"""Pupil, running and the clocks that they were recorded on."""

from . import imported, rays  # noqa: F401  registers the trackers
from .clocks import ClockMap, resample
from .counters import camera_seconds, lost_frames, single_rows, unwrapped
from .pulses import pulse_onsets
from .pupil import PupilResult, pupil_trackers
from .treadmill import SpeedResult, running_periods, treadmill_methods

__all__ = [
    "ClockMap",
    "PupilResult",
    "SpeedResult",
    "camera_seconds",
    "lost_frames",
    "pulse_onsets",
    "pupil_trackers",
    "resample",
    "running_periods",
    "single_rows",
    "treadmill_methods",
    "unwrapped",
]
