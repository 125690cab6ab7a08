"""Images and numbers that say at a glance what a movie is like."""

from __future__ import annotations

from dataclasses import dataclass
from math import comb

import numpy as np
from numpy.typing import NDArray

from pipeline.imaging.movie import Movie

MAX_PIXELS = 16_000_000  # in memory at a time; no result depends on it


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
        self.products = [np.zeros(shape) for _ in self.steps]

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
        frames = frames - self.origin
        self.count += len(frames)
        self.sum += frames.sum(axis=0, dtype=np.float64)
        self.square += np.einsum("tij,tij->ij", frames, frames)
        for step, product in zip(self.steps, self.products, strict=True):
            here, there = self._pair(step)
            product[here] += np.einsum("tij,tij->ij", frames[:, *here], frames[:, *there])

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
        for frame in frames:
            step = (frame - self.origin).astype(np.float64)
            power = step.copy()
            for total in self.sums:
                total += power
                power *= step

    def norm(self) -> NDArray[np.float32]:
        """Return (mean (x - mean(x))^6)^(1/6), shape (H, W)."""
        moments = self.sums / self.count
        mean = moments[0]
        raw = [np.ones_like(mean), *moments]
        central = sum(comb(6, k) * raw[k] * (-mean) ** (6 - k) for k in range(7))
        return (np.maximum(central, 0) ** (1 / 6)).astype(np.float32)


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
        low, high = np.percentile(flat, (1, 99), axis=1)
        contrast[start : start + len(frames)] = high - low
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
