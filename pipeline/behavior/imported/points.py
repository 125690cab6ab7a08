"""A pupil from points on its edge, of which some may be wrong."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.behavior.pupil import PupilResult, lone_leaps, problem_of, unlike_others
from pipeline.errors import DataError

TOLERANCE = 0.2  # radii that a point may lie off the edge
LOOSE = 0.4  # the same while the form is not known
GAP_DEG = 150.0  # largest part of the edge without a point: points on a lid leave a half or more
TRIPLES = 60  # at most, of a frame
CHUNK = 4000  # frames at a time
REASONS = (
    "",
    "too few points are likely enough",
    "the points are on no ellipse, or on one side of it",
    "the size is not that of the pupil in other frames",
    "a leap away from the frames around it",
)
MIDDLE = ("cent", "middle", "mid_")  # in the names of points that are not on the edge


def on_edge(names: list[str], prefix: str) -> list[str]:
    """Return the points whose names begin with a prefix, in any case, less that of the center."""
    begin = prefix.lower()
    return [
        name
        for name in dict.fromkeys(names)
        if name.lower().startswith(begin)
        and not any(word in name.lower()[len(begin) :] for word in MIDDLE)
    ]


def enough_on_edge(
    names: list[str], prefix: str, min_points: int, path: Path, field: str
) -> list[str]:
    """Return the points of `on_edge`; DataError if they are too few for a circle."""
    chosen, least = on_edge(names, prefix), max(3, min_points)
    if len(chosen) < least:
        raise DataError(
            "too few points on the pupil",
            file=path,
            field=field,
            found=sorted(set(names)),
            expected=f"at least {least} that begin with {prefix!r}",
        )
    return chosen


def pupil_through(
    x: NDArray, y: NDArray, likelihood: NDArray, *, min_likelihood: float, min_points: int
) -> PupilResult:
    """Fit an ellipse to points on the edge of the pupil in every frame.

    All frames have one form, that of the scatter of the points over the recording; place and size
    are a frame's own. A circle in that form goes through most of the points; those off it are left
    out. A frame is NaN if too few are left, if they lie on one side of the edge, as points on a
    closed lid do, if the size is not that of a pupil, or if it leaps away for one frame.

    Parameters
    ----------
    x, y, likelihood : array, shape (frames, points)
        NaN where a point is missing.
    min_likelihood : float
        Points below are ignored.
    min_points : int
        Fewest points on the edge; at least 3.

    Returns
    -------
    PupilResult
        Confidence is the mean likelihood of all points.
    """
    with np.errstate(invalid="ignore"):
        good = (likelihood >= min_likelihood) & np.isfinite(x) & np.isfinite(y)
    least = max(3, min_points)
    fit, used = _circles(x, y, good, least, LOOSE)
    form = _form(x, y, fit, used)
    if form is None:
        fit, used = _circles(x, y, good, least, TOLERANCE)
    else:
        flat = np.linalg.inv(form)
        u, v = flat[0, 0] * x + flat[0, 1] * y, flat[1, 0] * x + flat[1, 1] * y
        fit, used = _circles(u, v, good, least, TOLERANCE)
        fit[:, :2] = fit[:, :2] @ form.T
    axes = np.linalg.eigvalsh(form) if form is not None else np.ones(2)
    why = np.where(np.isfinite(fit[:, 2]), 0, np.where(good.sum(axis=1) < least, 1, 2))
    cx, cy, radius = fit.T
    wrong = unlike_others(radius)
    fit[wrong], why[wrong] = np.nan, 3
    leaps = lone_leaps(fit.T, 0.5)
    fit[leaps], why[leaps] = np.nan, 4
    cx, cy, radius = fit.T
    ratio = np.where(np.isfinite(radius), axes[0] / axes[1], np.nan)
    confidence = np.nan_to_num(likelihood).mean(axis=1)
    return PupilResult(
        cx, cy, radius, confidence, ratio, used.mean(axis=1), problem=problem_of(why, REASONS)
    )


def _circles(
    x: NDArray, y: NDArray, good: NDArray[np.bool_], least: int, tolerance: float
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return center and radius, (frames, 3), and the points on each circle, (frames, points)."""
    frames, points = x.shape
    triples = np.array(list(combinations(range(points), 3)))
    triples = triples[np.unique(np.linspace(0, len(triples) - 1, TRIPLES).astype(int))]
    fit, used = np.full((frames, 3), np.nan), np.zeros(x.shape, bool)
    for begin in range(0, frames, CHUNK):
        part = slice(begin, begin + CHUNK)
        fit[part], used[part] = _some(x[part], y[part], good[part], triples, least, tolerance)
    return fit, used


