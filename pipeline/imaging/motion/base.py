"""What every motion method returns, and what they share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, median_filter

from pipeline.imaging.movie import MotionCorrected, Movie
from pipeline.registry import Registry

motion_methods = Registry("motion method")


@dataclass
class MotionResult:
    """How the field moved.

    Attributes
    ----------
    y_shifts, x_shifts : array float32, shape (frames,)
        Displacement of the content of each frame, down and right positive (px); zero if the
        correction was not accepted.
    template : array float32, shape (H, W)
        What frames were compared with.
    correlation_before, correlation_after : float
        Mean correlation of a frame with the template, uncorrected and corrected.
    rms_px : float
        Root mean square of the displacement (px).
    outliers : array of bool, shape (frames,)
        Frames whose shift was not believed and taken from their neighbours.
    accepted : bool
        False if correcting made frames less like the template; all shifts are zero then.
    block_y_shifts, block_x_shifts : array float32, shape (frames, blocks down, across), or None
        Further displacement of blocks (piecewise methods).
    block_centers : tuple of arrays or None
        Rows and columns of the block centres (px).
    """

    y_shifts: NDArray[np.float32]
    x_shifts: NDArray[np.float32]
    template: NDArray[np.float32]
    correlation_before: float
    correlation_after: float
    rms_px: float
    outliers: NDArray[np.bool_]
    accepted: bool
    block_y_shifts: NDArray[np.float32] | None = None
    block_x_shifts: NDArray[np.float32] | None = None
    block_centers: tuple[NDArray, NDArray] | None = None


def corrected_movie(movie: Movie, motion: MotionResult) -> MotionCorrected:
    """Return the movie with its motion undone while streaming."""
    return MotionCorrected(
        movie,
        motion.y_shifts,
        motion.x_shifts,
        block_y_shifts=motion.block_y_shifts,
        block_x_shifts=motion.block_x_shifts,
        block_centers=motion.block_centers,
    )


def replace_outliers(
    y: NDArray, x: NDArray, *, max_shift: float, max_step: float, window: int
) -> tuple[NDArray, NDArray, NDArray[np.bool_]]:
    """Replace shifts that are too large or leap away from the frames around them.

    Parameters
    ----------
    y, x : array, shape (frames,)
        Shifts (px).
    max_shift : float
        Largest distance from the median shift (px).
    max_step : float
        Largest distance from the running median (px).
    window : int
        Frames of the running median.

    Returns
    -------
    y, x : array, shape (frames,)
        Outliers interpolated from the frames around them.
    outliers : array of bool, shape (frames,)
    """
    window = min(window | 1, max(1, (len(y) - 1) | 1))
    far = np.hypot(y - np.median(y), x - np.median(x)) > max_shift
    local = np.stack([median_filter(values, window, mode="nearest") for values in (y, x)])
    leap = np.hypot(y - local[0], x - local[1]) > max_step
    outliers = far | leap
    if outliers.all():
        return np.zeros_like(y), np.zeros_like(x), outliers
    if outliers.any():
        good, frames = np.flatnonzero(~outliers), np.arange(len(y))
        y, x = np.interp(frames, good, y[good]), np.interp(frames, good, x[good])
    return y, x, outliers


def self_correlation(
    movie: Movie, frames: NDArray[np.int64], *, margin: int
) -> tuple[float, NDArray[np.float32]]:
    """Return the mean correlation of single frames with the mean of others, and that mean image.

    Every second of the chosen frames makes the image, the rest are compared with it (Pearson,
    after smoothing by one pixel, `margin` pixels from the edge).
    """
    height, width = movie.shape[1:]
    margin = int(min(margin, height // 4, width // 4))
    inside = np.s_[margin : height - margin, margin : width - margin]
    stack = np.concatenate([np.asarray(movie[int(i) : int(i) + 1], np.float32) for i in frames])
    mean = stack.mean(axis=0)
    if len(stack) < 2:
        return 0.0, mean
    smooth = np.stack([gaussian_filter(frame, 1.0)[inside].ravel() for frame in stack])
    smooth -= smooth.mean(axis=1, keepdims=True)
    spread = np.maximum(np.linalg.norm(smooth, axis=1), 1e-12)
    values = []
    for made, compared in ((0, 1), (1, 0)):
        image = smooth[made::2].mean(axis=0)
        norm = max(np.linalg.norm(image), 1e-12)
        values.append(smooth[compared::2] @ image / spread[compared::2] / norm)
    return float(np.mean(np.concatenate(values))), mean
