"""The pupil of an eye video, frame by frame: dark, or bright by the light of the laser."""

from __future__ import annotations

import os
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .eye_region import find_eye, look
from .pupil import EyeRegion, PupilResult, Tried, lone_leaps, problem_of, pupil_trackers
from .pupil_fit import PupilFit
from .video import frames_of

SHOWN = 12  # frames without a pupil that are kept for a picture
REASONS = (
    "",
    "no round region with an edge",
    "too little of the edge is visible",
    "the edge is not that of an ellipse, or faint",
    "a leap away from the frames around it",
)
NONE, HIDDEN, UNSURE, LEAP = 1, 2, 3, 4
_NOTHING = (np.nan, np.nan, np.nan, 0.0, np.nan, 0.0, 0.0)


@pupil_trackers.register("rays", default=True, revision=2)
def rays(
    video_path: str | os.PathLike,
    *,
    min_confidence: float = 0.4,
    min_visible: float = 0.35,
    max_jump_radii: float = 0.5,
    polarity: Literal["auto", "dark", "bright"] = "auto",
    region: list[float] | None = None,
) -> PupilResult:
    """Find the eye, then fit an ellipse to the edge of the pupil along 96 rays.

    Every frame is cut at several gray levels; regions that are nearly ellipses are seeds. From the
    best ones the edge is followed along rays, past reflections, and an ellipse goes through what
    lids, lashes and whiskers leave of it.

    Parameters
    ----------
    video_path : path
        Any video that OpenCV reads, or a TIFF stack; read twice as a stream, never held in memory.
    min_confidence, min_visible : float
        Frames below either are NaN: where a lid hides much of the edge, the center moves away from
        it (`benchmarks/behavior/pupil.py`).
    max_jump_radii : float
        A frame that differs by more than this (radii) from the median of the five around it, in
        radius or position, and from both neighbors, is NaN.
    polarity : str
        dark; bright, as by the light of the microscope's laser; or auto: what the frames show,
        both where the laser is on for some of them.
    region : list of 4 float, optional
        Left, top, right, bottom (px) of the part of the frame that holds the eye; default: found.

    Returns
    -------
    PupilResult

    Raises
    ------
    DataError
        If the video is not readable, was cut, or shows no pupil.
    """
    where = find_eye(video_path, polarity=polarity, box=region)
    rows, reasons = [], []
    tried: list[tuple[int, NDArray[np.uint8], PupilFit | None]] = []
    stride = 1
    for number, frame in enumerate(frames_of(video_path)):
        fit, confidence = _best(look(frame, where, where.bright), where)
        reason = _reason(fit, confidence, min_confidence, min_visible)
        reasons.append(reason)
        rows.append(_NOTHING if fit is None else _row(fit, confidence, where))
        if reason and (sum(map(bool, reasons)) - 1) % stride == 0:
            part = frame[where.top : where.bottom, where.left : where.right]
            tried.append((number, part.copy(), fit))
            if len(tried) == 2 * SHOWN:
                tried, stride = tried[::2], 2 * stride
    x, y, radius, confidence, ratio, visible, bright = np.array(rows, np.float64).T
    why = np.array(reasons)
    track = np.where(why == 0, np.stack([x, y, radius]), np.nan)
    leaps = lone_leaps(track, max_jump_radii)
    why[leaps] = LEAP
    track[:, leaps] = np.nan
    x, y, radius = track
    ratio = np.where(np.isnan(radius), np.nan, ratio)
    shown = tuple(Tried(n, image, fit, REASONS[why[n]]) for n, image, fit in tried[:SHOWN])
    problem = problem_of(why, REASONS)
    return PupilResult(x, y, radius, confidence, ratio, visible, where, bright > 0, problem, shown)


def _row(fit: PupilFit, confidence: float, region: EyeRegion) -> tuple[float, ...]:
    short, long = fit.axes
    return (
        fit.x + region.left,
        fit.y + region.top,
        fit.radius,
        confidence,
        float(short / long),
        fit.visible,
        float(fit.bright),
    )


def _best(fits: list[PupilFit], region: EyeRegion) -> tuple[PupilFit | None, float]:
    """Return the surest fit whose size and form are those of this pupil, and how sure it is."""
    own = np.linalg.eigvalsh(region.form)
    fine = [
        fit
        for fit in fits
        if 0.5 * region.smallest_px < fit.radius < 1.8 * region.largest_px
        and fit.axes[0] / fit.axes[1] > 0.65 * own[0] / own[1]
    ]
    best = max(fine, key=lambda fit: fit.confidence, default=None)
    if best is None:
        return None, 0.0
    return best, best.confidence * min(1.0, best.contrast / (0.6 * region.contrast))


def _reason(
    fit: PupilFit | None, confidence: float, min_confidence: float, min_visible: float
) -> int:
    if fit is None:
        return NONE
    if fit.visible < min_visible:
        return HIDDEN
    return UNSURE if confidence < min_confidence else 0
