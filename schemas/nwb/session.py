"""Fetch one scan with all that is known of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import DataError
from pipeline.recording.nwb.session import CLOCKS, Session, Table
from pipeline.recording.streams import read_treadmill
from schemas import behavior, experiment
from schemas.nwb.imaging import chosen_recipe, fetch_planes, imaging_tables
from schemas.nwb.stimuli import closed_loop_tables, fetch_images, fetch_trials

MOVIES = ("raw", "link", "none")


def fetch_session(
    scan: Mapping[str, int],
    *,
    imaging_hash: str | None = None,
    movie: str = "raw",
    said: Mapping[str, Any] | None = None,
) -> Session:
    """Return what the tables know of a scan; movies and traces are read when they are used.

    Parameters
    ----------
    scan : mapping
        `animal_id, session, scan_idx`; the schemas are active.
    imaging_hash : str, optional
        Which `imaging.ImagingRecipe`, if the scan was processed by several.
    movie : str
        `raw`: frames as recorded, `link`: names of their files, `none`.
    said : mapping, optional
        What no row knows: see `pipeline.recording.nwb.write.SAID`.

    Raises
    ------
    DataError
        If there is no such scan, it is not synchronized yet, or the recipe is not one of its.
    """
    if movie not in MOVIES:
        raise DataError("unknown way to take the movie", found=movie, expected=f"one of {MOVIES}")
    key = {name: scan[name] for name in experiment.Scan.primary_key}
    slashed = experiment.scan_name(key)
    if not experiment.Scan & key:
        raise DataError(
            "no such scan", field="SCAN", found=slashed, remedy="see `inception status`"
        )
    if not behavior.Sync & key:
        raise DataError(
            "scan is not processed yet",
            field="behavior.Sync",
            found=slashed,
            remedy=f"run `inception loop {slashed}`, then `inception worker --exit-when-idle`",
        )
    row = (experiment.Scan & key).fetch1()
    recipe = chosen_recipe(key, imaging_hash)
    frames = (behavior.Sync & key).fetch1("frame_times").load()
    trials, kinds = fetch_trials(key)
    images, about = fetch_images(key, trials.columns["image"].values, kinds)
    curve = experiment.MonitorCalibration.curve(key)
    eye, wheel = _behavior(key)
    video = experiment.Scan.files(key, "eye_video")
    return Session(
        entries=_entries(key, row),
        start=row["scan_ts"],
        said=dict(said or {}),
        frame_times=np.asarray(frames, np.float64),
        planes=fetch_planes(key, recipe, movie),
        images=images,
        about=about,
        trials=trials,
        pupil=eye,
        eye_video=Path(video[0][0]) if video and eye is not None else None,
        counts=_counts(key),
        speed=wheel,
        monitor=(np.asarray(curve.pixel_value), np.asarray(curve.luminance_cd_m2)),
        tables=[_clocks(key), *imaging_tables(key, recipe), *closed_loop_tables(key)],
    )


def _entries(key: Mapping[str, int], row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what recording.json said, from its rows."""
    monitor = (experiment.MonitorCalibration & key).fetch1()
    mouse = (experiment.Mouse & key).fetch1()
    wheel = {
        "diameter_cm": row["treadmill_diameter_cm"],
        "counts_per_rev": row["treadmill_counts_per_rev"],
    }
    size = [row["um_per_px_y"], row["um_per_px_x"]]
    return {
        **key,
        "scan_ts": row["scan_ts"].isoformat(),
        "rig": (experiment.Session & key).fetch1("rig"),
        "brain_area": row["brain_area"],
        "depth_um": row["depth_um"],
        "indicator": row["indicator"],
        "imaging": {"channel": row["channel"], "um_per_px": None if None in size else size},
        "monitor": {name: monitor[name] for name in ("width_px", "height_px")},
        "treadmill": None if None in wheel.values() else wheel,
        "genotype": mouse["genotype"] or None,
        "date_of_birth": mouse["date_of_birth"],
    }


def _behavior(key: Mapping[str, int]) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return pupil and running speed, of the first method where there are several."""
    pupils = (behavior.Pupil & key & "n_samples > 0").to_dicts(order_by="pupil_hash")
    speeds = (behavior.Treadmill & key & "n_samples > 0").to_dicts(order_by="treadmill_hash")
    return (
        np.asarray(pupils[0]["pupil"].load()) if pupils else None,
        np.asarray(speeds[0]["speed"].load()) if speeds else None,
    )


def _counts(key: Mapping[str, int]) -> np.ndarray | None:
    """Return the treadmill's counter as it was read, on the rig's clock."""
    files = experiment.Scan.files(dict(key), "treadmill")
    if not files:
        return None
    (path,) = experiment.existing(files)
    columns = read_treadmill(path)
    time = behavior.Sync.clock(dict(key), "treadmill").to_rig(columns["time_s"])
    return np.stack([time, columns["counts"]], axis=1)


def _clocks(key: Mapping[str, int]) -> Table:
    rows = (behavior.Sync.Stream & key).to_dicts(order_by="stream")
    meanings = {
        "stream": "Stream of the rig",
        "stream_zero_s": "A time on the clock of the stream (s)",
        "rig_zero_s": "The same moment on the rig's clock (s)",
        "rate": "Seconds of the rig per second of the stream",
        "drift_ppm": "What the clock of the stream gains (us/s)",
        "residual_s": "Root mean square distance of the pairs from the line (s)",
        "n_pairs": "Pairs of times; 0: the stream is on the rig's clock",
    }
    return Table.of_rows(
        CLOCKS, "Clocks of the streams; all times in this file are on the rig's.", rows, meanings
    )