def _some(
    x: NDArray,
    y: NDArray,
    good: NDArray[np.bool_],
    triples: NDArray,
    least: int,
    tolerance: float,
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    frame = np.arange(len(x))
    most, used = np.full(len(x), -np.inf), np.zeros(x.shape, bool)
    everything = _kasa(x, y, good)
    for start in [None, *triples]:
        if start is None:
            cx, cy, radius = everything
            fine = np.ones(len(x), bool)
        else:
            alone = np.zeros(x.shape, bool)
            alone[:, start] = True
            cx, cy, radius = _kasa(x, y, alone & good)
            fine = np.all(good[:, start], axis=1)
        with np.errstate(invalid="ignore"):
            off = np.abs(np.hypot(x - cx[:, None], y - cy[:, None]) / radius[:, None] - 1)
            near = good & (off < tolerance) & fine[:, None]
            # points on one side are on nearly any large circle
            wide = _gap(x - cx[:, None], y - cy[:, None], near) < GAP_DEG
            score = near.sum(axis=1) - np.where(near, off, 0).sum(axis=1) / tolerance / 4
        better = wide & (score > most)
        most[better], used[better] = score[better], near[better]
    cx, cy, radius = _kasa(x, y, used)
    fit = np.stack([cx, cy, radius], axis=1)
    lost = used.sum(axis=1) < least
    with np.errstate(invalid="ignore"):
        lost |= ~(_gap(x - cx[:, None], y - cy[:, None], used) < GAP_DEG)
    fit[lost], used[frame[lost]] = np.nan, False
    return fit, used


def _gap(dx: NDArray, dy: NDArray, used: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the largest angle without a point (degrees), 360 with fewer than two."""
    angle = np.sort(np.where(used, np.arctan2(dy, dx), np.inf), axis=1)
    count = used.sum(axis=1)
    with np.errstate(invalid="ignore"):
        steps = np.diff(angle, axis=1)
        inner = np.where(np.isfinite(steps), steps, 0).max(axis=1, initial=0)
        last = np.take_along_axis(angle, np.maximum(count - 1, 0)[:, None], axis=1)[:, 0]
        around = 2 * np.pi - (last - angle[:, 0])
    return np.where(count >= 2, np.degrees(np.maximum(inner, around)), 360.0)


def _kasa(x: NDArray, y: NDArray, good: NDArray) -> tuple[NDArray, NDArray, NDArray]:
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


def _form(
    x: NDArray, y: NDArray, fit: NDArray, used: NDArray[np.bool_]
) -> NDArray[np.float64] | None:
    """Return the usual ellipse with the area of the unit circle; None if points do not say."""
    whole = used.sum(axis=1) >= 4
    whole &= used.sum(axis=1) == used[whole].sum(axis=1).max() if whole.any() else False
    if not whole.any():
        return None
    u, v = (
        np.where(used[whole], (p - fit[:, k, None])[whole], np.nan) for k, p in ((0, x), (1, y))
    )
    u, v = (p - np.nanmean(p, axis=1)[:, None] for p in (u, v))
    size = fit[whole, 2] ** 2
    a, b, d = (float(np.median(np.nanmean(p, axis=1) / size)) for p in (u * u, u * v, v * v))
    values, vectors = np.linalg.eigh([[a, b], [b, d]])
    if values[0] <= 0.1 * values[1]:
        return None
    root = (vectors * np.sqrt(values)) @ vectors.T
    return root / np.sqrt(np.linalg.det(root))
