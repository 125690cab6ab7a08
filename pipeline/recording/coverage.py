"""Behavior of a bundle against its scan: what is there, on which clock, and for how much of it.

A stream that cannot be used is not the same as none: in milliseconds, since 1970 or a minute late
it is refused here, before a night of work drops it in silence.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.behavior.treadmill import treadmill_methods
from pipeline.behavior.video import count_frames, read_facts
from pipeline.closed_loop.package.photodiode import check_flips, read_flips
from pipeline.csvfile import read_columns
from pipeline.errors import DataError, Finding
from pipeline.recording.folder import Bundle, inside, optional
from pipeline.recording.frames import FRAME_SLACK, pair_by_count
from pipeline.recording.streams import (
    STREAMS,
    clock_of,
    read_clocks,
    read_pupil,
    read_running,
    read_times,
    read_treadmill,
)

VIDEOS = (".avi", ".mp4", ".mov", ".wmv", ".mkv", ".m4v", ".mpg", ".mpeg", ".tif", ".tiff")
UNITS = {"milliseconds": 1e-3, "microseconds": 1e-6, "minutes": 60.0}
_LEAST, _USUAL = 0.1, 0.9  # share of the scan that a stream has to cover, and should
_SLOWEST_S = 5.0  # interval of samples with which no stream of behavior is measured
_FASTEST_CM_S = 150.0  # that a mouse runs
_WORDS = ("eye", "pupil", "treadmill", "running", "wheel", "clock", "photodiode", "trial", "player")
_DATA = (*VIDEOS, ".csv", ".tsv", ".txt", ".ssv", ".h5", ".hdf5", ".mat", ".npy", ".npz", ".json")
_DRIFT_S = 0.01  # distance of the pairs from the line that is said
_RATE = 1e-3  # difference of two clocks that is said: a quartz is off by 1e-4 at most
_SEEN = 0.9  # share of the trials whose flip a photodiode should see


def check_clocks(bundle: Bundle) -> None:
    """Fit the clock of every stream, and say how many pairs were used and how well they fit.

    Raises
    ------
    DataError
        If a clock was restarted or steps, or the pairs do not increase.
    """
    path = optional(bundle, "clocks", "clocks.csv")
    pairs = {} if path is None else read_clocks(path)
    for stream in STREAMS:
        try:
            clock = bundle.clocks[stream] = clock_of(pairs, stream)
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


def check_eye(bundle: Bundle) -> None:
    """Check the pupil, or the video of the eye and its times, and that they cover the scan.

    Raises
    ------
    DataError
        If a file cannot be read, frames and times differ, or less than a tenth is covered.
    """
    pupil = optional(bundle, "pupil", "pupil.csv")
    video = None if pupil is not None else eye_video(bundle.folder)
    if pupil is not None:
        columns = bundle.columns["pupil"] = read_pupil(pupil)
        _check_cover(bundle, pupil, columns["time_s"], "eye")
        _check_known(bundle, pupil, columns)
    elif video is not None:
        optional(bundle, "eye_video", video.name)
        path = inside(bundle, "eye_times.csv", "eye_times")
        bundle.files["eye_times"] = [path]
        time = read_times(path, ["frame"])["time_s"]
        facts = bundle.video = read_facts(video)
        frames = facts.frames
        if abs(frames - len(time)) > FRAME_SLACK:  # a header may only estimate
            frames = count_frames(video)
        paired, findings = pair_by_count(frames, time, file=path)
        names = {"frame-times-uneven": "eye-times-uneven"}
        bundle.findings += [Finding(names.get(f.name, f.name), f.text) for f in findings]
        bundle.columns["eye_times"] = {"time_s": paired}
        _check_cover(bundle, path, time, "eye")


def check_photodiode(bundle: Bundle) -> None:
    """Read photodiode.csv and player.json, and say how many trials' flips the diode saw.

    Raises
    ------
    DataError
        If a file cannot be read, or the diode never changes.
    """
    optional(bundle, "player", "player.json")
    path = optional(bundle, "photodiode", "photodiode.csv")
    if path is None:
        return
    flips = read_flips(path)
    trials = bundle.trials
    if not trials:
        return
    clock = bundle.clocks["trials"]
    onset = np.sort(clock.to_rig(np.asarray(trials["onset_s"], np.float64)))
    try:
        seen = bundle.flips = check_flips(
            flips["time_s"], flips["level"], np.full(len(onset), -1), onset
        )
    except DataError as error:
        raise DataError(str(error).removeprefix(f"{path.name}: "), file=path) from None
    bundle.findings += [Finding(f.name, f"{path.name}: {f.text}") for f in seen.findings]
    if seen.seen.mean() < _SEEN:
        text = f"{path.name}: the diode saw {int(seen.seen.sum())} of {len(onset)} trials"
        bundle.findings.append(Finding("photodiode-unseen", text))


def check_running(bundle: Bundle) -> None:
    """Check the wheel's counts, or the speed of a rig that keeps no counts.

    Raises
    ------
    DataError
        If a file cannot be read, comes without the wheel's size, or covers less than a tenth.
    """
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
        columns = bundle.columns["running"] = read_running(running)
        _check_cover(bundle, running, columns["time_s"], "treadmill")
        _check_speed(bundle, running)
    elif treadmill is not None:
        _check_counts(bundle, treadmill)


def _check_counts(bundle: Bundle, path: Path) -> None:
    wheel = bundle.recording.treadmill
    if wheel is None:
        raise DataError(
            "treadmill.csv comes without the wheel's size",
            file="recording.json",
            field="treadmill",
            expected='{"diameter_cm": ..., "counts_per_rev": ...}',
        )
    columns = read_treadmill(path)
    _check_cover(bundle, path, columns["time_s"], "treadmill")
    try:
        found = treadmill_methods.bind(None)(
            columns["time_s"], columns["counts"], wheel.diameter_cm, wheel.counts_per_rev
        )
    except DataError as error:
        raise DataError(str(error), file=path) from None
    bundle.columns["running"] = {"time_s": found.time_s, "speed_cm_s": found.speed_cm_s}
    rows = len(read_columns(path, ["time_s"])["time_s"])
    if joined := rows - len(columns["time_s"]):
        text = f"{path.name}: {joined} of {rows} rows share their time with another"
        bundle.findings.append(Finding("rows-joined", text))
    _check_speed(bundle, path)


def _check_speed(bundle: Bundle, path: Path) -> None:
    """Say if the animal runs as no mouse does, or if most of the speed is not known."""
    speed = np.abs(bundle.columns["running"]["speed_cm_s"])
    known = speed[np.isfinite(speed)]
    if not len(known):
        raise DataError(
            "has no speed in any sample",
            file=path,
            found="NaN throughout",
            remedy="leave the file out, or write the speed again",
        )
    fast = float(np.percentile(known, 99))
    if fast > _FASTEST_CM_S:
        text = f"{path.name}: 1 % of the samples are faster than {fast:.0f} cm/s"
        bundle.findings.append(Finding("running-implausible", text))


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


def _check_cover(bundle: Bundle, path: Path, time_s: NDArray[np.float64], stream: str) -> None:
    """Raise if a stream is on another clock or in another unit; say if it covers a part only."""
    if bundle.frames is None:
        return
    clocks = bundle.clocks
    begin, end = clocks["frames"].to_rig(np.array(bundle.frames))
    time = clocks[stream].to_rig(time_s)
    share, interval = cover(time, begin, end)
    if share >= _LEAST and interval <= _SLOWEST_S:
        if share < _USUAL:
            text = (
                f"{path.name}: covers {share:.0%} of the scan, {time[0]:.1f} to {time[-1]:.1f} s "
            )
            text += f"of {begin:.1f} to {end:.1f} s; the rest has no {stream}"
            bundle.findings.append(Finding("behavior-partial", text))
        return
    guess = ""
    for unit, factor in UNITS.items():
        scaled = clocks[stream].to_rig(time_s * factor)
        if cover(scaled, begin, end)[0] > 0.5 and cover(scaled, begin, end)[1] < 1:
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


def cover(time: NDArray[np.float64], begin: float, end: float) -> tuple[float, float]:
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
    if (bad := columns["radius_px"][known] <= 0).any():
        raise DataError(
            "a radius is not positive",
            file=path,
            field="radius_px",
            found=f"{bad.sum()} of {known.sum()}",
            expected="px, NaN where the pupil is not seen",
        )
    if known.mean() < 0.5:
        text = f"{path.name}: the pupil is known in {known.mean():.0%} of the samples"
        bundle.findings.append(Finding("pupil-seldom", text))
    values = np.stack([columns[n][known] for n in ("center_x_px", "center_y_px", "radius_px")])
    if known.sum() > 10 and (np.ptp(values, axis=1) == 0).all():
        text = f"{path.name}: center and radius are the same in all {known.sum()} samples"
        bundle.findings.append(Finding("pupil-still", text))


def other_files(bundle: Bundle) -> None:
    """Say which files look like data of the recording and are read by nobody."""
    read = {path for paths in bundle.files.values() for path in paths}
    for path in sorted(bundle.folder.iterdir()):
        name = path.name.lower()
        if path.resolve() in read or not path.is_file() or name.startswith("."):
            continue
        film = path.suffix.lower() in VIDEOS[:-2]
        if film or (path.suffix.lower() in _DATA and any(word in name for word in _WORDS)):
            text = f"{path.name}: is not read; docs/formats.md names the files of a recording"
            bundle.findings.append(Finding("file-not-read", text))
