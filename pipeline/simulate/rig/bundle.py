"""The files of a recording bundle, and those of the truth beside it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.rng import derive_seed, generator
from pipeline.simulate.animal import Animal
from pipeline.simulate.brain.activity import Activity
from pipeline.simulate.brain.behavior import AnimalState
from pipeline.simulate.microscope.motion import Motion
from pipeline.simulate.microscope.movie import render_frames
from pipeline.simulate.microscope.scanimage import ScanImageWriter, roi_groups, settings
from pipeline.simulate.microscope.tissue import FieldImage

from .eye import write_video
from .schedule import Schedule, Shown
from .streams import (
    TREADMILL_HZ,
    Clock,
    clock_pairs,
    monitor_curve,
    treadmill_counts,
    write_csv,
)

FRAMES_AT_ONCE = 256
MIN_MASK_PX = 20  # of a cell that counts as inside the field


@dataclass(frozen=True)
class Session:
    """Everything that happens in one recording: what the files show, and the truth about it."""

    day: int
    schedule: Schedule
    shown: Shown
    state: AnimalState
    frame_times: NDArray[np.float64]  # (frames,) starts, rig clock
    field: FieldImage
    activity: Activity
    cells: NDArray[np.int64]  # rows of the activity: indices into the population
    full: NDArray[np.float32]  # (cells on the canvas, frames) fluorescence, 1 at rest
    neuropil: NDArray[np.float32]  # (frames, modes) relative change
    motion: Motion


def write_movie(
    mouse: Animal,
    folder: Path,
    session: Session,
    frames_per_file: int,
    progress: Callable[[int, int], None] | None,
) -> list[str]:
    """Render and write the ScanImage files; return their names."""
    frame_times = session.frame_times
    n = len(frame_times)
    height, width = mouse.field_px
    starts = list(range(0, n, frames_per_file))
    stem = "scan_00001"
    names = [f"{stem}_{i + 1:05d}.tif" for i in range(len(starts))]
    if len(starts) == 1:
        names = [f"{stem}.tif"]
    header = settings(
        fps=mouse.fps,
        height=height,
        width=width,
        um_per_px=mouse.um_per_px,
        n_frames=n,
        frames_per_file=frames_per_file,
        file_stem="scan",
        line_period_s=mouse.line_period_s,
    )
    rois = roi_groups(height=height, width=width, um_per_px=mouse.um_per_px)
    noise = derive_seed(mouse.seed, "photons", session.day)
    clock = frame_times - frame_times[0]
    for name, first in zip(names, starts, strict=True):
        with ScanImageWriter(
            folder / name, header, rois, height=height, width=width, um_per_px=mouse.um_per_px
        ) as writer:
            last = min(first + frames_per_file, n)
            for a in range(first, last, FRAMES_AT_ONCE):
                part = slice(a, min(a + FRAMES_AT_ONCE, last))
                shift_y, shift_x = session.motion.lines(part, height)
                shift_x[:, 1::2] += mouse.raster_px
                frames = render_frames(
                    session.field,
                    mouse.detector,
                    session.neuropil[part],
                    session.full[:, part].T,
                    shift_y,
                    shift_x,
                    seed=noise,
                    first_frame=a,
                )
                writer.write(frames, np.arange(a, part.stop) + 1, clock[part])
                if progress is not None:
                    progress(part.stop, n)
    return names


def write_traces(mouse: Animal, folder: Path, session: Session) -> dict[str, str]:
    """Write traces and masks as another program would have extracted them from the movie."""
    field = session.field
    units = np.flatnonzero(field.masks.sum((1, 2)) >= MIN_MASK_PX)
    rng = generator(mouse.seed, "traces", session.day)
    canvas = field.static.astype(np.float64).copy()
    np.add.at(canvas.reshape(-1), field.pixel, field.weight)
    light = np.add.reduceat(field.weight, field.start[:-1])[units]
    area = field.masks[units].sum((1, 2))
    photons = mouse.detector.photons
    # photons of cell and of the neuropil over it, whose changes subtraction has left a part of
    signal = photons * light[:, None] * session.full[units]
    signal += photons * 0.65 * area[:, None] * (1 + 0.2 * session.neuropil.mean(1))
    noise = rng.normal(size=signal.shape) * np.sqrt(signal * (1 + mouse.detector.gain_cv**2))
    fluorescence = mouse.detector.gain * (signal + noise) / area[:, None]
    margin = field.margin_px
    np.savez(
        folder / "traces.npz",
        time_s=session.frame_times,
        fluorescence=fluorescence.astype(np.float32),
    )
    np.savez_compressed(
        folder / "masks.npz",
        masks=field.masks[units],
        mean_image=(photons * canvas[margin:-margin, margin:-margin]).astype(np.float32),
    )
    return {"traces": "traces.npz", "masks": "masks.npz"}


def write_stimulus(mouse: Animal, folder: Path, session: Session) -> None:
    """Write the images shown, the trials and the monitor calibration."""
    schedule, shown = session.schedule, session.shown
    for i in np.unique(np.r_[schedule.image_index, shown.image_index]):
        path = folder / "images" / schedule.files[i]
        if not cv2.imwrite(str(path), schedule.images[i], [cv2.IMWRITE_PNG_COMPRESSION, 1]):
            raise DataError("cannot write", file=path)
    rows = zip(
        shown.trial_idx,
        shown.image_index,
        shown.onset_s,
        shown.offset_s,
        shown.blank_before_s,
        strict=True,
    )
    write_csv(
        folder / "trials.csv",
        ("trial_idx", "image", "onset_s", "offset_s", "blank_before_s"),
        (
            (t, schedule.names[i], f"{on:.6f}", f"{off:.6f}", f"{blank:.6f}")
            for t, i, on, off, blank in rows
        ),
    )
    pixel, luminance = monitor_curve(generator(mouse.seed, "monitor"))
    write_csv(
        folder / "monitor.csv",
        ("pixel_value", "luminance_cd_m2"),
        ((p, f"{v:.5f}") for p, v in zip(pixel, luminance, strict=True)),
    )


def write_behavior(
    mouse: Animal, folder: Path, session: Session, eye: str, eye_hz: float, own_clocks: bool
) -> dict[str, Clock]:
    """Write eye, treadmill and clocks; return the true clocks."""
    state, frame_times = session.state, session.frame_times
    rng = generator(mouse.seed, "streams", session.day)
    begin, end = frame_times[0] - 2.0, frame_times[-1] + 2.0
    clocks = {
        name: Clock(float(rng.uniform(-500, 500)), float(rng.uniform(-80, 80)))
        if own_clocks
        else Clock()
        for name in ("eye", "treadmill")
    }
    if eye != "none":
        times = np.arange(begin, end, 1 / eye_hz)
        times += rng.normal(0, 0.0005, len(times))
        stamps = clocks["eye"].from_rig(times)
        if eye == "video":
            write_video(
                folder / "eye.avi",
                state,
                times,
                seed=mouse.seed,
                day=session.day,
                shape=mouse.eye_px,
                mean_px=tuple(mouse.population.pupil_mean_px),
            )
            rows = ((i, f"{t:.6f}") for i, t in enumerate(stamps))
            write_csv(folder / "eye_times.csv", ("frame", "time_s"), rows)
        else:
            pupil = np.column_stack([state.gaze(times), state.at(times, "radius_px")])
            pupil += rng.normal(0, 0.15, pupil.shape)
            pupil[state.at(times, "lid") > 0.5] = np.nan
            write_csv(
                folder / "pupil.csv",
                ("time_s", "center_x_px", "center_y_px", "radius_px"),
                (
                    (f"{t:.6f}", *(f"{v:.4f}" for v in p))
                    for t, p in zip(stamps, pupil, strict=True)
                ),
            )
    times = np.arange(begin, end, 1 / TREADMILL_HZ)
    counts = treadmill_counts(state, times, rng)
    stamps = clocks["treadmill"].from_rig(times)
    # one packet was lost on the way
    gap = float(rng.uniform(begin + 0.2 * (end - begin), begin + 0.8 * (end - begin)))
    there = (times < gap) | (times > gap + 1.0)
    write_csv(
        folder / "treadmill.csv",
        ("time_s", "counts"),
        ((f"{t:.6f}", c) for t, c in zip(stamps[there], counts[there], strict=True)),
    )
    if own_clocks:
        used = ["treadmill"] if eye == "none" else ["eye", "treadmill"]
        paired = []
        for name in used:
            pairs = clock_pairs(clocks[name], begin, end, rng)
            paired += [(name, f"{s:.6f}", f"{r:.6f}") for s, r in zip(*pairs, strict=True)]
        write_csv(folder / "clocks.csv", ("stream", "stream_time_s", "rig_time_s"), paired)
    return clocks


def write_truth(mouse: Animal, folder: Path, session: Session, clocks: dict[str, Clock]) -> None:
    """Write everything that is known; nothing but tests, notebooks and reports may read it."""
    field, schedule, shown, state = session.field, session.schedule, session.shown, session.state
    (folder / "truth").mkdir(exist_ok=True)
    cells, table = field.cell, mouse.population.cells
    inside = field.masks.sum((1, 2)) >= MIN_MASK_PX
    active = np.zeros(len(cells), bool)
    active[np.searchsorted(cells, session.cells)] = session.activity.spikes.sum(1) > 0
    placement = mouse.placement(session.day)
    np.savez_compressed(
        folder / "truth" / "truth.npz",
        # frames; displacement of the content, down and right positive
        frame_times_s=session.frame_times,
        shifts_y=session.motion.shifts_y,
        shifts_x=session.motion.shifts_x,
        warp_y=session.motion.warp_y,
        warp_x=session.motion.warp_x,
        raster_px=mouse.raster_px,
        # cells on the canvas, (cells,), ids the same on all days; silent ones have no activity
        cell_id=cells,
        responsive=cells < mouse.population.n_cells,
        active=active,
        in_field=inside,
        centroid_yx_px=field.centroid_yx_px,
        masks=field.masks,
        # rows of the activity arrays
        activity_cell_id=session.cells,
        spikes=session.activity.spikes,
        dff=session.activity.dff,
        neuropil=session.neuropil,
        # shown trials
        trial_idx=shown.trial_idx,
        image=np.array(schedule.names)[shown.image_index],
        onset_s=shown.onset_s,
        rates_hz=session.activity.rates_hz,
        behavior=state.behavior(shown.onset_s + 0.3),
        gaze=state.gaze(shown.onset_s + 0.3),
    )
    np.savez_compressed(
        folder / "truth" / "population.npz",
        **{name: getattr(table, name) for name in table.__dataclass_fields__},
        gaze_map=mouse.population.gaze_map,
        pupil_mean_px=mouse.population.pupil_mean_px,
        linear=mouse.population.module.linear.numpy(),
        even=mouse.population.module.even.numpy(),
        odd=mouse.population.module.odd.numpy(),
    )
    np.savez_compressed(
        folder / "truth" / "animal.npz",
        **{name: getattr(state, name) for name in state.__dataclass_fields__},
    )
    about = {
        "day": session.day,
        "field_shift_um": list(placement.shift_um),
        "field_rotation_deg": placement.rotation_deg,
        "faults": [list(fault) for fault in shown.faults],
        "clocks": {k: {"offset_s": c.offset_s, "ppm": c.ppm} for k, c in clocks.items()},
        "seed": mouse.seed,
    }
    (folder / "truth" / "about.json").write_text(json.dumps(about, indent=2) + "\n", "utf-8")
