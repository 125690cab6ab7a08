"""What a matching method takes and returns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.registry import Registry

match_methods = Registry("match method")


@dataclass(frozen=True)
class FieldView:
    """A field as one scan shows it.

    Attributes
    ----------
    mean_image : array, shape (H, W), or None
        Mean of the motion-corrected movie.
    correlation_image : array, shape (H, W), or None
        Correlation of every pixel with its neighbors.
    masks : array, shape (units, H, W)
        Bool, or weights: then a pixel belongs to a unit if it has a quarter of its largest weight.
    um_per_px : float or (float, float)
        Pixel size, or that of y and of x.
    """

    mean_image: NDArray | None
    correlation_image: NDArray | None
    masks: NDArray
    um_per_px: float | tuple[float, float]

    def __post_init__(self) -> None:
        shape = np.shape(self.masks)[1:]
        if len(shape) != 2:
            raise ValueError(f"masks must be (units, H, W), got {np.shape(self.masks)}")
        for name in ("mean_image", "correlation_image"):
            image = getattr(self, name)
            if image is not None and np.shape(image) != shape:
                raise ValueError(f"{name} is {np.shape(image)}, masks are {shape}")
        if not (self.pixel_um > 0).all():
            raise ValueError(f"um_per_px must be positive, got {self.um_per_px}")

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width (px)."""
        _, height, width = np.shape(self.masks)
        return int(height), int(width)

    @property
    def pixel_um(self) -> NDArray[np.float64]:
        """Pixel size (um) of y and of x."""
        return np.broadcast_to(np.asarray(self.um_per_px, np.float64), 2)


@dataclass(frozen=True)
class Outlines:
    """Pixels of every unit, without the empty rest of the field.

    Attributes
    ----------
    pixels : list of arrays of float, each (pixels, 2)
        (y, x) of every pixel of the unit (px).
    centroid : array, shape (units, 2)
        Mean (y, x) of the pixels (px); NaN for an empty mask.
    """

    pixels: list[NDArray[np.float64]]
    centroid: NDArray[np.float64]


def outlines(masks: NDArray) -> Outlines:
    """Return the pixels of every mask, one unit at a time to bound memory."""
    pixels = []
    for mask in masks:
        inside = mask if mask.dtype == bool else mask >= max(0.25 * mask.max(), 1e-12)
        pixels.append(np.argwhere(inside).astype(np.float64))
    centroid = np.array([p.mean(0) if len(p) else (np.nan, np.nan) for p in pixels])
    return Outlines(pixels, centroid.reshape(-1, 2))


@dataclass(frozen=True)
class MatchResult:
    """Units of two scans that are one cell.

    Attributes
    ----------
    pairs : array of int, shape (pairs, 2)
        Rows of the source and of the target masks; each row at most once. By source row.
    probability : array, shape (pairs,)
        Probability that the pair is one cell, given everything seen.
    distance_um : array, shape (pairs,)
        Distance of the centroids after registration.
    ambiguity : array, shape (pairs,)
        Probability of the best other partner of either unit over that of this one: 0 if there is
        no rival, 1 if it is a toss-up.
    overlap : array, shape (pairs,)
        Intersection over union of the masks after registration.
    transform : array, shape (2, 3)
        ``target_yx = transform[:, :2] @ source_yx + transform[:, 2]`` (px).
    y_on_target, x_on_target : arrays, shape (source units,)
        Where every source unit should be in the target's image (px), matched or not.
    registration_score : float
        Correlation of the two days' (locally normalized) images after registration.
    same_field : float
        Probability that both scans show one place at all; it enters every pair's.
    finding : str
        Why there is no pair, in one line; empty if there are pairs.
    """

    pairs: NDArray[np.intp]
    probability: NDArray[np.float64]
    distance_um: NDArray[np.float64]
    ambiguity: NDArray[np.float64]
    overlap: NDArray[np.float64]
    transform: NDArray[np.float64]
    y_on_target: NDArray[np.float64]
    x_on_target: NDArray[np.float64]
    registration_score: float
    same_field: float
    finding: str = ""

    def at(self, threshold: float) -> NDArray[np.intp]:
        """Return the pairs of at least this probability."""
        return self.pairs[self.probability >= threshold]
