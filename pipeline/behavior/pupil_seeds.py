"""Where a pupil might be in one frame: regions darker or brighter than what surrounds them."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .pupil_fit import disc

RAYS = 32
RHO = np.array([0.5, 0.65, 0.8, 1.2, 1.35, 1.5])  # radii at which a seed is looked at


@dataclass(frozen=True)
class Seeds:
    """Ellipses that may be pupils, the most likely first.

    Attributes
    ----------
    center : array, shape (seeds, 2)
        x, y (px).
    shape : array, shape (seeds, 2, 2)
        Maps the unit circle to the ellipse (px).
    bright : array of bool, shape (seeds,)
    score : array, shape (seeds,)
        0 to 1.
    """

    center: NDArray[np.float64]
    shape: NDArray[np.float64]
    bright: NDArray[np.bool_]
    score: NDArray[np.float64]

    def __add__(self, other: Seeds) -> Seeds:
        """Return both."""
        return Seeds(
            np.concatenate([self.center, other.center]),
            np.concatenate([self.shape, other.shape]),
            np.concatenate([self.bright, other.bright]),
            np.concatenate([self.score, other.score]),
        )

    def best(self, count: int) -> Seeds:
        """Return the first seeds, without those that nearly repeat a better one."""
        order = np.argsort(-self.score, kind="stable")
        kept: list[int] = []
        radius = np.sqrt(np.abs(np.linalg.det(self.shape)))
        for i in order:
            for j in kept:
                near = np.hypot(*(self.center[i] - self.center[j])) < 0.25 * radius[j]
                alike = abs(np.log(radius[i] / radius[j])) < 0.2
                if near and alike and self.bright[i] == self.bright[j]:
                    break
            else:
                kept.append(i)
                if len(kept) == count:
                    break
        return Seeds(self.center[kept], self.shape[kept], self.bright[kept], self.score[kept])


def roots(a: NDArray, b: NDArray, d: NDArray) -> NDArray[np.float64]:
    """Return the square roots of symmetric matrices [[a, b], [b, d]], (n, 2, 2)."""
    s = np.sqrt(np.maximum(a * d - b * b, 0))
    t = np.sqrt(a + d + 2 * s)
    return np.moveaxis(np.array([[a + s, b], [b, d + s]]) / t, 2, 0)


def _ellipses(mask: NDArray[np.uint8], smallest: float, largest: float) -> list[tuple]:
    """Return (x, y, a, b, d) of regions that are nearly ellipses, and of the discs within others.

    a, b, d are the second moments of a region's convex hull, so that a reflection on its edge does
    not bite into it; holes count as filled.
    """
    filled: NDArray = np.zeros_like(mask)
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    for outline in outlines:
        # the longest outline is that of a half-moon
        if 4 * smallest < len(outline) < 16 * largest:
            cv2.drawContours(filled, [outline], 0, 1, cv2.FILLED)
    filled = cv2.morphologyEx(filled, cv2.MORPH_OPEN, disc(5 if smallest > 3.9 else 3))
    outlines, _ = cv2.findContours(filled, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    found = []
    for outline in outlines:
        if len(outline) < 4 * smallest:
            continue
        hull = cv2.convexHull(outline)
        moments = cv2.moments(hull)
        area = moments["m00"]
        if area < 2 * smallest**2:
            continue
        x, y = moments["m10"] / area, moments["m01"] / area
        a, b, d = (moments[name] / area for name in ("mu20", "mu11", "mu02"))
        half, apart = (a + d) / 2, float(np.hypot((a - d) / 2, b))
        short, long = 2 * np.sqrt(max(half - apart, 0)), 2 * np.sqrt(half + apart)
        solid = cv2.contourArea(outline) / area
        sized = short > 0.8 * smallest and short * long <= largest**2
        if sized and solid > 0.8 and short > 0.42 * long:
            found.append((x, y, 4 * a, 4 * b, 4 * d))
        if solid < 0.93 or short < 0.7 * long:
            # a shadow or a lash joins the pupil to what is around: its largest disc
            left, top, wide, high = cv2.boundingRect(outline)
            part = np.zeros((high + 2, wide + 2), np.uint8)
            cv2.drawContours(part, [outline], 0, 1, cv2.FILLED, offset=(1 - left, 1 - top))
            inside = cv2.distanceTransform(part, cv2.DIST_L2, 5)
            _, radius, _, (x, y) = cv2.minMaxLoc(inside)
            if smallest <= radius <= largest:
                found.append((x + left - 1, y + top - 1, radius**2, 0.0, radius**2))
    return found


def find_seeds(
    image: NDArray[np.uint8],
    levels: NDArray,
    *,
    smallest: float,
    largest: float,
    bright: tuple[bool, ...] = (False, True),
) -> Seeds:
    """Return regions that thresholds separate, scored by the step at their border.

    Parameters
    ----------
    image : array uint8, shape (H, W)
    levels : array
        Gray levels at which regions are cut out.
    smallest, largest : float
        Radii looked for (px).
    bright : tuple of bool
        Polarities looked for.
    """
    rows: list[tuple] = []
    for level in np.unique(np.rint(levels)):
        below: NDArray = (image < level).astype(np.uint8)
        for inverted in bright:
            mask = 1 - below if inverted else below
            rows += [(*row, inverted) for row in _ellipses(mask, smallest, largest)]
    table = np.array(rows, np.float64).reshape(-1, 6)
    center, polarity = table[:, :2], table[:, 5] > 0
    shape = roots(*table[:, 2:5].T)
    radius = np.sqrt(np.abs(np.linalg.det(shape)))
    shape = shape * (1 + 0.5 / np.maximum(radius, 1))[:, None, None]  # outlines end in their pixels
    return Seeds(center, shape, polarity, _score(image, center, shape, polarity))


def _score(image: NDArray, center: NDArray, shape: NDArray, bright: NDArray) -> NDArray[np.float64]:
    """Return the share of the border with a clear step, less what varies inside and outside."""
    if len(center) == 0:
        return np.zeros(0)
    angle = 2 * np.pi * np.arange(RAYS) / RAYS
    way = shape @ np.stack([np.cos(angle), np.sin(angle)])
    x, y = (center[:, i, None, None] + way[:, i, :, None] * RHO for i in (0, 1))
    size = (len(center), -1)
    at = cv2.remap(
        image.astype(np.float32),
        x.reshape(size).astype(np.float32),
        y.reshape(size).astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    ).reshape(len(center), RAYS, len(RHO))
    at = np.where(bright[:, None, None], 255 - at, at)
    inner = np.median(at[:, :, :3], axis=(1, 2))
    ring = at[:, :, 3:]
    outer = np.median(ring, axis=(1, 2))
    contrast = np.maximum(outer - inner, 1e-3)
    step = ring[:, :, :2].mean(axis=2) - at[:, :, 1:3].mean(axis=2)
    seen = (step > 0.4 * contrast[:, None]).mean(axis=1)
    uneven = np.median(np.abs(at[:, :, :3] - inner[:, None, None]), axis=(1, 2)) / contrast
    rough = np.median(np.abs(ring - outer[:, None, None]), axis=(1, 2)) / contrast
    score = seen / (1 + (uneven / 0.25) ** 2 + (rough / 0.4) ** 2)
    return np.where(outer - inner > 3, score, 0.0)
