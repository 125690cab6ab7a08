"""Arrays as a browser takes them: gray PNG, and the outlines of all masks of a field at once."""

from __future__ import annotations

import base64
import hashlib
import itertools
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.plotting.imaging import outlines
from pipeline.plotting.style import robust_range


def gray_png(image: NDArray[np.uint8]) -> bytes:
    """Return an 8-bit image as PNG, without loss.

    Parameters
    ----------
    image : array of uint8, shape (H, W)
    """
    done, data = cv2.imencode(".png", np.ascontiguousarray(image))
    if not done:
        raise ValueError(f"PNG encoder refused an image of shape {image.shape}")
    return data.tobytes()


def scaled_png(image: NDArray[np.floating]) -> bytes:
    """Return an image of any unit as PNG, its brightest and darkest pixels cut off.

    Parameters
    ----------
    image : array, shape (H, W)
    """
    low, high = robust_range(np.asarray(image))
    gray = np.clip((np.nan_to_num(image, nan=low) - low) / (high - low), 0, 1)
    return gray_png(np.round(255 * gray).astype(np.uint8))


def packed_outlines(
    start: NDArray[np.integer], pixel: NDArray[np.integer], width: int
) -> dict[str, Any]:
    """Return the outlines of all masks of a field, few bytes a point.

    Parameters
    ----------
    start : array of int, shape (units + 1,)
        Where the pixels of each unit begin.
    pixel : array of int, shape (pixels,)
        Row * width + column.
    width : int
        Of the field (px).

    Returns
    -------
    dict
        `points`, base64 of uint16 little-endian, (x, y) pairs in half pixels from the field's upper
        left corner; `lines`, number of points of every outline; `unit`, row of the mask that every
        outline is of.
    """
    points, lengths, owners = [], [], []
    for unit, (first, last) in enumerate(itertools.pairwise(start)):
        if first == last:
            continue
        y, x = np.divmod(np.asarray(pixel[first:last]), width)
        top, left = y.min() - 1, x.min() - 1
        mask = np.zeros((y.max() - top + 2, x.max() - left + 2), bool)
        mask[y - top, x - left] = True
        corner = np.array([left, top])
        for line in outlines(mask):
            points.append(np.round(2 * (line + corner) + 1))  # a pixel's center is at 0.5
            lengths.append(len(line))
            owners.append(unit)
    flat = np.concatenate(points) if points else np.zeros((0, 2))
    content = flat.clip(0, 65_535).astype("<u2").tobytes()
    return {"points": base64.b64encode(content).decode(), "lines": lengths, "unit": owners}


def tag(*parts: Any) -> str:
    """Return an ETag for what an answer is made of."""
    return '"' + hashlib.sha256(repr(parts).encode()).hexdigest()[:20] + '"'
