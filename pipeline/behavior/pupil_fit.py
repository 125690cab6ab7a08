"""One frame: edge of the pupil along rays, and the ellipse through what is visible of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from .eye_region import EyeRegion

RAYS = 96
STEP_PX = 0.5  # between samples of a ray


@dataclass(frozen=True)
class PupilFit:
    """Pupil of one frame in px of the frame; `visible` is the share of its edge that was seen."""

    x: float
    y: float
    radius: float
    axis_ratio: float
    visible: float
    confidence: float


@lru_cache(maxsize=8)
def _ellipse(size: int) -> NDArray[np.uint8]:
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)), np.uint8)


@lru_cache(maxsize=1)
def _triples() -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.float64]]:
    """Return ray numbers of triples far enough apart to fix a circle; cos, sin of the rays."""
    start = np.arange(0, RAYS, 2)
    gaps = [(RAYS // 3, 2 * RAYS // 3), (RAYS // 5, 2 * RAYS // 5), (RAYS // 4, RAYS // 2)]
    triples = [np.stack([start, start + a, start + b], axis=1) % RAYS for a, b in gaps]
    angle = 2 * np.pi * np.arange(RAYS) / RAYS
    return np.concatenate(triples), np.cos(angle), np.sin(angle)


def _without_reflections(
    crop: NDArray[np.uint8], region: EyeRegion
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return the crop with bright spots replaced by their surroundings, and where they were."""
    size = 2 * round(0.35 * region.radius_px) + 1
    opened = cv2.morphologyEx(crop, cv2.MORPH_OPEN, _ellipse(max(5, size)))
    contrast = max(region.iris_grey - region.pupil_grey, 8.0)
    spot = (cv2.subtract(crop, opened) > 0.6 * contrast).astype(np.uint8)
    spot = np.asarray(cv2.dilate(spot, _ellipse(5)), np.uint8)
    calm = np.where(spot > 0, opened, crop)
    blur = float(np.clip(0.07 * region.radius_px, 0.8, 2.0))
    smooth = cv2.GaussianBlur(calm.astype(np.float32), (0, 0), blur)
    return np.asarray(smooth, np.float32), spot


