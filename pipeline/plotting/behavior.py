"""The pupil over frames of its video, and pupil and running over time."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from numpy.typing import NDArray

from pipeline.behavior.pupil import PupilResult
from pipeline.plotting.style import COLORS, bare, new_figure, tidy


def pupil_figure(frames: NDArray[np.uint8], numbers: NDArray, pupil: PupilResult) -> Figure:
    """Show frames of an eye video with the circle of the fitted ellipse's area.

    Parameters
    ----------
    frames : array uint8, shape (shown, H, W)
    numbers : array of int, shape (shown,)
        Which frames of the video they are.
    pupil : PupilResult
        Of the whole video; frames where it is NaN are marked as such.
    """
    columns = min(5, len(frames))
    rows = -(-len(frames) // columns)
    figure = new_figure(2.3 * columns, 2.0 * rows + 0.6)
    for place, (number, frame) in enumerate(zip(numbers, frames, strict=True)):
        axes = bare(figure.add_subplot(rows, columns, place + 1))
        axes.imshow(frame, cmap="gray", vmin=0, vmax=255)
        radius = pupil.radius_px[number]
        text = f"{number}: confidence {pupil.confidence[number]:.2f}"
        if np.isfinite(radius):
            center = (pupil.center_x_px[number], pupil.center_y_px[number])
            axes.add_patch(Circle(center, radius, fill=False, color=COLORS["mei"], linewidth=1.3))
            axes.plot(*center, "+", color=COLORS["mei"], markersize=6)
        else:
            text += ", not seen"
        axes.set_title(text, fontsize=7)
    seen = float(np.isfinite(pupil.radius_px).mean())
    figure.suptitle(f"pupil seen in {seen:.1%} of {len(pupil.radius_px)} frames", fontsize=9)
    return figure


def behavior_figure(
    pupil_time_s: NDArray,
    pupil: PupilResult,
    speed_time_s: NDArray,
    speed_cm_s: NDArray,
    periods: NDArray,
) -> Figure:
    """Show pupil radius, pupil position and running speed over time.

    Parameters
    ----------
    pupil_time_s : array, shape (frames,)
        None of them if there was no eye camera: its panels are left out.
    pupil : PupilResult
    speed_time_s, speed_cm_s : array, shape (samples,)
        Gaps are NaN and stay empty. None of them if there was no treadmill.
    periods : array, shape (periods, 2)
        Begin and end of running (s), shaded.

    Raises
    ------
    ValueError
        If there is neither.
    """
    panels = []
    if len(pupil_time_s):
        radius, x, y = pupil.radius_px, pupil.center_x_px, pupil.center_y_px
        place = [
            (values - _middle(values), color, name)
            for values, color, name in ((x, COLORS["rf"], "right"), (y, COLORS["fni"], "down"))
        ]
        panels.append(("radius (px)", pupil_time_s, [(radius, "#2c3e50", "")]))
        panels.append(("position (px)", pupil_time_s, place))
    if len(speed_time_s):
        panels.append(("speed (cm/s)", speed_time_s, [(speed_cm_s, COLORS["mni"], "")]))
    if not panels:
        raise ValueError("neither pupil nor speed has samples")
    figure = new_figure(10, 1.6 * len(panels) + 0.6)
    limits = (
        min(time[0] for _, time, _ in panels),
        max(time[-1] for _, time, _ in panels),
    )
    for row, (label, time, lines) in enumerate(panels):
        axes = tidy(figure.add_subplot(len(panels), 1, row + 1))
        for begin, end in periods:
            axes.axvspan(begin, end, color="#eaf2e3", linewidth=0)
        for values, color, name in lines:
            axes.plot(time, values, color=color, linewidth=0.8, label=name or None)
        if len(lines) > 1:
            axes.legend(fontsize=7, frameon=False, loc="upper right", ncols=2)
        axes.set_ylabel(label, fontsize=8)
        axes.set_xlim(*limits)
        if row < len(panels) - 1:
            axes.set_xticklabels([])
    axes.set_xlabel("time (s); shaded: running; empty: not seen, or packets lost", fontsize=8)
    if len(pupil_time_s):
        seen = float(np.isfinite(pupil.radius_px).mean())
        figure.suptitle(f"pupil seen in {seen:.1%} of {len(pupil_time_s)} samples", fontsize=9)
    return figure


def _middle(values: NDArray) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else 0.0
