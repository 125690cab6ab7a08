"""Grow the footprint and time course of one cell from a seed, in a noise-normalized residual."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.imaging.segmentation.base import Residual
from pipeline.imaging.segmentation.shape import filled, main_component, shape_features
from pipeline.imaging.segmentation.sums import project, respond

BLUR_PX = 0.8  # of footprints, while they grow
_FAINTEST = 1e-3  # of the seed's weights: less adds nothing but time


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

    @cached_property
    def center(self) -> tuple[float, float]:
        """Centroid of the mask (y, x) in the field (px)."""
        y, x = np.nonzero(self.mask)
        return self.top + float(y.mean()), self.left + float(x.mean())

    def share(self, sign: float) -> tuple[tuple[int, int], NDArray, NDArray]:
        """Return what the cell adds to a residual, times `sign`, as `Residual.add` takes it."""
        norm = max(float(np.linalg.norm(self.footprint)), 1e-12)
        return (self.top, self.left), self.footprint, self.trace * np.float32(sign / norm)


def overlaps(one: Component, other: Component, diameter: float) -> bool:
    """Return whether two components are the same cell: centers within a third of a soma."""
    distance = np.hypot(one.center[0] - other.center[0], one.center[1] - other.center[1])
    return bool(distance < 0.35 * diameter)


def window_reach(diameter: float) -> int:
    """Return how far the window of a cell reaches from its seed (px)."""
    return int(np.ceil(1.25 * diameter)) + 1


def grow(
    residual: Residual,
    seed: tuple[float, float],
    *,
    diameter: float,
    edge: float,
    iterations: int = 4,
) -> Component | None:
    """Grow a cell from a seed.

    Alternates between the trace, a matched filter with the footprint, and the footprint, the
    regression of every pixel on the trace's transients, smoothed, cut at `edge` of its height and
    to the part connected with the seed. A pixel's own noise in the trace would draw the footprint
    to where it already is; since noise has variance 1 here, that share is known (Stein's lemma:
    weight times number of bins in which the transient function rises) and is subtracted.

    Parameters
    ----------
    residual : Residual
    seed : (y, x)
        Where the cell is (px).
    diameter : float
        Expected soma diameter (px).
    edge : float
        Height of the outline relative to the footprint's top.
    iterations : int

    Returns
    -------
    Component or None
        None if nothing hangs together at the seed.
    """
    height, width, _ = residual.values.shape
    reach = window_reach(diameter)
    y, x = round(seed[0]), round(seed[1])
    top, left = max(0, y - reach), max(0, x - reach)
    shape = (min(height, y + reach + 1) - top, min(width, x + reach + 1) - left)
    place = (y - top, x - left)
    near, blurred, weight = _beginning(shape, place, diameter)
    for left_over in range(iterations - 1, -1, -1):
        norm = np.linalg.norm(weight)
        if norm <= 0:
            return None
        # the last response is asked for around the cell too
        wanted = blurred if left_over else np.ones(shape, bool)
        response = _response(residual, (top, left), weight / norm, wanted)
        if response is None:
            return None
        smooth = cv2.GaussianBlur(response, (0, 0), BLUR_PX)
        height_ = _quantiles(smooth[support_of(smooth, near)], 0.9)[0] if near.any() else 0
        if height_ <= 0:
            return None
        support = main_component((smooth > edge * height_) & near, place)
        if support.sum() < 5:
            return None
        weight = np.where(support, np.maximum(smooth, 0), 0).astype(np.float32)
    mask = filled(support)
    trace = project(residual.values, top, left, weight / np.linalg.norm(weight))
    inside = float(np.mean(smooth[mask]))
    dilated = cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8), iterations=2)
    ring = cv2.dilate(dilated, np.ones((3, 3), np.uint8), iterations=2).astype(bool) & (
        dilated == 0
    )
    outside = float(np.mean(smooth[ring])) if ring.any() else 0.0
    low, middle, high = _quantiles(trace, 0.005, 0.5, 0.995)
    up, down = high - middle, middle - low
    return Component(
        top,
        left,
        weight,
        trace,
        mask,
        float(up),
        float(up / max(down, 1e-6)),
        1 - outside / max(inside, 1e-9),
        shape_features(mask, diameter),
    )


@lru_cache(maxsize=64)
def _beginning(
    shape: tuple[int, int], place: tuple[int, int], diameter: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.float32]]:
    """Return where a window's cell can be, what the blur brings there, and the first weights."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    distance = np.hypot(rows - place[0], columns - place[1])
    weight = np.exp(-0.5 * (distance / (0.3 * diameter)) ** 2)
    weight = np.where(weight > _FAINTEST, weight, 0).astype(np.float32)
    near = distance <= 0.95 * diameter
    return near, distance <= 0.95 * diameter + 3 * np.sqrt(2), weight


def _quantiles(values: NDArray[np.number], *shares: float) -> list[float]:
    """Return what `np.quantile` does, in a tenth of the time for short arrays."""
    places = [share * (len(values) - 1) for share in shares]
    ranks = {
        rank for place in places for rank in (int(place), min(int(place) + 1, len(values) - 1))
    }
    ordered = np.partition(values, sorted(ranks))
    lower = [float(ordered[int(place)]) for place in places]
    upper = [float(ordered[min(int(place) + 1, len(values) - 1)]) for place in places]
    return [a + (b - a) * (p - int(p)) for a, b, p in zip(lower, upper, places, strict=True)]


def support_of(smooth: NDArray, near: NDArray) -> NDArray[np.bool_]:
    """Return pixels near the seed above half of the highest."""
    highest = smooth[near].max()
    return near & (smooth >= 0.5 * highest)


def _response(
    residual: Residual, corner: tuple[int, int], unit: NDArray[np.float32], wanted: NDArray
) -> NDArray[np.float32] | None:
    """Return what `wanted` pixels do in the transients of the trace of `unit`, of norm 1."""
    trace = project(residual.values, *corner, unit)
    low, middle = _quantiles(trace, 0.159, 0.5)
    level = middle + 2 * max(middle - low, 1e-6)
    rising = np.flatnonzero(trace > level)
    height = (trace[rising] - level).astype(np.float32)
    # transients are less their mean, and so is their product with the trace
    power = float(height @ trace[rising]) - float(height.sum()) * float(trace.mean())
    own = float(len(rising))
    if power - own <= 0 or not own:
        return None
    response = respond(residual.values, residual.sums, *corner, wanted, rising, height)
    response -= np.where(wanted, unit * np.float32(own), 0)
    response /= power - own * float((unit * unit).sum())
    return response
