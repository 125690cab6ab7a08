"""Pupil of an eye video, and pupils that other programs have tracked."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.imaging.importers.pickle_values import as_numbers
from pipeline.imaging.importers.unpickle import load_pickled_dict
from pipeline.registry import Registry

from .eye_region import EyeRegion, find_eye, frames_of
from .pupil_fit import fit_pupil

pupil_trackers = Registry("pupil tracker")


@dataclass(frozen=True)
class PupilResult:
    """Pupil in every frame of a video; NaN where it is not seen (blinks, grooming).

    Attributes
    ----------
    center_x_px, center_y_px : array float64, shape (frames,)
        Center; the middle of the first pixel is 0, y points down.
    radius_px : array float64, shape (frames,)
        Radius of a circle of the ellipse's area.
    confidence : array float64, shape (frames,)
        0 to 1: visible share of the edge, times its sharpness, less what it departs from an
        ellipse. Given for rejected frames too.
    axis_ratio, visible_fraction : array float64, shape (frames,)
        Short over long axis; share of the edge that is free of lids, lashes and reflections.
    region : EyeRegion or None
        Where the video was searched.
    """

    center_x_px: NDArray[np.float64]
    center_y_px: NDArray[np.float64]
    radius_px: NDArray[np.float64]
    confidence: NDArray[np.float64]
    axis_ratio: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    visible_fraction: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    region: EyeRegion | None = None


@pupil_trackers.register("rays", default=True)
def rays(
    video_path: str | os.PathLike,
    *,
    min_confidence: float = 0.35,
    min_visible: float = 0.62,
    max_jump_radii: float = 0.5,
) -> PupilResult:
    """Find the eye, then fit an ellipse to the edge of the dark pupil along 96 rays.

    Parameters
    ----------
    video_path : path
        Any video that OpenCV reads; read twice as a stream, never held in memory.
    min_confidence, min_visible : float
        Frames below either are NaN: where a lid hides much of the edge, the center moves away from
        it (`benchmarks/behavior/pupil.py`: up to 3 px at half of the edge, under 1 px above 0.62).
    max_jump_radii : float
        A frame that differs by more than this (radii) from the median of the five around it, in
        radius or position, and from both neighbors, is NaN.

    Returns
    -------
    PupilResult

    Raises
    ------
    DataError
        If the video is not readable, ends early, or shows no pupil.
    """
    region = find_eye(video_path)
    rows = []
    for frame in frames_of(video_path):
        fit = fit_pupil(frame, region)
        if fit is None:
            rows.append((np.nan, np.nan, np.nan, 0.0, np.nan, 0.0))
        else:
            rows.append((fit.x, fit.y, fit.radius, fit.confidence, fit.axis_ratio, fit.visible))
    x, y, radius, confidence, ratio, visible = np.array(rows, dtype=np.float64).T
    known = (confidence >= min_confidence) & (visible >= min_visible)
    track = np.where(known, np.stack([x, y, radius]), np.nan)
    track[:, _jumps(track, max_jump_radii)] = np.nan
    x, y, radius = track
    ratio = np.where(np.isnan(radius), np.nan, ratio)
    return PupilResult(x, y, radius, confidence, ratio, visible, region)


def _jumps(track: NDArray, limit: float) -> NDArray[np.bool_]:
    """Return frames alone: far from the median of five and from both neighbors."""
    frames = track.shape[1]
    if frames < 5:
        return np.zeros(frames, bool)
    padded = np.pad(track, ((0, 0), (2, 2)), constant_values=np.nan)
    around = np.stack([padded[:, k : k + frames] for k in range(5)])
    # the median of the known ones, by sorting: NaN sort last
    count = np.isfinite(around).sum(axis=0)
    order = np.sort(around, axis=0)
    middle = np.take_along_axis(order, np.maximum((count - 1) // 2, 0)[None], axis=0)[0]
    size = limit * middle[2]
    with np.errstate(invalid="ignore"):

        def far(other: NDArray) -> NDArray[np.bool_]:
            step = np.hypot(track[0] - other[0], track[1] - other[1])
            return (step > size) | (np.abs(track[2] - other[2]) > size)

        unlike = far(middle)
        before, after = far(padded[:, 1 : 1 + frames]), far(padded[:, 3 : 3 + frames])
        lonely = (before | np.isnan(padded[0, 1 : 1 + frames])) & (
            after | np.isnan(padded[0, 3 : 3 + frames])
        )
    return unlike & lonely


def to_mm(radius_px: NDArray, eye_width_px: float, eye_width_mm: float = 3.4) -> NDArray:
    """Convert px to mm by a length known in both, e.g. the width of the eye.

    Raises
    ------
    ValueError
        If a width is not positive.
    """
    if not (eye_width_px > 0 and eye_width_mm > 0):
        raise ValueError(f"widths must be positive, got {eye_width_px} px and {eye_width_mm} mm")
    return np.asarray(radius_px, np.float64) * (eye_width_mm / eye_width_px)


@pupil_trackers.register("deeplabcut")
def deeplabcut(
    csv_path: str | os.PathLike,
    *,
    point_prefix: str = "pupil",
    min_likelihood: float = 0.9,
    min_points: int = 4,
) -> PupilResult:
    """Fit a circle to the pupil points in a DeepLabCut CSV file.

    Parameters
    ----------
    csv_path : path
        Table with three header lines (scorer, bodyparts, coords) and x, y, likelihood per point.
    point_prefix : str
        Body parts whose names begin with it, in any case, lie on the pupil's edge.
    min_likelihood : float
        Points below are ignored.
    min_points : int
        Frames with fewer points are NaN; at least 3.

    Returns
    -------
    PupilResult
        Confidence is the mean likelihood of all the points.

    Raises
    ------
    DataError
        If the file is no such table or has too few such points.
    """
    names, coords, table = _read_deeplabcut(Path(csv_path))
    chosen = sorted({n for n in names if n.lower().startswith(point_prefix.lower())})
    if len(chosen) < max(3, min_points):
        raise DataError(
            "too few points on the pupil",
            file=csv_path,
            field="bodyparts",
            found=sorted(set(names)),
            expected=f"at least {max(3, min_points)} that begin with {point_prefix!r}",
        )
    index = {(n, c): i for i, (n, c) in enumerate(zip(names, coords, strict=True))}
    try:
        x, y, likelihood = (
            table[:, [index[name, what] for name in chosen]] for what in ("x", "y", "likelihood")
        )
    except KeyError as error:
        raise DataError("a column is missing", file=csv_path, field=str(error.args[0])) from error
    good = (likelihood >= min_likelihood) & np.isfinite(x) & np.isfinite(y)
    cx, cy, radius = _circles(x, y, good)
    bad = good.sum(axis=1) < max(3, min_points)
    cx, cy, radius = (np.where(bad, np.nan, values) for values in (cx, cy, radius))
    return PupilResult(cx, cy, radius, np.nan_to_num(likelihood).mean(axis=1))


def _read_deeplabcut(path: Path) -> tuple[list[str], list[str], NDArray[np.float64]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError("cannot be read", file=path, found=error) from error
    head = [line.split(",") for line in lines[:3]]
    expected = ["scorer", "bodyparts", "coords"]
    if [row[0] for row in head] != expected:
        raise DataError(
            "is no DeepLabCut table",
            file=path,
            found=[row[0] for row in head],
            expected=f"lines that begin with {expected}",
        )
    cells = [line.split(",") for line in lines[3:] if line.strip()]
    if any(len(row) != len(head[1]) for row in cells) or not cells:
        raise DataError("has rows of unequal length, or none", file=path)
    try:
        table = np.array([[float(v) if v.strip() else np.nan for v in row[1:]] for row in cells])
    except ValueError as error:
        raise DataError("has a cell that is no number", file=path, found=error) from error
    return head[1][1:], head[2][1:], table


def _circles(x: NDArray, y: NDArray, good: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Least-squares circle (Kasa 1976) through the good points of every row."""
    weight = good.astype(np.float64)
    count = np.maximum(weight.sum(axis=1, keepdims=True), 1)
    x, y = np.where(good, x, 0.0), np.where(good, y, 0.0)
    mx, my = x.sum(axis=1, keepdims=True) / count, y.sum(axis=1, keepdims=True) / count
    u, v = (x - mx) * weight, (y - my) * weight
    square = u**2 + v**2
    suu, svv, suv = (u * u).sum(1), (v * v).sum(1), (u * v).sum(1)
    right_u, right_v = (u * square).sum(1) / 2, (v * square).sum(1) / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        determinant = suu * svv - suv**2
        cu = (right_u * svv - right_v * suv) / determinant
        cv = (right_v * suu - right_u * suv) / determinant
        radius = np.sqrt(cu**2 + cv**2 + square.sum(1) / count[:, 0])
    return mx[:, 0] + cu, my[:, 0] + cv, radius


