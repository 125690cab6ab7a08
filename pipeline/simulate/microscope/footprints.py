"""Footprints that crowd in a round aperture, on several days: truth for matching without images.

What a lens of a small animal's microscope shows and a segmentation of it leaves: cells so close
that footprints overlap, in clusters, within a disc, and no image beside the footprints. A part of
the cells is found on each day, each a little displaced and of a little other shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

from pipeline.rng import generator

LEAST_WEIGHT = 0.15  # of the largest: what a segmentation leaves of a footprint
CLUSTERS = 120  # px of the map of densities across the aperture
REACH = 2.6  # sd of a footprint that are drawn


@dataclass(frozen=True)
class FootprintDay:
    """What one day leaves of an aperture.

    Attributes
    ----------
    masks : array of float32, shape (units, H, W)
        Weights, at most 1.
    cell : array of int, shape (units,)
        True cell of every unit.
    um_per_px : float
    """

    masks: NDArray[np.float32]
    cell: NDArray[np.int64]
    um_per_px: float


def crowded_days(
    seed: int,
    n_days: int = 5,
    *,
    shape: tuple[int, int] = (257, 326),
    um_per_px: float = 2.25,
    radius_um: float = 240.0,
    n_cells: int = 930,
    apart_um: float = 9.0,
    clustering: float = 0.6,
    found: float = 0.6,
    jitter_um: float = 1.3,
    shift_um: float = 20.0,
    rotation_deg: float = 2.5,
    offset_um: Sequence[float] | None = None,
) -> list[FootprintDay]:
    """Simulate several days of one aperture.

    Parameters
    ----------
    seed : int
    n_days : int
    shape : (int, int)
        Of the field (px).
    radius_um : float
        Of the aperture.
    n_cells, apart_um : int, float
        Cells at most, and their least distance.
    clustering : float
        Standard deviation of the log of the density across the aperture.
    found : float
        Share of the cells that a day shows.
    jitter_um : float
        Standard deviation along each axis of a footprint's place about its cell.
    shift_um, rotation_deg : float
        Largest displacement along each axis, and rotation, of all days but the first.
    offset_um : (float, float), optional
        Displacement of all days but the first, in place of one by lot.
    """
    rng = generator(seed, "crowded aperture")
    field_um = np.array(shape) * um_per_px
    center = field_um / 2 + rng.uniform(-25, 25, 2)
    place = _clustered(rng, radius_um, n_cells, apart_um, clustering)
    n = len(place)
    size = np.clip(rng.normal(5.5, 0.8, n), 3.5, 8.0)
    stretch, axis = rng.uniform(0, 0.25, n), rng.uniform(0, np.pi, n)
    days = []
    for day in range(n_days):
        rng = generator(seed, "day of an aperture", day)
        angle = np.deg2rad(rng.uniform(-rotation_deg, rotation_deg)) if day else 0.0
        moved = rng.uniform(-shift_um, shift_um, 2) if day else np.zeros(2)
        if day and offset_um is not None:
            moved = np.asarray(offset_um, float)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        seen = np.flatnonzero(rng.random(n) < found)
        where = place[seen] @ turn.T + moved + center
        where = where + rng.normal(0, jitter_um, where.shape)
        masks, cells = [], []
        for cell, yx in zip(seen, where, strict=True):
            heading = axis[cell] + angle + rng.normal(0, 0.2)
            sd = size[cell] * (1 + stretch[cell] * np.array([1, -1])) * rng.lognormal(0, 0.1, 2)
            mask = _footprint(shape, yx / um_per_px, sd / um_per_px, heading)
            if np.count_nonzero(mask) > 5:
                masks.append(mask)
                cells.append(cell)
        stacked = np.array(masks, np.float32).reshape(-1, *shape)
        days.append(FootprintDay(stacked, np.array(cells, int), um_per_px))
    return days


def _clustered(
    rng: np.random.Generator, radius: float, n: int, apart: float, clustering: float
) -> NDArray[np.float64]:
    """Draw cells (n, 2) of a disc (um about its center) by a clustered density, apart enough."""
    drawn = 8 * n
    r, angle = radius * np.sqrt(rng.random(drawn)), rng.uniform(0, 2 * np.pi, drawn)
    points = np.column_stack([r * np.sin(angle), r * np.cos(angle)])
    density = gaussian_filter(rng.normal(size=(CLUSTERS, CLUSTERS)), 6)
    density *= clustering / density.std()
    row, column = np.clip((points / radius + 1) / 2 * CLUSTERS, 0, CLUSTERS - 1).astype(int).T
    log = density[row, column] - (r / radius) ** 2
    points = points[rng.random(drawn) < np.exp(log - 2 * clustering)]
    keep = np.ones(len(points), bool)
    for i, j in sorted(cKDTree(points).query_pairs(apart)):
        if keep[i] and keep[j]:
            keep[j] = False
    return points[keep][:n]


def _footprint(
    shape: tuple[int, int], yx: NDArray, sd: NDArray, heading: float
) -> NDArray[np.float32]:
    """Draw an elliptic Gaussian, cut off where it is faint."""
    mask = np.zeros(shape, np.float32)
    reach = int(np.ceil(REACH * sd.max()))
    low = np.clip(np.floor(yx).astype(int) - reach, 0, shape)
    high = np.clip(np.floor(yx).astype(int) + reach + 1, 0, shape)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    off = np.moveaxis(np.mgrid[box], 0, -1) + 0.5 - yx
    turn = np.array([[np.cos(heading), -np.sin(heading)], [np.sin(heading), np.cos(heading)]])
    weight = np.exp(-0.5 * ((off @ turn / sd) ** 2).sum(-1))
    mask[box] = np.where(weight >= LEAST_WEIGHT, weight, 0)
    return mask
