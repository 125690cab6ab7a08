"""Recording a session of the simulated mouse into a bundle, with the truth beside it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.rng import generator
from pipeline.simulate.animal import Animal
from pipeline.simulate.brain.activity import neuropil_activity, simulate_activity
from pipeline.simulate.brain.behavior import AnimalState, simulate_animal
from pipeline.simulate.microscope.motion import draw_motion
from pipeline.simulate.microscope.tissue import FieldImage, draw_field

from .bundle import (
    Session,
    write_behavior,
    write_movie,
    write_stimulus,
    write_traces,
    write_truth,
)
from .schedule import Schedule, Shown, make_schedule, present, read_package
from .streams import TREADMILL, write_csv

LEAD_S, TAIL_S = 6.0, 4.0  # imaging before the first and after the last trial
MARGIN_PX = 14


def record(
    mouse: Animal,
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
    motion: Mapping[str, float] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Show images to a mouse, image its cells, and write the recording bundle.

    Parameters
    ----------
    mouse : Animal
    images_or_package : array uint8 (n, H, W), or path
        Images to schedule here, or the folder of an `inception package` to be shown as it says.
    folder : path
        Where to write; created. The ground truth goes to ``truth/`` in it.
    day : int
        Field offset, motion, behavior and noise belong to the day.
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
    motion : dict, optional
        Parameters of `draw_motion` that differ from its defaults.
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
    if not isinstance(images_or_package, np.ndarray):
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
    happened = _simulate(mouse, schedule, shown, state, frame_times, day, motion or {})
    scan: dict[str, Any] = {}
    if imaging == "traces":
        scan |= write_traces(mouse, folder, happened)
    else:
        files = write_movie(mouse, folder, happened, frames_per_file, progress)
        scan |= {"files": files, "channel": 1}
    clocks = write_behavior(mouse, folder, happened, eye, eye_hz, own_clocks)
    write_stimulus(mouse, folder, happened)
    write_csv(
        folder / "frame_times.csv",
        ("frame", "time_s"),
        ((i, f"{t:.6f}") for i, t in enumerate(frame_times)),
    )
    write_truth(mouse, folder, happened, clocks)
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


def draw_day(mouse: Animal, day: int) -> FieldImage:
    """Render the field of a day: expression and depth have changed a little since the first."""
    rng = generator(mouse.seed, "day", day)
    n = len(mouse.tissue.somata.yx_um)
    brightness = np.ones(n) if day == 1 else np.clip(rng.lognormal(0, 0.2, n), 0.6, 1.7)
    scale = 1.0 if day == 1 else float(rng.uniform(0.96, 1.04))
    return draw_field(
        mouse.tissue,
        mouse.placement(day),
        mouse.field_px,
        mouse.um_per_px,
        MARGIN_PX,
        day=2 if day > 1 else 1,
        brightness=brightness,
        scale=scale,
    )


def _simulate(
    mouse: Animal,
    schedule: Schedule,
    shown: Shown,
    state: AnimalState,
    frame_times: NDArray,
    day: int,
    moves: Mapping[str, float],
) -> Session:
    field = draw_day(mouse, day)
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
        speed,
        mouse.fps,
        generator(mouse.seed, "motion", day),
        **{"nonrigid_px": mouse.nonrigid_px, **moves},
    )
    return Session(
        day=day,
        schedule=schedule,
        shown=shown,
        state=state,
        frame_times=frame_times,
        field=field,
        activity=activity,
        cells=cells,
        full=full,
        neuropil=neuropil,
        motion=motion,
    )