def _seed(calm: NDArray[np.float32], region: EyeRegion) -> tuple[float, float, float] | None:
    """Return center and radius of the largest circle inside of the dark region, or None."""
    level = (region.pupil_grey + region.iris_grey) / 2
    # the lamp may fade, or the gain change: follow the darkest part of this frame
    darkest = float(np.percentile(calm, 1.0))
    level = min(level, darkest + 0.5 * (region.iris_grey - region.pupil_grey))
    dark = (calm < level).astype(np.uint8)
    opened = cv2.morphologyEx(dark, cv2.MORPH_OPEN, _ellipse(5))  # lashes
    if not np.any(opened):
        return None
    framed = cv2.copyMakeBorder(opened, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    inside = cv2.distanceTransform(framed, cv2.DIST_L2, 5)[1:-1, 1:-1]
    _, radius, _, (x, y) = cv2.minMaxLoc(inside)
    if radius < max(2.0, 0.25 * region.radius_px):
        return None
    return float(x), float(y), float(radius)


def _edges(
    calm: NDArray[np.float32], spot: NDArray[np.uint8], x: float, y: float, radius: float
) -> tuple[NDArray[np.float64], NDArray[np.bool_], float]:
    """Return the radius at which every ray leaves the dark, where it is known, and the contrast."""
    reach = 2.0 * radius + 4.0
    samples = int(reach / STEP_PX)
    size = (samples, RAYS)
    # warpPolar samples ray k at angle 2 pi k / RAYS, sample j at radius j * reach / samples
    fill = cv2.WARP_FILL_OUTLIERS  # without it, samples outside of the image are left undefined
    polar = cv2.warpPolar(calm, size, (x, y), samples * STEP_PX, cv2.INTER_LINEAR | fill)
    hidden = cv2.warpPolar(spot, size, (x, y), samples * STEP_PX, cv2.INTER_NEAREST | fill)
    core = max(2, int(0.5 * radius / STEP_PX))
    inner = float(np.median(polar[:, :core]))
    around = slice(int(1.15 * radius / STEP_PX), int(1.6 * radius / STEP_PX) + 1)
    outer = float(np.median(polar[:, around]))
    level = (inner + outer) / 2
    begin = max(1, int(0.35 * radius / STEP_PX))
    bright = polar > level
    bright[:, :begin] = False
    first = bright.argmax(axis=1)
    known = bright.any(axis=1)
    ray = np.arange(RAYS)
    # steepest place within 1.5 px of the crossing: level-free, the eye need not be evenly lit
    slope = np.zeros_like(polar)
    slope[:, 1:-1] = polar[:, 2:] - polar[:, :-2]
    window = first[:, None] + np.arange(-3, 4)
    window = np.clip(window, 1, samples - 2)
    local = slope[ray[:, None], window]
    peak = window[ray, local.argmax(axis=1)]
    before, top, after = (slope[ray, np.clip(peak + d, 0, samples - 1)] for d in (-1, 0, 1))
    curve = before - 2 * top + after
    with np.errstate(invalid="ignore", divide="ignore"):
        shift = np.where(curve < 0, 0.5 * (before - after) / curve, 0.0)
    edge = (peak + np.clip(shift, -1, 1)) * STEP_PX
    known &= hidden[ray, peak] == 0
    known &= (peak > 1) & (peak < samples - 2)
    return edge.astype(np.float64), known, outer - inner


def _circle(
    edge: NDArray, known: NDArray[np.bool_], tolerance: float
) -> tuple[NDArray[np.bool_], float, float, float] | None:
    """Return the rays on the circle that most of them share, and the circle about the origin."""
    triples, cos, sin = _triples()
    triples = triples[known[triples].all(axis=1)]
    if len(triples) == 0:
        return None
    px, py = edge * cos, edge * sin
    (x1, x2, x3), (y1, y2, y3) = px[triples].T, py[triples].T
    twice = 2 * ((x2 - x1) * (y3 - y1) - (x3 - x1) * (y2 - y1))
    usable = np.abs(twice) > 1e-6
    a = (x2 - x1) * (x1 + x2) + (y2 - y1) * (y1 + y2)
    b = (x3 - x1) * (x1 + x3) + (y3 - y1) * (y1 + y3)
    with np.errstate(invalid="ignore", divide="ignore"):
        cx = ((y3 - y1) * a - (y2 - y1) * b) / twice
        cy = ((x2 - x1) * b - (x3 - x1) * a) / twice
        radius = np.hypot(x1 - cx, y1 - cy)
    error = np.hypot(px[None] - cx[:, None], py[None] - cy[:, None]) - radius[:, None]
    close = (np.abs(error) < tolerance) & known & usable[:, None]
    # lids and lashes hide the edge and pull it inwards: rays far outside speak against a circle
    score = close.sum(axis=1) - 0.5 * ((error > 2 * tolerance) & known).sum(axis=1)
    best = int(np.argmax(np.where(np.isfinite(radius), score, -np.inf)))
    return close[best], float(cx[best]), float(cy[best]), float(radius[best])


def _design() -> NDArray[np.float64]:
    """Return the columns of edge = radius + x cos + y sin + c cos 2a + s sin 2a, (rays, 5)."""
    _, cos, sin = _triples()
    return np.stack([np.ones(RAYS), cos, sin, cos**2 - sin**2, 2 * sin * cos], axis=1)


def _ellipse_fit(
    edge: NDArray, known: NDArray[np.bool_], good: NDArray[np.bool_], wide: float, narrow: float
) -> tuple[NDArray[np.float64], NDArray[np.bool_], float]:
    """Fit (radius, x, y, c, s), to first order an ellipse about (x, y), to a growing set of rays.

    Starts from the rays `good`, then takes in all known ones near the fit, less and less far off. A
    short arc cannot tell the second harmonic from a shift: there it is kept small.

    Returns
    -------
    array, shape (5,); array of bool, shape (rays,); float
        Solution, rays used, and their root mean square distance from it.
    """
    design = _design()
    solution, error = np.zeros(5), np.full(RAYS, np.inf)
    for tolerance in np.linspace(wide, narrow, 5):
        share = good.sum() / max(known.sum(), 1)  # the rest is behind a lid, not behind glints
        stiffness = RAYS * (0.005 + 40.0 * max(0.0, 0.88 - share))
        ridge = np.diag([0.0, 0.0, 0.0, stiffness, stiffness])
        weight = good.astype(np.float64)
        for _ in range(2):
            weighted = design * weight[:, None]
            solution = np.linalg.solve(weighted.T @ design + ridge, weighted.T @ edge)
            error = edge - design @ solution
            weight = good / (1 + (error / narrow) ** 2) ** 2
        # a lid hides the edge and shows its own inside of the pupil, never outside
        good = known & (error < tolerance) & (error > -0.6 * tolerance)
        if good.sum() < RAYS // 6:
            break
    spread = float(np.sqrt(np.mean(error[good] ** 2))) if good.any() else np.inf
    return solution, good, spread


def fit_pupil(frame: NDArray[np.uint8], region: EyeRegion) -> PupilFit | None:
    """Fit an ellipse to the pupil of one gray frame (H, W); None if none is seen.

    Independent of all other frames, so that a blink cannot derail what follows.
    """
    crop = np.ascontiguousarray(frame[region.top : region.bottom, region.left : region.right])
    calm, spot = _without_reflections(crop, region)
    seed = _seed(calm, region)
    if seed is None:
        return None
    x, y, radius = seed
    contrast, ratio, inliers, spread = 0.0, 1.0, np.zeros(RAYS, bool), np.inf
    for step in range(3):
        edge, known, contrast = _edges(calm, spot, x, y, radius)
        if step == 0:
            # the circle is exact far from the center, where harmonics are not
            found = _circle(edge, known, max(0.8, 0.12 * radius))
            if found is None or found[0].sum() < 0.25 * RAYS:
                return None
            inliers, cx, cy, radius = found
        else:
            if step == 1:
                found = _circle(edge, known, max(0.8, 0.12 * radius))
                inliers = inliers if found is None else found[0]
            solution, inliers, spread = _ellipse_fit(
                edge, known, inliers, max(1.0, 0.12 * radius), max(0.6, 0.05 * radius)
            )
            radius, cx, cy, c, s = (float(value) for value in solution)
            ratio = (radius - np.hypot(c, s)) / max(radius + np.hypot(c, s), 1e-6)
        x, y = x + cx, y + cy
        if not (0 <= x < crop.shape[1] and 0 <= y < crop.shape[0] and 2 < radius < max(crop.shape)):
            return None
    visible = float(inliers.mean())
    usual = max(region.iris_grey - region.pupil_grey, 1.0)
    sharp = float(np.clip(2 * contrast / usual, 0, 1)) if contrast > 0 else 0.0
    confidence = visible * sharp / (1 + (spread / (0.05 * radius + 0.5)) ** 2)
    return PupilFit(
        x + region.left, y + region.top, radius, float(ratio), visible, float(confidence)
    )
