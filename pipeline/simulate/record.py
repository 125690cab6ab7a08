"""Recording a session of the simulated mouse into a bundle, with the truth beside it."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.rng import derive_seed, generator

from .activity import Activity, neuropil_activity, simulate_activity
from .behaviour import AnimalState, simulate_animal
from .eye import write_video
from .motion import Motion, draw_motion
from .movie import render_frames
from .scanimage import ScanImageWriter, roi_groups, settings
from .schedule import Schedule, Shown, make_schedule, present, read_package
from .streams import (
    TREADMILL,
    TREADMILL_HZ,
    Clock,
    clock_pairs,
    monitor_curve,
    treadmill_counts,
    write_csv,
)
from .tissue import FieldImage, draw_field

if TYPE_CHECKING:
    from .mouse import Mouse

LEAD_S, TAIL_S = 6.0, 4.0  # imaging before the first and after the last trial
MARGIN_PX = 14
FRAMES_AT_ONCE = 256
MIN_MASK_PX = 20  # of a cell that counts as inside the field


def record(
    mouse: Mouse,
    images_or_package: NDArray | str | Path,
    folder: str | Path,
    day: int = 1,
    *,
    repeated: int | None = None,
    repeats: int = 10,
    duration_s: float = 0.5,
    blank_s: tuple[float, float] = (0.3, 0.5),
    minutes: float | None = None,
    session: int | None = None,
    scan_idx: int = 1,
    imaging: str = "tiff",
    eye: str = "video",
    eye_hz: float = 10.0,
    own_clocks: bool = True,
    frames_per_file: int = 5000,
    dropped: float | None = None,
    late: float | None = None,
    shown_twice: float | None = None,
    progress=None,
) -> Path:
    """Show images to a mouse, image its cells, and write the recording bundle.

    Parameters
    ----------
    mouse : Mouse
    images_or_package : array uint8 (n, H, W), or path
        Images to schedule here, or the folder of an `inception package` to be shown as it says.
    folder : path
        Where to write; created. The ground truth goes to ``truth/`` in it.
    day : int
        Field offset, motion, behaviour and noise belong to the day.
    repeated : int, optional
        How many of the images, the last ones, are shown `repeats` times; default one in sixteen.
    repeats : int
    duration_s, blank_s : float, (float, float)
        Presentation, and range of the blank before it (own schedule only).
    minutes : float, optional
        Show only as many single images as fit (own schedule only).
    session : int, optional
        Session number; default the day.
    scan_idx : int
    imaging : {"tiff", "traces"}
        A movie, or traces and masks as from a scan that was extracted elsewhere (much faster).
    eye : {"video", "csv", "none"}
        Eye video, tracked pupil in `pupil.csv`, or neither.
    eye_hz : float
        Frames per second of the eye camera.
    own_clocks : bool
        Eye camera and treadmill count time on clocks of their own; `clocks.csv` relates them.
    frames_per_file : int
        Frames of one TIFF file.
    dropped, late, shown_twice : float, optional
        Share of trials that are not shown, come late, or show the image before once more;
        default none for one's own images and 1 %, 2 % and 0.5 % for a package.
    progress : callable, optional
        Called with (frames done, frames in all).

    Returns
    -------
    Path
        The bundle.

    Raises
    ------
    DataError
        If the package cannot be shown, or the folder holds a recording already.
    """
    if eye not in ("video", "csv", "none"):
        raise ValueError(f"eye {eye!r}; it is 'video', 'csv' or 'none'")
    if imaging not in ("tiff", "traces"):
        raise ValueError(f"imaging {imaging!r}; it is 'tiff' or 'traces'")
    folder = Path(folder)
    if (folder / "recording.json").exists():
        raise DataError("holds a recording already", file=folder, remedy="give another folder")
    from_package = not isinstance(images_or_package, np.ndarray)
    if from_package:
        schedule = read_package(images_or_package, mouse.animal_id)
    else:
        schedule = make_schedule(
            images_or_package,
            generator(mouse.seed, "order", day),
            repeated=len(images_or_package) // 16 if repeated is None else repeated,
            repeats=repeats,
            duration_s=duration_s,
            blank_s=blank_s,
            minutes=minutes,
        )
    start_s = 10.0 + float(generator(mouse.seed, "start", day).uniform(0, 20))
    faults = (0.01, 0.02, 0.005) if from_package else (0.0, 0.0, 0.0)
    given = (dropped, late, shown_twice)
    chances = [f if g is None else g for f, g in zip(faults, given, strict=True)]
    shown = present(
        schedule,
        start_s + LEAD_S,
        generator(mouse.seed, "presentation", day),
        dropped=chances[0],
        late=chances[1],
        repeated=chances[2],
    )
    n_frames = int(np.ceil((shown.end_s + TAIL_S - start_s) * mouse.fps))
    # the microscope's own rate is a little off its nominal one
    rate = mouse.fps * (1 + 2e-5 * generator(mouse.seed, "frame rate").normal())
    frame_times = start_s + np.arange(n_frames) / rate
    state = simulate_animal(
        frame_times[-1] + 10.0,
        generator(mouse.seed, "animal", day),
        pupil_mean_px=tuple(mouse.population.pupil_mean_px),
    )
    (folder / "images").mkdir(parents=True, exist_ok=True)
    field = _field(mouse, day)
    truth = _imaging(mouse, field, schedule, shown, state, frame_times, day)
    if imaging == "traces":
        scan = _traces(mouse, folder, field, frame_times, day, truth)
    else:
        files = _movie(mouse, folder, field, frame_times, day, frames_per_file, truth, progress)
        scan = {"files": files, "channel": 1}
    clocks = _behaviour(mouse, folder, state, frame_times, day, eye, eye_hz, own_clocks)
    _stimulus(mouse, folder, schedule, shown)
    write_csv(
        folder / "frame_times.csv",
        ("frame", "time_s"),
        ((i, f"{t:.6f}") for i, t in enumerate(frame_times)),
    )
    _truth(mouse, folder, day, field, schedule, shown, state, frame_times, truth, clocks)
    description = {
        "format": "inception-recording/1",
        "animal_id": mouse.animal_id,
        "session": day if session is None else session,
        "scan_idx": scan_idx,
        "scan_ts": (datetime(2026, 11, 22, 9) + timedelta(days=day)).isoformat(),
        "rig": "sim",
        "brain_area": "V1",
        "depth_um": 200,
        "imaging": {**scan, "um_per_px": list(mouse.um_per_px)},
        "indicator": mouse.indicator,
        "monitor": {
            "width_px": mouse.monitor_px[1],
            "height_px": mouse.monitor_px[0],
            "calibration": "monitor.csv",
        },
        "treadmill": TREADMILL,
        "plan": schedule.plan,
    }
    # written last: a folder with this file is complete
    (folder / "recording.json").write_text(json.dumps(description, indent=2) + "\n", "utf-8")
    return folder


def _field(mouse: Mouse, day: int) -> FieldImage:
    rng = generator(mouse.seed, "day", day)
    n = len(mouse.tissue.somata.yx_um)
    brightness = np.ones(n) if day == 1 else np.clip(rng.lognormal(0, 0.2, n), 0.6, 1.7)
    scale = 1.0 if day == 1 else float(rng.uniform(0.96, 1.04))
    return draw_field(
        mouse.tissue,
        mouse.view(day),
        mouse.field_px,
        mouse.um_per_px,
        MARGIN_PX,
        day=2 if day > 1 else 1,
        brightness=brightness,
        scale=scale,
    )


class _Imaging:
    """What the movie is made of; truth about it."""

    def __init__(
        self, activity: Activity, cells: NDArray, full: NDArray, neuropil: NDArray, motion: Motion
    ) -> None:
        self.activity, self.cells, self.full = activity, cells, full
        self.neuropil, self.motion = neuropil, motion


def _imaging(
    mouse: Mouse,
    field: FieldImage,
    schedule: Schedule,
    shown: Shown,
    state: AnimalState,
    frame_times: NDArray,
    day: int,
) -> _Imaging:
    responsive = np.flatnonzero(field.cell < mouse.population.n_cells)
    cells = field.cell[responsive]
    rows = np.clip(field.centroid_yx_px[responsive, 0], 0, mouse.field_px[0] - 1)
    activity = simulate_activity(
        mouse.population,
        schedule.images,
        shown,
        state,
        frame_times,
        mouse.fps,
        cells=cells,
        delay_s=rows * mouse.line_period_s,
        kinetics=mouse.kinetics,
        amplitude=mouse.amplitude[cells],
        rng=generator(mouse.seed, "spikes", day),
    )
    # fluorescence relative to baseline of every cell on the canvas; silent ones stay at 1
    full = np.ones((len(field.cell), len(frame_times)), np.float32)
    full[responsive] += activity.dff
    speed = state.at(frame_times, "speed_cm_s")
    neuropil = neuropil_activity(
        activity.dff, speed, len(field.modes), mouse.fps, generator(mouse.seed, "neuropil", day)
    )
    motion = draw_motion(
        speed, mouse.fps, generator(mouse.seed, "motion", day), nonrigid_px=mouse.nonrigid_px
    )
    return _Imaging(activity, cells, full, neuropil, motion)


def _movie(
    mouse: Mouse,
    folder: Path,
    field: FieldImage,
    frame_times: NDArray,
    day: int,
    frames_per_file: int,
    truth: _Imaging,
    progress,
) -> list[str]:
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
    noise = derive_seed(mouse.seed, "photons", day)
    clock = frame_times - frame_times[0]
    for name, first in zip(names, starts, strict=True):
        with ScanImageWriter(
            folder / name, header, rois, height=height, width=width, um_per_px=mouse.um_per_px
        ) as writer:
            last = min(first + frames_per_file, n)
            for a in range(first, last, FRAMES_AT_ONCE):
                part = slice(a, min(a + FRAMES_AT_ONCE, last))
                shift_y, shift_x = truth.motion.lines(part, height)
                shift_x[:, 1::2] += mouse.raster_px
                frames = render_frames(
                    field,
                    mouse.detector,
                    truth.neuropil[part],
                    truth.full[:, part].T,
                    shift_y,
                    shift_x,
                    seed=noise,
                    first_frame=a,
                )
                writer.write(frames, np.arange(a, part.stop) + 1, clock[part])
                if progress is not None:
                    progress(part.stop, n)
    return names


def _traces(
    mouse: Mouse, folder: Path, field: FieldImage, frame_times: NDArray, day: int, truth: _Imaging
) -> dict[str, str]:
    """Write traces and masks as another program would have extracted them from the movie."""
    units = np.flatnonzero(field.masks.sum((1, 2)) >= MIN_MASK_PX)
    rng = generator(mouse.seed, "traces", day)
    canvas = field.static.astype(np.float64).copy()
    np.add.at(canvas.reshape(-1), field.pixel, field.weight)
    light = np.add.reduceat(field.weight, field.start[:-1])[units]
    area = field.masks[units].sum((1, 2))
    photons = mouse.detector.photons
    # photons of cell and of the neuropil over it, whose changes subtraction has left a part of
    signal = photons * light[:, None] * truth.full[units]
    signal += photons * 0.65 * area[:, None] * (1 + 0.2 * truth.neuropil.mean(1))
    noise = rng.normal(size=signal.shape) * np.sqrt(signal * (1 + mouse.detector.gain_cv**2))
    fluorescence = mouse.detector.gain * (signal + noise) / area[:, None]
    margin = field.margin_px
    np.savez(
        folder / "traces.npz", time_s=frame_times, fluorescence=fluorescence.astype(np.float32)
    )
    np.savez_compressed(
        folder / "masks.npz",
        masks=field.masks[units],
        mean_image=(photons * canvas[margin:-margin, margin:-margin]).astype(np.float32),
    )
    return {"traces": "traces.npz", "masks": "masks.npz"}


def _stimulus(mouse: Mouse, folder: Path, schedule: Schedule, shown: Shown) -> None:
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


def _behaviour(
    mouse: Mouse,
    folder: Path,
    state: AnimalState,
    frame_times: NDArray,
    day: int,
    eye: str,
    eye_hz: float,
    own_clocks: bool,
) -> dict[str, Clock]:
    rng = generator(mouse.seed, "streams", day)
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
                day=day,
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
        rows = []
        for name in used:
            pairs = clock_pairs(clocks[name], begin, end, rng)
            rows += [(name, f"{s:.6f}", f"{r:.6f}") for s, r in zip(*pairs, strict=True)]
        write_csv(folder / "clocks.csv", ("stream", "stream_time_s", "rig_time_s"), rows)
    return clocks


def _truth(
    mouse: Mouse,
    folder: Path,
    day: int,
    field: FieldImage,
    schedule: Schedule,
    shown: Shown,
    state: AnimalState,
    frame_times: NDArray,
    truth: _Imaging,
    clocks: dict[str, Clock],
) -> None:
    """Write everything that is known; nothing but tests, notebooks and reports may read it."""
    (folder / "truth").mkdir(exist_ok=True)
    cells, table = field.cell, mouse.population.cells
    inside = field.masks.sum((1, 2)) >= MIN_MASK_PX
    active = np.zeros(len(cells), bool)
    active[np.searchsorted(cells, truth.cells)] = truth.activity.spikes.sum(1) > 0
    view = mouse.view(day)
    np.savez_compressed(
        folder / "truth" / "truth.npz",
        # frames; displacement of the content, down and right positive
        frame_times_s=frame_times,
        shifts_y=truth.motion.shifts_y,
        shifts_x=truth.motion.shifts_x,
        raster_px=mouse.raster_px,
        # cells on the canvas, (cells,), ids the same on all days; silent ones have no activity
        cell_id=cells,
        responsive=cells < mouse.population.n_cells,
        active=active,
        in_field=inside,
        centroid_yx_px=field.centroid_yx_px,
        masks=field.masks,
        # rows of the activity arrays
        activity_cell_id=truth.cells,
        spikes=truth.activity.spikes,
        dff=truth.activity.dff,
        neuropil=truth.neuropil,
        # shown trials
        trial_idx=shown.trial_idx,
        image=np.array(schedule.names)[shown.image_index],
        onset_s=shown.onset_s,
        rates_hz=truth.activity.rates_hz,
        behavior=state.behavior(shown.onset_s + 0.3),
        gaze=state.gaze(shown.onset_s + 0.3),
    )
    np.savez_compressed(
        folder / "truth" / "population.npz",
        **{name: getattr(table, name) for name in table.__dataclass_fields__},
        gaze_map=mouse.population.gaze_map,
        pupil_mean_px=mouse.population.pupil_mean_px,
        even=mouse.population.module.even.numpy(),
        odd=mouse.population.module.odd.numpy(),
    )
    np.savez_compressed(
        folder / "truth" / "animal.npz",
        **{name: getattr(state, name) for name in state.__dataclass_fields__},
    )
    about = {
        "day": day,
        "field_shift_um": list(view.shift_um),
        "field_rotation_deg": view.rotation_deg,
        "faults": [list(fault) for fault in shown.faults],
        "clocks": {k: {"offset_s": c.offset_s, "ppm": c.ppm} for k, c in clocks.items()},
        "seed": mouse.seed,
    }
    (folder / "truth" / "about.json").write_text(json.dumps(about, indent=2) + "\n", "utf-8")