@pupil_trackers.register("facemap")
def facemap(npy_path: str | os.PathLike, *, pupil_index: int = 0) -> PupilResult:
    """Read the pupil from a facemap `_proc.npy` file.

    Parameters
    ----------
    npy_path : path
        A pickled dictionary; what is no number, text, array or container is refused, not run.
    pupil_index : int
        Which of the pupils that facemap tracked.

    Returns
    -------
    PupilResult
        Radius from facemap's area before smoothing; center relative to the region drawn in
        facemap; confidence 1 where center and area are finite.

    Raises
    ------
    DataError
        If the file holds no pupil.
    """
    try:
        content = load_pickled_dict(npy_path)
        pupil = content["pupil"][pupil_index]
        # not area_smooth and com_smooth: there facemap has filled blinks by interpolation
        area = as_numbers(pupil["area"])
        center = as_numbers(pupil["com"])
    except DataError:
        raise
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            "holds no facemap pupil",
            file=npy_path,
            field=f"pupil[{pupil_index}]",
            found=f"{type(error).__name__}: {error}",
            expected="a _proc.npy with area and com",
        ) from error
    if area.ndim != 1 or center.shape != (len(area), 2):
        raise DataError(
            "area and com differ in length", file=npy_path, found=f"{area.shape}, {center.shape}"
        )
    known = np.isfinite(area) & np.isfinite(center).all(axis=1) & (area > 0)
    radius = np.where(known, np.sqrt(np.where(known, area, 0) / np.pi), np.nan)
    y, x = np.where(known, center.T, np.nan)  # facemap's com is (row, column)
    return PupilResult(x, y, radius, known.astype(np.float64))
