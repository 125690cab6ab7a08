"""Behavior of a bundle against its scan: what is there, on which clock, and for how much of it.

A stream that cannot be used is not the same as none: in milliseconds, since 1970 or a minute late
it is refused here, before a night of work drops it in silence.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.behavior.clocks import ClockMap
from pipeline.csvfile import read_columns
from pipeline.errors import DataError, Finding
from pipeline.recording.folder import Bundle, inside, optional
from pipeline.recording.streams import (
    STREAMS,
    clock_of,
    read_clocks,
    read_pupil,
    read_running,
    read_treadmill,
)

VIDEOS = (".avi", ".mp4", ".mov", ".wmv", ".mkv", ".m4v", ".mpg", ".mpeg", ".tif", ".tiff")
_LEAST, _USUAL = 0.1, 0.9  # share of the scan that a stream has to cover, and should
_SLOWEST_S = 5.0  # interval of samples with which no stream of behavior is measured
_UNITS = {"milliseconds": 1e-3, "microseconds": 1e-6, "minutes": 60.0}
_WORDS = ("eye", "pupil", "treadmill", "running", "wheel", "clock", "photodiode", "trial", "player")
_DATA = (*VIDEOS, ".csv", ".tsv", ".txt", ".ssv", ".h5", ".hdf5", ".mat", ".npy", ".npz", ".json")
_DRIFT_S = 0.01  # distance of the pairs from the line that is said
_RATE = 1e-3  # difference of two clocks that is said: a quartz is off by 1e-4 at most


def check_clocks(bundle: Bundle) -> dict[str, ClockMap]:
    """Fit the clock of every stream, and say how many pairs were used and how well they fit.

    Raises
    ------
    DataError
        If a clock was restarted or steps, or the pairs do not increase.
    """
    path = optional(bundle, "clocks", "clocks.csv")
    pairs = {} if path is None else read_clocks(path)
    clocks = {}
    for stream in STREAMS:
        try:
            clock = clocks[stream] = clock_of(pairs, stream)
        except DataError as error:
            raise DataError(f"clock of {stream}: {error}", file=path) from None
        if path is None or stream not in pairs:
            continue
        rejected = int((~clock.used).sum())
        text = f"{path.name}: clock of {stream}: {len(clock.used)} pairs, {rejected} of them "
        text += (
            f"outliers, drift {clock.drift_ppm:.1f} ppm, residual {clock.residual_s * 1e3:.2g} ms"
        )
        kinds = {
            "clock-outliers": rejected > 0,
            "clock-drift": clock.residual_s > _DRIFT_S,
            "clock-rate": abs(clock.rate - 1) > _RATE,
        }
        names = [name for name, true in kinds.items() if true]
        bundle.clock_report.append(text)
        bundle.findings += [Finding(name, text) for name in names]
    return clocks


def check_behavior(bundle: Bundle, clocks: dict[str, ClockMap]) -> None:
    """Check pupil, eye video, treadmill and photodiode, and that they cover the scan.

    Raises
    ------
    DataError
        If a file cannot be read, or covers less than a tenth of the scan.
    """
    pupil = optional(bundle, "pupil", "pupil.csv")
    if pupil is not None:
        columns = read_pupil(pupil)
        _check_cover(bundle, pupil, columns["time_s"], clocks, "eye")
        _check_known(bundle, pupil, columns)
    elif (video := eye_video(bundle.folder)) is not None:
        optional(bundle, "eye_video", video.name)
        times = inside(bundle, "eye_times.csv", "eye_times")
        bundle.files["eye_times"] = [times]
        time = read_columns(times, ["frame", "time_s"], rising="time_s")["time_s"]
        _check_cover(bundle, times, time, clocks, "eye")
    photodiode = optional(bundle, "photodiode", "photodiode.csv")
    if photodiode is not None:
        read_columns(photodiode, ["time_s", "level"], rising="time_s")
    optional(bundle, "player", "player.json")
    _check_running(bundle, clocks)


def _check_running(bundle: Bundle, clocks: dict[str, ClockMap]) -> None:
    """Check the wheel's counts, or the speed of a rig that keeps no counts."""
    treadmill = optional(bundle, "treadmill", "treadmill.csv")
    running = optional(bundle, "running", "running.csv")
    if running is not None:
        if treadmill is not None:
            raise DataError(
                "speed comes twice",
                file=running,
                found="treadmill.csv and running.csv",
                expected="one of them",
                remedy="remove the one that is less exact",
            )
        _check_cover(bundle, running, read_running(running)["time_s"], clocks, "treadmill")
    if treadmill is None:
        return
    time = read_treadmill(treadmill)["time_s"]
    if bundle.recording.treadmill is None:
        raise DataError(
            "treadmill.csv comes without the wheel's size",
            file="recording.json",
            field="treadmill",
            expected='{"diameter_cm": ..., "counts_per_rev": ...}',
        )
    _check_cover(bundle, treadmill, time, clocks, "treadmill")


