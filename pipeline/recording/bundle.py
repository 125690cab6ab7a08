"""A recording bundle on disk: what recording.json says, and whether all files hold it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.csvfile import read_columns
from pipeline.errors import DataError, Finding
from pipeline.imaging.importers.extracted import open_extracted
from pipeline.recording.coverage import check_behavior, check_clocks, other_files
from pipeline.recording.folder import Bundle, inside
from pipeline.recording.format import FORMAT, Recording, read_recording
from pipeline.recording.frames import open_timed
from pipeline.recording.trials import check_trials
from pipeline.stimulus.monitor import MonitorCurve

__all__ = ["FORMAT", "Bundle", "Recording", "read_bundle"]

MIN_FRAMES = 10
MIN_SECONDS = 1.0


def read_bundle(folder: str | Path, movie: str | Path | None = None) -> Bundle:
    """Read and check all of a bundle but the pixels of its movies.

    Parameters
    ----------
    folder : path
    movie : path, optional
        A file that a person named, such as an NWB file of which the folder was made: the one file
        outside of the folder that `imaging.files` may name, without its folder.

    Returns
    -------
    Bundle
        Its `findings` say what can be used, but a person should know.

    Raises
    ------
    DataError
        One line with file, field, what was found and what was expected.
    """
    root = Path(folder).expanduser().resolve()
    if not root.is_dir():
        raise DataError("no such folder", file=folder)
    bundle = Bundle(root, read_recording(root / "recording.json"))
    bundle.movie = None if movie is None else Path(movie).resolve()
    bundle.files["recording"] = [root / "recording.json"]
    bundle.frames = _check_imaging(bundle)
    _check_monitor(bundle)
    check_trials(bundle, bundle.frames)
    clocks = check_clocks(bundle)
    check_behavior(bundle, clocks)
    other_files(bundle)
    return bundle


def _check_imaging(bundle: Bundle) -> tuple[float, float]:
    """Check the movie or the traces; return first and last frame time (s)."""
    imaging = bundle.recording.imaging
    if bool(imaging.files) == bool(imaging.traces):
        raise DataError(
            "imaging needs either files or traces",
            file="recording.json",
            field="imaging",
            found=sorted(imaging.model_fields_set),
        )
    if imaging.traces:
        if not imaging.masks:
            raise DataError(
                "traces come without masks", file="recording.json", field="imaging.masks"
            )
        traces = inside(bundle, imaging.traces, "imaging.traces")
        masks = inside(bundle, imaging.masks, "imaging.masks")
        bundle.files |= {"traces": [traces], "masks": [masks]}
        scan = open_extracted(traces, masks)
        bundle.findings += [Finding("units-left-out", f"{masks.name}: {n}") for n in scan.notes]
        _check_traces(traces, scan.movie().fluorescence)
        path, times = traces, scan.time_s
    else:
        if len(set(imaging.files)) != len(imaging.files):
            raise DataError(
                "file is named twice",
                file="recording.json",
                field="imaging.files",
                found=imaging.files,
            )
        bundle.files["tiff"] = [inside(bundle, name, "imaging.files") for name in imaging.files]
        path = inside(bundle, "frame_times.csv", "frame_times")
        bundle.files["frame_times"] = [path]
        times = _check_movie(bundle, path)
    if len(times) < 2:
        raise DataError("recording is too short", file=path, found=f"{len(times)} frames")
    fps = 1 / float(np.median(np.diff(times)))
    if not 0.1 <= fps <= 2000:
        raise DataError(
            "frame rate is absurd",
            file=path,
            field="time_s",
            found=f"{fps:.3g} Hz",
            expected="0.1 to 2000 Hz: times are in seconds",
        )
    if len(times) < MIN_FRAMES or times[-1] - times[0] < MIN_SECONDS:
        raise DataError(
            "recording is too short",
            file=path,
            field="time_s",
            found=f"{len(times)} frames in {times[-1] - times[0]:.2g} s",
            expected=f"{MIN_FRAMES} frames and {MIN_SECONDS:g} s, or more",
        )
    return float(times[0]), float(times[-1])


def _check_traces(path: Path, fluorescence: NDArray[np.float32]) -> None:
    """Raise if a trace is all NaN or infinite somewhere, or if no trace ever varies."""
    unfit = partial(DataError, file=path, field="fluorescence")
    known = np.isfinite(fluorescence)
    silent = np.flatnonzero(~known.any(axis=1))
    if len(silent):
        raise unfit("a trace is all NaN", found=f"unit {silent[0]}", expected="numbers")
    endless = np.flatnonzero(np.isinf(fluorescence).any(axis=1))
    if len(endless):
        raise unfit(
            "a trace is infinite",
            found=f"unit {endless[0]}",
            expected="finite numbers, or NaN where a frame is missing",
        )
    low = np.where(known, fluorescence, np.inf).min(axis=1)
    high = np.where(known, fluorescence, -np.inf).max(axis=1)
    if (low == high).all():
        raise unfit(
            "no trace ever varies",
            found=f"{high[0]:g} in every frame",
            expected="fluorescence (a.u.)",
        )


def _check_movie(bundle: Bundle, path: Path) -> NDArray[np.float64]:
    """Open the movie (page directories only) and return the times of its frames (s)."""
    times = read_columns(path, ["frame", "time_s"], rising="time_s")["time_s"]
    timed = open_timed(bundle.files["tiff"], times, file=path)
    bundle.findings += timed.findings
    channel = bundle.recording.imaging.channel
    if channel not in timed.scan.channel_numbers:
        raise DataError(
            "channel was not saved",
            file="recording.json",
            field="imaging.channel",
            found=channel,
            expected=f"one of {timed.scan.channel_numbers}",
        )
    return timed.time_s


def _check_monitor(bundle: Bundle) -> None:
    path = inside(bundle, bundle.recording.monitor.calibration, "monitor.calibration")
    bundle.files["monitor"] = [path]
    bundle.curve = MonitorCurve.read_csv(path)
