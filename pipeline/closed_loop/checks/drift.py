"""Slow drift of a field within a session, from the shifts that motion correction found."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import theilslopes


@dataclass(frozen=True)
class Drift:
    """Rate of the drift, and how far the field was at most from its median place."""

    y_um_h: float
    x_um_h: float
    range_um: float
    n_chunks: int


def slow_drift(y_um: ArrayLike, x_um: ArrayLike, fps: float, *, chunk_s: float = 30.0) -> Drift:
    """Fit a line through the medians of short chunks, robustly against outliers (Theil and Sen).

    Parameters
    ----------
    y_um, x_um : arrays, shape (frames,)
        Displacement of the content.
    fps : float
        Frames per second.
    chunk_s : float
        Length over which the median is taken: breathing and running average out.

    Returns
    -------
    Drift
        Rates are NaN if there are fewer than three chunks, the range if there is only one.
    """
    frames = np.asarray(y_um, float), np.asarray(x_um, float)
    size = max(1, round(chunk_s * fps))
    n = max(1, len(frames[0]) // size)
    place = np.array([[np.median(part) for part in np.array_split(v, n)] for v in frames])
    hours = (np.arange(n) + 0.5) * len(frames[0]) / n / fps / 3600
    rate = [float(theilslopes(v, hours)[0]) if n > 2 else np.nan for v in place]
    away = np.hypot(*(place - np.median(place, axis=1, keepdims=True)))
    return Drift(rate[0], rate[1], float(away.max()) if n > 1 else np.nan, n)
