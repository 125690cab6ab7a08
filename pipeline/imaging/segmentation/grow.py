"""Grow the footprint and time course of one cell from a seed, in a noise-normalized residual."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.imaging.segmentation.shape import filled, main_component, shape_features


@dataclass
class Component:
    """A cell found in a residual.

    Attributes
    ----------
    top, left : int
        Corner of the window.
    footprint : array float32, shape (h, w)
        Response of each pixel to the trace, in units of noise; zero outside of the support.
    trace : array float32, shape (bins,)
        In units of its own noise.
    mask : array of bool, shape (h, w)
        Filled outline.
    snr : float
        Largest transients of the trace over its noise.
    skew : float
        Largest positive over largest negative departure, a cell's being well above 1.
    contrast : float
        1 - response of the surroundings / response inside.
    features : dict
        From `shape_features`.
    """

    top: int
    left: int
    footprint: NDArray[np.float32]
    trace: NDArray[np.float32]
    mask: NDArray[np.bool_]
    snr: float
    skew: float
    contrast: float
    features: dict[str, float]

    @property
    def window(self) -> tuple[slice, slice]:
        """Where the component lies in the field."""
        height, width = self.footprint.shape
        return np.s_[self.top : self.top + height, self.left : self.left + width]

    @property
    def center(self) -> tuple[float, float]:
        """Centroid of the mask (y, x) in the field (px)."""
        y, x = np.nonzero(self.mask)
        return self.top + float(y.mean()), self.left + float(x.mean())

    def contribution(self) -> NDArray[np.float32]:
        """Return what the cell adds to the residual in its window, shape (h, w, bins)."""
        norm = float(np.linalg.norm(self.footprint))
        return self.footprint[:, :, None] * (self.trace / max(norm, 1e-12))


def grow(
    values: NDArray[np.float32],
    seed: tuple[float, float],
    *,
    diameter: float,
    edge: float,
    iterations: int = 4,
    start: NDArray | None = None,
) -> Component | None:
    """Grow a cell from a seed.

    Alternates between the trace, a matched filter with the footprint, and the footprint, the
    regression of every pixel on the trace's transients, smoothed, cut at `edge` of its height and
    to the part connected with the seed. A pixel's own noise in the trace would draw the footprint
    to where it already is; since noise has variance 1 here, that share is known (Stein's lemma:
    weight times number of bins in which the transient function rises) and is subtracted.

    Parameters
    ----------
    values : array, shape (H, W, bins)
        Residual in units of noise.
    seed : (y, x)
        Where the cell is (px).
    diameter : float
        Expected soma diameter (px).
    edge : float
        Height of the outline relative to the footprint's top.
    iterations : int
    start : array, shape (h, w), optional
        Footprint to begin with, on the same window.

    Returns
    -------
    Component or None
        None if nothing hangs together at the seed.
    """
    height, width, _ = values.shape
    reach = int(np.ceil(1.25 * diameter)) + 1
    y, x = round(seed[0]), round(seed[1])
    top, left = max(0, y - reach), max(0, x - reach)
    block = values[top : min(height, y + reach + 1), left : min(width, x + reach + 1)]
    shape = block.shape[:2]
    pixels = block.reshape(-1, block.shape[2])
    place = (y - top, x - left)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    distance = np.hypot(rows - place[0], columns - place[1])
    near = distance <= 0.95 * diameter
    weight = start if start is not None else np.exp(-0.5 * (distance / (0.3 * diameter)) ** 2)
    weight = weight.astype(np.float32)
    for _ in range(iterations):
        norm = np.linalg.norm(weight)
        if norm <= 0:
            return None
        unit = (weight / norm).ravel()
        trace = unit @ pixels
        response, support = _regress(pixels, unit, trace, shape)
        if response is None:
            return None
        smooth = cv2.GaussianBlur(response, (0, 0), 0.8)
        height_ = np.percentile(smooth[support_of(smooth, near)], 90) if near.any() else 0
        if height_ <= 0:
            return None
        support = main_component((smooth > edge * height_) & near, place)
        if support.sum() < 5:
            return None
        weight = np.where(support, np.maximum(smooth, 0), 0).astype(np.float32)
    mask = filled(support)
    norm = np.linalg.norm(weight)
    trace = (weight.ravel() / norm) @ pixels
    inside = float(np.mean(smooth[mask]))
    dilated = cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8), iterations=2)
    ring = cv2.dilate(dilated, np.ones((3, 3), np.uint8), iterations=2).astype(bool) & (
        dilated == 0
    )
    outside = float(np.mean(smooth[ring])) if ring.any() else 0.0
    spread = np.percentile(trace, (0.5, 50, 99.5))
    up, down = spread[2] - spread[1], spread[1] - spread[0]
    return Component(
        top,
        left,
        weight,
        trace.astype(np.float32),
        mask,
        float(up),
        float(up / max(down, 1e-6)),
        1 - outside / max(inside, 1e-9),
        shape_features(mask, diameter),
    )


def support_of(smooth: NDArray, near: NDArray) -> NDArray[np.bool_]:
    """Return pixels near the seed above half of the highest."""
    highest = smooth[near].max()
    return near & (smooth >= 0.5 * highest)


def _regress(
    pixels: NDArray, unit: NDArray, trace: NDArray, shape: tuple[int, int]
) -> tuple[NDArray | None, None]:
    low, middle = np.percentile(trace, (15.9, 50))
    level = middle + 2 * max(middle - low, 1e-6)
    rising = trace > level
    transients = np.where(rising, trace - level, 0)
    transients = transients - transients.mean()
    power = float(transients @ trace)
    own = float(rising.sum())
    if power - own <= 0 or not rising.any():
        return None, None
    response = (pixels @ transients - unit * own) / (power - own * float(unit @ unit))
    return response.reshape(shape).astype(np.float32), None
