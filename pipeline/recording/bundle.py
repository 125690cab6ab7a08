"""A recording bundle on disk: what recording.json says, and whether all files hold it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pipeline.errors import DataError, Finding
from pipeline.recording.coverage import (
    check_clocks,
    check_eye,
    check_photodiode,
    check_running,
    other_files,
)
from pipeline.recording.folder import Bundle, inside
from pipeline.recording.format import FORMAT, Recording, read_recording
from pipeline.recording.movie import check_imaging, check_pixels
from pipeline.recording.trials import check_trials
from pipeline.stimulus.monitor import MonitorCurve

__all__ = ["FORMAT", "STEPS", "Bundle", "Recording", "open_folder", "read_bundle"]


def read_bundle(folder: str | Path, movie: str | Path | None = None) -> Bundle:
    """Read and check a bundle: all of its files, and some frames of its movies.

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
    bundle = open_folder(folder, movie)
    for step in STEPS.values():
        step(bundle)
    return bundle


def open_folder(folder: str | Path, movie: str | Path | None = None) -> Bundle:
    """Read recording.json of a folder, as the bundle that `STEPS` then fill.

    Raises
    ------
    DataError
        If there is none, or an entry of it is not valid.
    """
    root = Path(folder).expanduser().resolve()
    if not root.is_dir():
        raise DataError("no such folder", file=folder)
    bundle = Bundle(root, read_recording(root / "recording.json"))
    bundle.movie = None if movie is None else Path(movie).resolve()
    bundle.files["recording"] = [root / "recording.json"]
    return bundle


def _check_origin(bundle: Bundle) -> None:
    """Repeat what was said when a folder was made of an NWB file."""
    made = (bundle.recording.model_extra or {}).get("nwb")
    said = made.get("findings", []) if isinstance(made, dict) else []
    for pair in said if isinstance(said, list) else []:
        if isinstance(pair, list) and len(pair) == 2:
            bundle.findings.append(Finding(str(pair[0])[:64], str(pair[1])[:1000]))


def _check_monitor(bundle: Bundle) -> None:
    path = inside(bundle, bundle.recording.monitor.calibration, "monitor.calibration")
    bundle.files["monitor"] = [path]
    bundle.curve = MonitorCurve.read_csv(path)


STEPS: dict[str, Callable[[Bundle], None]] = {
    "origin": _check_origin,
    "movie": check_imaging,
    "monitor": _check_monitor,
    "clocks": check_clocks,
    "trials": check_trials,
    "eye": check_eye,
    "photodiode": check_photodiode,
    "running": check_running,
    "pixels": check_pixels,
    "other files": other_files,
}
"""What is looked at, in this order: each reads its files into the bundle, or raises DataError."""
