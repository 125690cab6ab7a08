"""How much a footprint looks like a soma."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_fill_holes, label


def main_component(mask: NDArray[np.bool_], place: tuple[int, int] | None = None) -> NDArray:
    """Return the connected part of a mask that holds `place`, or else the largest part."""
    parts, count = label(mask)
    if count <= 1:
        return mask
    chosen = parts[place] if place is not None else 0
    if not chosen:
        chosen = np.bincount(parts.ravel())[1:].argmax() + 1
    return parts == chosen


def filled(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return a mask with its holes filled: the nucleus belongs to the soma."""
    return binary_fill_holes(mask)


def shape_features(mask: NDArray[np.bool_], diameter: float) -> dict[str, float]:
    """Return size and form of a filled mask.

    Parameters
    ----------
    mask : array of bool, shape (H, W)
    diameter : float
        Expected soma diameter (px).

    Returns
    -------
    dict
        `relative_diameter` (of the disc of equal area, over the expected), `roundness` (area over
        that of the ellipse-free second-moment disc, 1 for a disc) and `solidity` (area over convex
        hull).
    """
    y, x = np.nonzero(mask)
    area = len(y)
    if area < 3:
        return {"relative_diameter": 0.0, "roundness": 0.0, "solidity": 0.0}
    spread = y.var() + x.var() + 1 / 6  # of pixels of finite size
    points = np.stack([x, y], axis=1).astype(np.int32)
    corners = np.concatenate([points + np.array(c) for c in ((0, 0), (0, 1), (1, 0), (1, 1))])
    hull = cv2.contourArea(cv2.convexHull(corners.astype(np.int32)))
    return {
        "relative_diameter": float(2 * np.sqrt(area / np.pi) / diameter),
        "roundness": float(area / (2 * np.pi * spread)),  # a disc of radius r has spread r**2 / 2
        "solidity": float(area / max(hull, 1e-9)),
    }


def soma_probability(features: dict[str, float], contrast: float) -> float:
    """Return the probability that a unit is a soma, from its shape and the clarity of its edge.

    A logistic function of hand-set slopes: half at 0.55 or 1.8 times the expected diameter, at
    roundness 0.6 and where the surroundings follow the unit's trace half as much as its inside.

    Parameters
    ----------
    features : dict
        From `shape_features`.
    contrast : float
        1 - (response of the surroundings / response inside) to the unit's trace.
    """
    size = np.log2(max(features["relative_diameter"], 1e-3))
    terms = (
        (size + 0.86) * 6,
        (0.85 - size) * 6,
        (features["roundness"] - 0.6) * 15,
        (features["solidity"] - 0.6) * 15,
        (contrast - 0.5) * 10,
    )
    return float(np.prod([1 / (1 + np.exp(-np.clip(term, -50, 50))) for term in terms]))
