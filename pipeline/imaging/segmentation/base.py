"""What every segmenter returns, and the binned movie that they work on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.imaging.movie import Movie
from pipeline.imaging.stray_light import without_flashes
from pipeline.imaging.summary import NeighborCorrelation
from pipeline.registry import Registry

segmenters = Registry("segmenter")


@dataclass
class SegmentationResult:
    """Units of a field.

    Attributes
    ----------
    masks : array of bool, shape (units, H, W)
        Filled outlines; they may overlap.
    weights : array float32, shape (units, H, W)
        How much each pixel counts in the unit's trace; zero outside of the mask, sum 1.
    score : array float32, shape (units,)
        Size of the unit's transients over the noise of its trace; units are ordered by it.
    soma_probability : array float32, shape (units,)
        From size, roundness and clarity of the outline.
    mean_image, correlation_image : array float32, shape (H, W)
        Mean of the movie; correlation of each pixel with its neighbors after background
        subtraction.
    """

    masks: NDArray[np.bool_]
    weights: NDArray[np.float32]
    score: NDArray[np.float32]
    soma_probability: NDArray[np.float32]
    mean_image: NDArray[np.float32]
    correlation_image: NDArray[np.float32]


@dataclass
class Binned:
    """A movie in time bins, freed of slow changes.

    Attributes
    ----------
    values : array float32, shape (H, W, bins)
        Time runs fastest, since it is read pixel by pixel (gray levels).
    mean_image : array float32, shape (H, W)
    margin : int
        Pixels at the edges that motion often left without data.
    bin_s : float
        Length of a bin (s).
    """

    values: NDArray[np.float32]
    mean_image: NDArray[np.float32]
    margin: int
    bin_s: float

    def excerpt(self, side: int, bins: int) -> Binned:
        """Return a copy of the middle: at most `side` x `side` pixels and `bins` bins."""
        height, width, count = self.values.shape
        parts = []
        for size, most in ((height, side), (width, side), (count, bins)):
            first = max(0, (size - most) // 2)
            parts.append(slice(first, first + min(size, most)))
        margin = self.margin if height <= side and width <= side else 0
        image = self.mean_image[parts[0], parts[1]]
        return Binned(self.values[tuple(parts)].copy(), image, margin, self.bin_s)


@dataclass
class Residual(Binned):
    """Background-subtracted movie in time bins, in units of each pixel's own noise.

    Attributes
    ----------
    noise : array float32, shape (H, W)
        Standard deviation of a bin's noise in every pixel (gray levels).
    """

    noise: NDArray[np.float32]


def diameter_px(movie: Movie, soma_diameter_um: float, default_um_per_px: float) -> float:
    """Return the expected soma diameter (px)."""
    scale = float(np.mean(movie.um_per_px)) if movie.um_per_px else default_um_per_px
    diameter = soma_diameter_um / scale
    if not 3 <= diameter <= min(movie.shape[1:]) / 2:
        raise ValueError(
            f"a soma of {soma_diameter_um} um is {diameter:.1f} px at {scale} um/px; "
            f"3 px to half the field are possible: check um_per_px and soma_diameter_um"
        )
    return diameter


def binned_movie(movie: Movie, *, bin_s: float, highpass_s: float, memory_mb: float) -> Binned:
    """Stream a movie once into time bins; each pixel loses its slow course.

    Parameters
    ----------
    movie : Movie
    bin_s : float
        Wanted length of a bin (s); longer if the result would not fit in `memory_mb`.
    highpass_s : float
        Window of the slow course (s).
    memory_mb : float
        Most memory that the result may take (MB).
    """
    n_frames, height, width = movie.shape
    size = max(1, round(bin_s * movie.fps))
    fitting = max(50, int(memory_mb * 1e6 / (4 * height * width)))
    size = max(1, min(max(size, -(-n_frames // fitting)), n_frames // 2 or 1))
    bins = n_frames // size
    values = np.empty((height, width, bins), np.float32)
    total = np.zeros((height, width))
    per_batch = max(1, 64 // size)
    for start, frames in movie.batches(size * per_batch):
        total += frames.sum(axis=0, dtype=np.float64)
        frames = without_flashes(frames)
        first, count = start // size, len(frames) // size
        if count == 0:
            continue
        means = frames[: count * size].reshape(count, size, height, width).mean(axis=1)
        values[:, :, first : first + count] = means.transpose(1, 2, 0)
    window = max(3, min(bins, round(highpass_s / (size / movie.fps)))) | 1
    for line in values:  # row by row: no second copy of the whole
        line -= cv2.blur(line, (window, 1), borderType=cv2.BORDER_REFLECT)
        line -= line.mean(axis=1, keepdims=True)
    mean_image = (total / n_frames).astype(np.float32)
    return Binned(values, mean_image, _margin(movie), size / movie.fps)


def residual_of(binned: Binned, diameter: float) -> Residual:
    """Subtract the surroundings and divide by the noise, in place.

    Each pixel loses what it shares with its surroundings (neuropil): the mean of a square frame 1.5
    to 3 somata wide around it, times the coefficient of their regression; the frame leaves out the
    cell that the pixel may belong to, so that the cell is not taken for background. Then it is
    divided by its noise: half the mean squared difference of successive bins.

    Parameters
    ----------
    binned : Binned
        Its values are changed and become the result's.
    diameter : float
        Soma diameter (px).
    """
    values, margin = binned.values, binned.margin
    height, width, bins = values.shape
    coefficient = _shared_course(values, diameter)
    for images in _time_blocks(values, write=True):
        for image in images:
            image -= coefficient * _surroundings(image, diameter)
    noise = np.ones((height, width), np.float32)
    for row, line in enumerate(values):
        if bins > 1:
            noise[row] = np.sqrt(np.mean(np.diff(line, axis=1) ** 2, axis=1) / 2)
        noise[row] = np.maximum(noise[row], 1e-6)
        line /= noise[row][:, None]
    if margin:
        outside = np.ones((height, width), bool)
        outside[margin : height - margin, margin : width - margin] = False
        values[outside] = 0
    return Residual(values, binned.mean_image, margin, binned.bin_s, noise)


def _surroundings(image: NDArray[np.float32], diameter: float) -> NDArray[np.float32]:
    """Return the mean over a square frame around every pixel, 1.5 to 3 diameters wide."""
    inner, outer = int(1.5 * diameter) | 1, int(3 * diameter) | 1
    sums = [
        cv2.boxFilter(image, cv2.CV_32F, (s, s), normalize=False, borderType=cv2.BORDER_REFLECT)
        for s in (inner, outer)
    ]
    return (sums[1] - sums[0]) / (outer**2 - inner**2)


def _time_blocks(
    values: NDArray[np.float32], *, write: bool, block: int = 64
) -> Iterator[NDArray[np.float32]]:
    """Yield images, (block, H, W), of an array whose time runs fastest; `write` back changes."""
    for start in range(0, values.shape[2], block):
        images = np.ascontiguousarray(values[:, :, start : start + block].transpose(2, 0, 1))
        yield images
        if write:
            values[:, :, start : start + block] = images.transpose(1, 2, 0)


def _shared_course(values: NDArray[np.float32], diameter: float) -> NDArray[np.float32]:
    """Return the coefficient of every pixel's regression on its surroundings, 0 to 3."""
    product = np.zeros(values.shape[:2])
    power = np.zeros(values.shape[:2])
    for images in _time_blocks(values, write=False):
        for image in images:
            around = _surroundings(image, diameter)
            product += image * around
            power += around * around
    return np.clip(product / np.maximum(power, 1e-12), 0, 3).astype(np.float32)


def _margin(movie: Movie) -> int:
    shifts = [np.abs(getattr(movie, name, np.zeros(1))) for name in ("y_shifts", "x_shifts")]
    limit = min(movie.shape[1:]) // 8
    return int(min(limit, np.ceil(max(np.percentile(values, 85) for values in shifts))))


def correlation_image(residual: Residual) -> NDArray[np.float32]:
    """Return the mean correlation of each pixel of a residual with its eight neighbors."""
    sums = NeighborCorrelation(residual.values.shape[:2])
    for images in _time_blocks(residual.values, write=False):
        sums.add(images)
    return sums.image()
