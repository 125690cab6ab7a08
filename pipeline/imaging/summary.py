"""Images and numbers that say at a glance what a movie is like."""

from __future__ import annotations

from dataclasses import dataclass
from math import comb

import numba
import numpy as np
from numpy.typing import NDArray

from pipeline.imaging.movie import Movie

MAX_PIXELS = 6_000_000  # at a time: memory of 24 MB is used again; no result depends on it


@dataclass
class Summary:
    """One pass over a movie.

    Attributes
    ----------
    mean, correlation, maximum : array float32, shape (H, W)
        Mean; correlation of each pixel with its eight neighbors over the recording (of means of
        `bin_frames` frames); maximum of those means.
    intensity, contrast : array float32, shape (frames,)
        Mean, and 99th minus 1st percentile, of each frame.
    l6 : array float32, shape (H, W)
        Sixth root of the mean sixth power of those means' departure from the pixel's mean: pixels
        that are bright for a short time stand out.
    """

    mean: NDArray[np.float32]
    correlation: NDArray[np.float32]
    maximum: NDArray[np.float32]
    intensity: NDArray[np.float32]
    contrast: NDArray[np.float32]
    l6: NDArray[np.float32]


def neighbor_correlation(frames: NDArray) -> NDArray[np.float32]:
    """Return each pixel's mean correlation with its eight neighbors.

    Parameters
    ----------
    frames : array, shape (frames, H, W)

    Returns
    -------
    array float32, shape (H, W)
        0 where a pixel never varies.
    """
    accumulator = NeighborCorrelation(frames.shape[1:])
    accumulator.add(np.asarray(frames, np.float32))
    return accumulator.image()


class NeighborCorrelation:
    """Sums for the correlation of each pixel with four neighbors; the other four mirror them."""

    steps = ((0, 1), (1, 0), (1, 1), (1, -1))

    def __init__(self, shape: tuple[int, int]) -> None:
        self.shape, self.count = shape, 0
        self.origin: NDArray | None = None
        self.sum, self.square = np.zeros(shape), np.zeros(shape)
        self.products = np.zeros((len(self.steps), *shape))

    def _pair(self, step: tuple[int, int]) -> tuple[tuple, tuple]:
        height, width = self.shape
        dy, dx = step
        here = np.s_[: height - dy, max(0, -dx) : width - max(0, dx)]
        there = np.s_[dy:, max(0, dx) : width - max(0, -dx)]
        return here, there

    def add(self, frames: NDArray[np.float32]) -> None:
        """Take frames, shape (frames, H, W), into the sums."""
        if self.origin is None:  # near the mean, so that sums of squares lose no digits
            self.origin = frames.mean(axis=0)
        self.count += len(frames)
        for start in range(0, len(frames), 64):  # as many as single precision may add up
            part = frames[start : start + 64]
            _add_products(part, self.origin, self.sum, self.square, self.products)

    def image(self) -> NDArray[np.float32]:
        """Return the mean correlation with the neighbors, 0 where a pixel never varies."""
        mean = self.sum / self.count
        variance = np.maximum(self.square / self.count - mean**2, 0)
        total, pairs = np.zeros(self.shape), np.zeros(self.shape)
        for step, product in zip(self.steps, self.products, strict=True):
            here, there = self._pair(step)
            scale = np.sqrt(variance[here] * variance[there])
            covariance = product[here] / self.count - mean[here] * mean[there]
            value = np.divide(covariance, scale, out=np.zeros_like(scale), where=scale > 1e-12)
            for place in (here, there):
                total[place] += value
                pairs[place] += 1
        return (total / np.maximum(pairs, 1)).astype(np.float32)


class SixthMoment:
    """Sums of powers, from which the sixth central moment of every pixel follows."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self.count = 0
        self.origin: NDArray | None = None
        self.sums = np.zeros((6, *shape))

    def add(self, frames: NDArray[np.float32]) -> None:
        """Take frames, shape (frames, H, W), into the sums."""
        if self.origin is None:  # near the mean, so that the sums lose no digits
            self.origin = frames.mean(axis=0)
        self.count += len(frames)
        _add_powers(frames, self.origin, self.sums)

    def norm(self) -> NDArray[np.float32]:
        """Return (mean (x - mean(x))^6)^(1/6), shape (H, W)."""
        moments = self.sums / self.count
        mean = moments[0]
        raw = [np.ones_like(mean), *moments]
        central = sum(comb(6, k) * raw[k] * (-mean) ** (6 - k) for k in range(7))
        return (np.maximum(central, 0) ** (1 / 6)).astype(np.float32)


@numba.njit(cache=True, nogil=True, fastmath={"contract"})
def _add_products(frames, origin, total, square, products):
    """Row by row, so that the sums of a row stay in the processor's cache over all frames."""
    count, height, width = frames.shape
    here, below = np.empty(width, np.float32), np.empty(width, np.float32)
    sums = np.empty((6, width), np.float32)
    for row in range(height):
        following = min(row + 1, height - 1)
        sums[:] = 0
        for t in range(count):
            for c in range(width):
                here[c] = frames[t, row, c] - origin[row, c]
                below[c] = frames[t, following, c] - origin[following, c]
            for c in range(width):
                sums[0, c] += here[c]
                sums[1, c] += here[c] * here[c]
                sums[3, c] += here[c] * below[c]
            for c in range(width - 1):
                sums[2, c] += here[c] * here[c + 1]
                sums[4, c] += here[c] * below[c + 1]
                sums[5, c + 1] += here[c + 1] * below[c]
        for c in range(width):
            total[row, c] += sums[0, c]
            square[row, c] += sums[1, c]
            for k in range(4):
                if k == 0 or following > row:
                    products[k, row, c] += sums[2 + k, c]


