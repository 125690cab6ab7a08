"""What every motion method returns, and what they share."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, median_filter

from pipeline.imaging.motion.depth import plane_similarity, stretches
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
        Root mean square of the displacement (px); NaN where the motion was not measured.
    outliers : array of bool, shape (frames,)
        Frames whose shift was not believed and taken from their neighbors.
    accepted : bool
        False if correcting made frames less like the template; all shifts are zero then.
    crispness_before, crispness_after : float
        Root mean square slope of the mean image, uncorrected and corrected, without the part of
        photon noise (gray levels per px); NaN where it was not measured.
    worse_fraction : float
        Share of the frames looked at that are less like the others after correction.
    plane_similarity : array float32, shape (stretches,)
        How much the mean image of each stretch of the recording looks like the first's: below 1
        after z drift (`pipeline.imaging.motion.depth`); empty where it was not measured.
    block_y_shifts, block_x_shifts : array float32, shape (frames, blocks down, across), or None
        Further displacement of blocks (piecewise methods).
    block_centers : tuple of arrays or None
        Rows and columns of the block centers (px).
    fixed : array of bool, shape (H, W), or None
        Pixels that are fixed to the scanner and were not looked at; None if none are.
    """

    y_shifts: NDArray[np.float32]
    x_shifts: NDArray[np.float32]
    template: NDArray[np.float32]
    correlation_before: float
    correlation_after: float
    rms_px: float
    outliers: NDArray[np.bool_]
    accepted: bool
    crispness_before: float = float("nan")
    crispness_after: float = float("nan")
    worse_fraction: float = 0.0
    plane_similarity: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    block_y_shifts: NDArray[np.float32] | None = None
    block_x_shifts: NDArray[np.float32] | None = None
    block_centers: tuple[NDArray, NDArray] | None = None
    fixed: NDArray[np.bool_] | None = None

    @property
    def z_drift(self) -> float | None:
        """1 - the lowest plane similarity; None where it was not measured."""
        return 1 - float(self.plane_similarity.min()) if len(self.plane_similarity) else None


def corrected_movie(movie: Movie, motion: MotionResult) -> MotionCorrected:
    """Return the movie with its motion undone while streaming.

    Examples
    --------
    >>> from pipeline.imaging.movie import ArrayMovie
    >>> frames = np.zeros((2, 8, 8), np.float32)
    >>> frames[0, 3, 3] = frames[1, 4, 3] = 1  # the second is one px further down
    >>> down, none = np.array([0, 1], np.float32), np.zeros(2, np.float32)
    >>> motion = MotionResult(down, none, frames[0], 0.0, 1.0, 0.5, none > 0, True)
    >>> corrected_movie(ArrayMovie(frames, 30.0, None), motion)[1:2].argmax()
    np.int64(27)
    """
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


@dataclass(frozen=True)
class Likeness:
    """How alike the frames of a movie are: see `likeness`."""

    correlation: NDArray[np.float64]  # (frames looked at,) with the mean of others
    mean_image: NDArray[np.float32]  # (H, W)
    crispness: float  # rms slope of the mean image, without noise (gray levels per px)


def likeness(movie: Movie, frames: NDArray[np.int64], *, margin: int) -> Likeness:
    """Compare single frames with the mean of others.

    Every second of the chosen frames makes an image, the rest are compared with it (Pearson,
    after smoothing by one pixel, `margin` pixels from the edge), and the other way round. The
    slopes of the two images have independent noise, which their product leaves out.
    """
    height, width = movie.shape[1:]
    margin = int(min(margin, height // 4, width // 4))
    inside = np.s_[margin : height - margin, margin : width - margin]
    stack = np.concatenate([np.asarray(movie[int(i) : int(i) + 1], np.float32) for i in frames])
    mean = stack.mean(axis=0)
    values = np.zeros(len(stack))
    if len(stack) < 2:
        return Likeness(values, mean, float("nan"))
    halves = [np.gradient(stack[part::2].mean(axis=0)[inside]) for part in (0, 1)]
    power = sum(np.mean(a * b) for a, b in zip(*halves, strict=True))
    smooth = np.stack([gaussian_filter(frame, 1.0)[inside].ravel() for frame in stack])
    smooth -= smooth.mean(axis=1, keepdims=True)
    spread = np.maximum(np.linalg.norm(smooth, axis=1), 1e-12)
    for made, compared in ((0, 1), (1, 0)):
        image = smooth[made::2].mean(axis=0)
        norm = max(np.linalg.norm(image), 1e-12)
        values[compared::2] = smooth[compared::2] @ image / spread[compared::2] / norm
    return Likeness(values, mean, float(np.sqrt(max(power, 0.0))))


def judged(movie: Movie, y: NDArray, x: NDArray, outliers: NDArray, **blocks: Any) -> MotionResult:
    """Center the shifts on their median, and accept them if frames become more alike.

    "Alike" is the correlation of single frames with the mean of *other* frames, corrected or not,
    both lightly smoothed: interpolation alone, which averages noise, must not count as success.
    """
    y = (y - np.median(y)).astype(np.float32)
    x = (x - np.median(x)).astype(np.float32)
    height, width = movie.shape[1:]
    count = min(len(y), max(60, min(400, 15_000_000 // (height * width))))  # 60 MB of frames
    sample = np.unique(np.linspace(0, len(y) - 1, count).round().astype(int))
    margin = _margin(y, x)
    before = likeness(movie, sample, margin=margin)
    after = likeness(MotionCorrected(movie, y, x, **blocks), sample, margin=margin)
    mean_before, mean_after = before.correlation.mean(), after.correlation.mean()
    accepted = bool(mean_after > mean_before)
    worse = float(np.mean(after.correlation < before.correlation))
    if not accepted:
        y, x, blocks = np.zeros_like(y), np.zeros_like(x), {}
    return MotionResult(
        y,
        x,
        (after if accepted else before).mean_image,
        float(mean_before),
        float(mean_after),
        float(np.sqrt(np.mean(y**2.0 + x**2.0))),
        outliers,
        accepted,
        before.crispness,
        after.crispness,
        worse,
        **blocks,
    )


def with_depth(movie: Movie, result: MotionResult, fixed: NDArray[np.bool_]) -> MotionResult:
    """Return the result with `fixed`, and `plane_similarity` measured on the corrected movie."""
    parts = stretches(
        corrected_movie(movie, result), margin=_margin(result.y_shifts, result.x_shifts)
    )
    return replace(
        result,
        plane_similarity=plane_similarity(parts),
        fixed=fixed if fixed.any() else None,
    )


def _margin(y: NDArray, x: NDArray) -> int:
    return int(np.ceil(max(np.abs(y).max(), np.abs(x).max()))) + 1