def eye_video(folder: Path) -> Path | None:
    """Return the video of the eye: `eye` with any ending of a video, in capitals or not.

    Raises
    ------
    DataError
        If there are several.
    """
    found = [
        path
        for path in sorted(folder.iterdir())
        if path.stem.lower() == "eye" and path.suffix.lower() in VIDEOS
    ]
    if len(found) > 1:
        raise DataError(
            "has several videos of the eye",
            file=folder,
            found=[path.name for path in found],
            expected="one",
        )
    return found[0] if found else None


def _check_cover(
    bundle: Bundle,
    path: Path,
    time_s: NDArray[np.float64],
    clocks: dict[str, ClockMap],
    stream: str,
) -> None:
    """Raise if a stream is on another clock or in another unit; say if it covers a part only."""
    begin, end = clocks["frames"].to_rig(np.array(bundle.frames))
    time = clocks[stream].to_rig(time_s)
    share, interval = _cover(time, begin, end)
    if share >= _LEAST and interval <= _SLOWEST_S:
        if share < _USUAL:
            text = (
                f"{path.name}: covers {share:.0%} of the scan, {time[0]:.1f} to {time[-1]:.1f} s "
            )
            text += f"of {begin:.1f} to {end:.1f} s; the rest has no {stream}"
            bundle.findings.append(Finding("behavior-partial", text))
        return
    guess = ""
    for unit, factor in _UNITS.items():
        scaled = clocks[stream].to_rig(time_s * factor)
        if _cover(scaled, begin, end)[0] > 0.5 and _cover(scaled, begin, end)[1] < 1:
            guess = f"; they look like {unit}"
    raise DataError(
        "does not cover the recording",
        file=path,
        field="time_s",
        found=f"{time[0]:.6g} to {time[-1]:.6g} s, {interval:.3g} s apart{guess}",
        expected=f"the frames, {begin:.6g} to {end:.6g} s",
        remedy="give times in seconds on the rig's clock, or its pairs in clocks.csv, or leave the "
        "file out",
    )


def _cover(time: NDArray[np.float64], begin: float, end: float) -> tuple[float, float]:
    """Return the share of the scan between the first and last sample, and their interval (s)."""
    if len(time) < 2 or end <= begin:
        return 0.0, np.inf
    share = (min(time[-1], end) - max(time[0], begin)) / (end - begin)
    return max(0.0, float(share)), float(np.median(np.diff(time)))


def _check_known(bundle: Bundle, path: Path, columns: dict[str, NDArray[np.float64]]) -> None:
    known = np.isfinite(columns["radius_px"])
    if not known.any():
        raise DataError(
            "has no radius in any sample",
            file=path,
            field="radius_px",
            found="NaN throughout",
            remedy="leave the file out, or track the pupil again",
        )
    if known.mean() < 0.5:
        text = f"{path.name}: the pupil is known in {known.mean():.0%} of the samples"
        bundle.findings.append(Finding("pupil-seldom", text))


def other_files(bundle: Bundle) -> None:
    """Say which files look like data of the recording and are read by nobody."""
    read = {path for paths in bundle.files.values() for path in paths}
    for path in sorted(bundle.folder.iterdir()):
        name = path.name.lower()
        if path.resolve() in read or not path.is_file() or name.startswith("."):
            continue
        if path.suffix.lower() in _DATA and any(word in name for word in _WORDS):
            text = f"{path.name}: is not read; docs/formats.md names the files of a recording"
            bundle.findings.append(Finding("file-not-read", text))
