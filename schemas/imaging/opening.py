"""The files of a scan: what the database knows of them, and how they are opened."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.csvfile import read_columns
from pipeline.errors import DataError
from schemas import experiment

if TYPE_CHECKING:
    from pipeline.recording.frames import TimedScan


def recording_files(key: dict[str, Any]) -> dict[str, Any]:
    """Return the raw files of a scan and what the bundle says about them (fetch only)."""
    row = (experiment.Scan & key).fetch1()
    return {
        "tiff": experiment.Scan.files(row, "tiff"),
        "traces": experiment.Scan.files(row, "traces"),
        "masks": experiment.Scan.files(row, "masks"),
        "times": experiment.Scan.files(row, "frame_times"),
        "channel": row["channel"],
        "um_per_px": (row["um_per_px_y"], row["um_per_px_x"]),
    }


def frame_times(files: dict[str, Any]) -> np.ndarray:
    """Return when each frame began (s, clock of the frames), shape (frames,)."""
    return open_timed_recording(files).time_s


def open_recording(files: dict[str, Any]):
    """Open what `recording_files` lists: TIFF files, or traces and masks."""
    return open_timed_recording(files).scan


def open_timed_recording(files: dict[str, Any]) -> TimedScan:
    """Open a movie with the times of its frames, or traces and masks with theirs."""
    from pipeline.imaging.importers.extracted import open_extracted
    from pipeline.recording.frames import TimedScan, open_timed

    if not files["tiff"]:
        (traces,) = experiment.existing(files["traces"])
        (masks,) = experiment.existing(files["masks"])
        scan = open_extracted(traces, masks, um_per_px=_pixel_size(files))
        return TimedScan(scan, scan.time_s, scan.findings)
    (path,) = experiment.existing(files["times"])
    times = read_columns(path, ["frame", "time_s"], rising="time_s")["time_s"]
    paths = experiment.existing(files["tiff"])
    return open_timed(paths, times, file=path, um_per_px=_pixel_size(files))


def _pixel_size(files: dict[str, Any]) -> tuple[float, float] | None:
    size = files["um_per_px"]
    return None if None in size else tuple(size)


def channel_position(scan, files: dict[str, Any]) -> int:
    """Return the 0-based position of the indicator's channel among those saved."""
    saved = list(scan.channel_numbers)
    if files["channel"] not in saved:
        raise DataError(
            "channel was not saved",
            file="recording.json",
            field="imaging.channel",
            found=files["channel"],
            expected=f"one of {saved}",
        )
    return saved.index(files["channel"])


def field_movie(files: dict[str, Any], field: int):
    """Return the uncorrected movie of one field."""
    scan = open_recording(files)
    return scan.movie(field, channel_position(scan, files))
