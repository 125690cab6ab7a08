"""A bundle in the making: its folder, and the files that were found in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.behavior.clocks import ClockMap
from pipeline.behavior.video import VideoFacts
from pipeline.closed_loop.package.photodiode import Flips
from pipeline.errors import DataError, Finding
from pipeline.recording.format import Recording
from pipeline.recording.frames import TimedScan
from pipeline.recording.streams import STREAMS
from pipeline.stimulus.monitor import MonitorCurve


@dataclass
class Bundle:
    """A recording whose files have been checked.

    Attributes
    ----------
    folder : Path
    recording : Recording
    files : dict
        Kind (tiff, traces, masks, frame_times, trials, monitor, eye_video, eye_times, pupil,
        treadmill, running, clocks, photodiode, player, recording, images) to paths.
    trials : dict of column to array or list
        `trial_idx, image_hash, onset_s, offset_s, blank_before_s`.
    images : dict of content hash to uint8 array (H, W)
        Those the folder holds.
    missing : list of str
        Content hashes on trials that the database must know.
    curve : MonitorCurve
    movie : Path, optional
        File beside the folder that a person named, and that `imaging.files` may name.
    timed : TimedScan, optional
        The movie, or traces and masks, opened, with the times of its frames.
    pulses : int
        Lines of frame_times.csv.
    frames : tuple of float, optional
        Times of the first and the last frame (s, clock of the frames).
    clocks : dict of stream to ClockMap
        The rig's own where nothing else is said.
    columns : dict of kind to dict of column to array
        `pupil`, `eye_times`, `running` as they were read; `running` also of a wheel's counts.
    video : VideoFacts, optional
        Of the video of the eye.
    flips : Flips, optional
        What the photodiode saw of the trials, whatever level they should have.
    clock_report : list of str
        One line for every stream with a clock of its own.
    findings : list of Finding
        What can be used, but a person should know.
    """

    folder: Path
    recording: Recording
    files: dict[str, list[Path]] = field(default_factory=dict)
    trials: dict[str, Any] = field(default_factory=dict)
    images: dict[str, NDArray[np.uint8]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    curve: MonitorCurve | None = None
    movie: Path | None = None
    timed: TimedScan | None = None
    pulses: int = 0
    frames: tuple[float, float] | None = None
    clocks: dict[str, ClockMap] = field(
        default_factory=lambda: {stream: ClockMap(0.0, 0.0, 1.0) for stream in STREAMS}
    )
    columns: dict[str, dict[str, NDArray[np.float64]]] = field(default_factory=dict)
    video: VideoFacts | None = None
    flips: Flips | None = None
    clock_report: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def inside(bundle: Bundle, name: str, entry: str) -> Path:
    """Return the path of a file that must be in the folder, or be the movie beside it."""
    path = (bundle.folder / name).resolve()
    if entry == "imaging.files" and bundle.movie is not None and name == bundle.movie.name:
        path = bundle.movie
    elif not path.is_relative_to(bundle.folder):
        raise DataError(
            "file lies outside of the bundle",
            file="recording.json",
            field=entry,
            found=name,
            expected="a name inside of the folder",
        )
    if len(str(path)) > 1000:
        raise DataError(
            "path is too long",
            file="recording.json",
            field=entry,
            found=len(str(path)),
            expected="at most 1000 characters",
        )
    if not path.is_file():
        other = "is no regular file" if path.exists() else "file is missing"
        kind = "is a folder" if path.is_dir() else other
        raise DataError(
            kind, file=path, field=entry, expected="a file", remedy="copy the whole bundle"
        )
    if path.stat().st_size == 0:
        raise DataError("file is empty", file=path, field=entry, found="0 bytes")
    return path


def optional(bundle: Bundle, kind: str, name: str) -> Path | None:
    """Return the path of a file that may be in the folder, and list it among the files."""
    if not (bundle.folder / name).exists():
        return None
    path = inside(bundle, name, kind)
    bundle.files[kind] = [path]
    return path