@numba.njit(cache=True, nogil=True, fastmath={"contract"})
def _add_powers(frames, origin, sums):
    count, height, width = frames.shape
    step, power = np.empty(width), np.empty(width)
    for row in range(height):
        for t in range(count):
            for c in range(width):
                step[c] = frames[t, row, c] - origin[row, c]
                power[c] = step[c]
            for k in range(6):
                for c in range(width):
                    sums[k, row, c] += power[c]
                    power[c] *= step[c]


@numba.njit(cache=True, nogil=True)
def _spread(values, low, high):
    """Return the `high` less the `low` quantile of an array: those at their ranks, interpolated.

    A histogram finds where the ranks lie; only the values in those bins are sorted.
    """
    least, most = values[0], values[0]
    for value in values:
        least, most = min(least, value), max(most, value)
    if not most > least:
        return 0.0
    bins = 4096
    scale = np.float32((bins - 1) / (np.float64(most) - least))
    counts = np.zeros(bins + 1, np.int64)
    for value in values:
        counts[int((value - least) * scale)] += 1
    found = np.empty(2)
    for number, share in enumerate((low, high)):
        place = share * (len(values) - 1)
        rank = int(place)
        first, passed = 0, 0
        while passed + counts[first] <= rank:
            passed += counts[first]
            first += 1
        last, reached = first, passed + counts[first]
        while reached <= min(rank + 1, len(values) - 1):
            last += 1
            reached += counts[last]
        near = np.empty(reached - passed, values.dtype)
        filled = 0
        for value in values:
            if first <= int((value - least) * scale) <= last:
                near[filled] = value
                filled += 1
        near.sort()
        lower = near[rank - passed]
        upper = near[min(rank + 1, len(values) - 1) - passed]
        found[number] = lower + (upper - lower) * (place - rank)
    return found[1] - found[0]


def summarize(movie: Movie, *, bin_frames: int = 1) -> Summary:
    """Stream over a movie once.

    Parameters
    ----------
    movie : Movie
    bin_frames : int
        Frames averaged before correlation, maximum and L6 norm are taken.

    Returns
    -------
    Summary
    """
    n_frames, height, width = movie.shape
    total = np.zeros((height, width))
    maximum = np.full((height, width), -np.inf, np.float32)
    intensity, contrast = np.empty((2, n_frames), np.float32)
    correlation = NeighborCorrelation((height, width))
    sixth = SixthMoment((height, width))
    most = max(1, min(256, MAX_PIXELS // (height * width)))
    size = bin_frames * max(1, most // bin_frames)
    for start, frames in movie.batches(size):
        total += frames.sum(axis=0, dtype=np.float64)
        flat = frames.reshape(len(frames), -1)
        intensity[start : start + len(frames)] = flat.mean(axis=1)
        contrast[start : start + len(frames)] = [_spread(frame, 0.01, 0.99) for frame in flat]
        whole = max(1, len(frames) // bin_frames)
        binned = frames[: whole * bin_frames].reshape(whole, -1, height, width).mean(axis=1)
        np.maximum(maximum, binned.max(axis=0), out=maximum)
        correlation.add(binned)
        sixth.add(binned)
    mean = (total / n_frames).astype(np.float32)
    return Summary(mean, correlation.image(), maximum, intensity, contrast, sixth.norm())


@dataclass(frozen=True)
class PhotonGain:
    """Gray levels per photon.

    Attributes
    ----------
    gain : float
        Slope of noise variance over mean (gray levels per photon); NaN if it cannot be found.
    zero_level : float
        Gray level without light, where the line meets zero variance.
    """

    gain: float
    zero_level: float


def photon_gain(movie: Movie, *, max_frames: int = 2000, bins: int = 32) -> PhotonGain:
    """Find the photon gain from neighboring frames in the middle of the recording.

    The variance of a photon count is its mean, so that the noise variance of pixels (half the mean
    squared difference of successive frames, median over pixels of like mean) grows linearly with
    their mean; a Theil-Sen line through the bins gives the gain.

    Parameters
    ----------
    movie : Movie
        As recorded: interpolation lowers the noise.
    max_frames : int
        Frames read, from the middle.
    bins : int
        Groups of pixels by mean.
    """
    n_frames = movie.shape[0]
    count = min(n_frames, max_frames)
    if count < 3:
        return PhotonGain(float("nan"), float("nan"))
    first = (n_frames - count) // 2
    total, square = np.zeros(movie.shape[1:]), np.zeros(movie.shape[1:])
    for start in range(first, first + count - 1, 128):
        frames = np.asarray(movie[start : min(start + 129, first + count)], np.float32)
        total += frames[:-1].sum(axis=0)
        square += (np.diff(frames, axis=0) ** 2).sum(axis=0) / 2
    mean, variance = (total / (count - 1)).ravel(), (square / (count - 1)).ravel()
    groups = np.array_split(np.argsort(mean), min(bins, mean.size))
    x = np.array([mean[group].mean() for group in groups])
    y = np.array([np.median(variance[group]) for group in groups])
    i, j = np.triu_indices(len(x), 1)
    apart = np.abs(x[j] - x[i]) > 1e-9 * max(1.0, np.abs(x).max())
    if not apart.any():
        return PhotonGain(float("nan"), float("nan"))
    gain = float(np.median((y[j] - y[i])[apart] / (x[j] - x[i])[apart]))
    zero = float(np.median(x - y / gain)) if gain > 0 else float("nan")
    return PhotonGain(gain, zero)
