"""The trace of one cell with what was shown meanwhile, as a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.errors import DataError
from schemas import behavior, closed_loop, dataset, imaging, model, stimulus
from schemas.dataset.responses import scan_delay
from workers.steering.decide import newest_loop

SUFFIXES = (".csv", ".npz")


@dataclass(frozen=True)
class Trace:
    """One cell over a recording; arrays of shape (frames,) unless said otherwise.

    Attributes
    ----------
    time_s : float64 array
        When the cell's rows were scanned (s, rig clock).
    fluorescence : float32 array
        Without neuropil (gray levels).
    denoised : float32 array
        What the activity explains of it, in its units.
    activity : float32 array
        Deconvolved, in `activity_unit`.
    trial : int32 array
        `trial_idx` of the image that was on, -1 for none.
    trials : DataFrame
        A row a trial: `trial_idx`, `image_hash`, `on_s`, `off_s` (s, rig clock).
    activity_unit : str
        spikes/frame or trace/frame.
    """

    time_s: NDArray[np.float64]
    fluorescence: NDArray[np.float32]
    denoised: NDArray[np.float32]
    activity: NDArray[np.float32]
    trial: NDArray[np.int32]
    trials: pd.DataFrame
    activity_unit: str


def trace(unit: Mapping[str, Any], *, imaging_hash: str | None = None) -> Trace:
    """Return the trace of a cell.

    Parameters
    ----------
    unit : mapping
        Key of `imaging.Segmentation.Unit`, see `workers.steering.decide.unit_key`.
    imaging_hash : str, optional
        Recipe of fluorescence and deconvolution; that of the newest loop, or the only one.

    Raises
    ------
    DataError
        If the trace is not computed, or several are and none is chosen.
    """
    cell = {name: unit[name] for name in imaging.Segmentation.Unit.primary_key}
    found = _activity(cell, imaging_hash)
    row = (imaging.Segmentation.Unit & found).to_arrays("unit_id", order_by="unit_id").tolist()
    place = row.index(cell["unit_id"])
    fluorescence = (imaging.Fluorescence & found).fetch1("corrected").load(mmap_mode="r")[place]
    stored = (imaging.Activity & found).fetch1()
    denoised, activity = (
        stored[name].load(mmap_mode="r")[place] for name in ("denoised", "activity")
    )
    times = (behavior.Sync & cell).to_dicts()
    if not times:
        raise DataError(
            "the frames of the scan have no times yet",
            field="unit",
            found=cell["unit_id"],
            remedy="run `inception worker` first",
        )
    lines = (imaging.ScanInfo.Field & cell).fetch1("delay_s", "line_period_s", "height_px")
    delay_s = scan_delay((imaging.Segmentation.Unit & cell).fetch1("y_px"), *lines)
    start_s, shown = times[0]["frame_times"].load(), times[0]["trial_times"].load()
    frames = min(len(start_s), len(activity))
    time_s = np.asarray(start_s[:frames], np.float64) + delay_s
    listed = (stimulus.Trial & cell).to_dicts(order_by="trial_idx")
    trials = pd.DataFrame(
        {
            "trial_idx": [row["trial_idx"] for row in listed],
            "image_hash": [row["image_hash"] for row in listed],
            "on_s": shown[: len(listed), 0],
            "off_s": shown[: len(listed), 1],
        }
    )
    on = np.full(frames, -1, np.int32)
    begins, ends = (np.searchsorted(time_s, trials[name]) for name in ("on_s", "off_s"))
    for trial, begin, end in zip(trials["trial_idx"], begins, ends, strict=True):
        on[begin:end] = trial
    return Trace(
        time_s,
        np.asarray(fluorescence[:frames], np.float32),
        np.asarray(denoised[:frames], np.float32),
        np.asarray(activity[:frames], np.float32),
        on,
        trials,
        stored["activity_unit"],
    )


def _activity(cell: Mapping[str, Any], imaging_hash: str | None) -> dict[str, Any]:
    """Return the key of the one `imaging.Activity` that holds a cell's trace."""
    found = imaging.Activity & (imaging.Activity.Unit & cell).proj()
    if imaging_hash is not None:
        found &= (imaging.ImagingRecipe & {"imaging_hash": imaging_hash}).to_dicts() or "FALSE"
    elif len(found) > 1 and closed_loop.Loop & cell:
        loop = {name: newest_loop(cell)[name] for name in closed_loop.Loop.primary_key}
        tasks = closed_loop.PlanTask.Display & (closed_loop.PlanTask & loop).proj()
        members = dataset.DatasetSpec.Scan & _datasets(tasks) & _scan(cell)
        found &= (imaging.ImagingRecipe & members.proj("imaging_hash").to_dicts()).to_dicts()
    if len(found) != 1:
        raise DataError(
            "no trace of this unit" if not len(found) else "several traces of this unit",
            field="imaging",
            found=imaging_hash or len(found),
            expected="one",
            remedy="run `inception worker` first" if not len(found) else "name one with --imaging",
        )
    return found.fetch1("KEY")


def _scan(cell: Mapping[str, Any]) -> dict[str, Any]:
    return {name: cell[name] for name in ("animal_id", "session", "scan_idx")}


def _datasets(tasks: Any) -> list[dict[str, Any]]:
    specs = (model.EnsembleSpec & tasks.proj()).to_arrays("dataset_hash").tolist()
    return [{"dataset_hash": name} for name in sorted(set(specs))]


def write_trace(found: Trace, file: Path) -> int:
    """Write a trace as CSV or npz; return the number of frames.

    Parameters
    ----------
    found : Trace
    file : path
        `.csv`: a row a frame, `time_s, fluorescence, activity, trial_idx, image_hash`, the last two
        empty where nothing was shown. `.npz`: the arrays of `Trace`, the columns of its trials as
        `trial_idx, image_hash, on_s, off_s`, and `activity_unit`.

    Raises
    ------
    ValueError
        If the name ends otherwise.
    """
    if file.suffix not in SUFFIXES:
        raise ValueError(f"{file.name}: unknown suffix; use {' or '.join(SUFFIXES)}")
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".npz":
        trials = {name: found.trials[name].to_numpy() for name in found.trials.columns}
        trials["image_hash"] = trials["image_hash"].astype(str)
        names = ("time_s", "fluorescence", "activity", "trial", "activity_unit")
        np.savez_compressed(file, **{name: getattr(found, name) for name in names}, **trials)
        return len(found.time_s)
    images = dict(zip(found.trials["trial_idx"], found.trials["image_hash"], strict=True))
    frame = pd.DataFrame(
        {
            "time_s": found.time_s,
            "fluorescence": found.fluorescence,
            "activity": found.activity,
            "trial_idx": pd.array(
                [None if trial < 0 else int(trial) for trial in found.trial], "Int64"
            ),
            "image_hash": [images.get(trial, "") for trial in found.trial],
        }
    )
    frame.to_csv(file, index=False)
    return len(frame)
