"""What every segmenter returns, and the binned movie that they work on."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import DTypeLike, NDArray

from pipeline.imaging.movie import Movie
from pipeline.imaging.segmentation.masks import PixelStack
from pipeline.imaging.segmentation.sums import add_footprint, correlate_neighbors
from pipeline.imaging.stray_light import without_flashes
from pipeline.registry import Registry

segmenters = Registry("segmenter")


@dataclass
class SegmentationResult:
    """Units of a field.

    Attributes
    ----------
    masks : array of bool or PixelStack, shape (units, H, W)
        Filled outlines; they may overlap.
    weights : array float32 or PixelStack, shape (units, H, W)
        How much each pixel counts in the unit's trace; zero outside of the mask, sum 1.
    score : array float32, shape (units,)
        Size of the unit's transients over the noise of its trace; units are ordered by it.
    soma_probability : array float32, shape (units,)
        From size, roundness and clarity of the outline.
    mean_image, correlation_image : array float32, shape (H, W)
        Mean of the movie; correlation of each pixel with its neighbors after background
        subtraction.
    """

    masks: NDArray[np.bool_] | PixelStack
    weights: NDArray[np.float32] | PixelStack
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

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width, and number of bins."""
        return self.values.shape

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
class Residual:
    """Background-subtracted bins of a field or of a patch of it, in units of each pixel's noise.

    Attributes
    ----------
    values : array float32, shape (H, W, bins)
        What no cell found so far explains.
    noise : array float32, shape (H, W)
        Standard deviation of a bin's noise in every pixel (gray levels).
    inside : array of bool, shape (H, W)
        Where cells are looked for.
    sums : array float64, shape (H, W)
        Sum of every pixel over the bins.
    """

    values: NDArray[np.float32]
    noise: NDArray[np.float32]
    inside: NDArray[np.bool_]
    sums: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        self.sums = self.values.sum(axis=2, dtype=np.float64)

    def add(
        self, place: tuple[int, int], footprint: NDArray[np.float32], trace: NDArray[np.float32]
    ) -> None:
        """Add a footprint, whose corner is at `place`, times a trace."""
        add_footprint(self.values, self.sums, place[0], place[1], footprint, trace)


def untouched_zeros(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray:
    """Return zeros that take memory only where something is written, in pages of 4 kB.

    numpy asks for pages of 2 MB, of which one pixel a mask fills all.
    """
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return (
        np.frombuffer(mmap.mmap(-1, size), dtype).reshape(shape) if size else np.zeros(shape, dtype)
    )


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


def bin_frames(movie: Movie, bin_s: float) -> int:
    """Return the number of frames in a bin of about `bin_s` (s); no bin is longer than asked."""
    return max(1, min(round(bin_s * movie.fps), movie.shape[0] // 2 or 1))


def stream_bins(
    movie: Movie, size: int, total: NDArray[np.float64]
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield `(first bin, means)`, the means of `size` frames, (bins, H, W), freed of flashes.

    Frames left over at the end make no bin. All frames are added to `total`, shape (H, W).
    """
    height, width = movie.shape[1:]
    for start, frames in movie.batches(size * max(1, 64 // size)):
        total += frames.sum(axis=0, dtype=np.float64)
        frames = without_flashes(frames)
        count = len(frames) // size
        if count:
            whole = frames[: count * size].reshape(count, size, height, width)
            yield start // size, whole.mean(axis=1)


def highpass_bins(bins: int, highpass_s: float, bin_s: float) -> int:
    """Return the odd number of bins over which the slow course is averaged."""
    return max(3, min(bins, round(highpass_s / bin_s))) | 1


def binned_movie(movie: Movie, *, bin_s: float, highpass_s: float) -> Binned:
    """Stream a movie once into time bins in memory; each pixel loses its slow course.

    Parameters
    ----------
    movie : Movie
    bin_s : float
        Length of a bin (s), rounded to whole frames.
    highpass_s : float
        Window of the slow course (s).
    """
    n_frames, height, width = movie.shape
    size = bin_frames(movie, bin_s)
    bins = n_frames // size
    values = np.empty((height, width, bins), np.float32)
    total = np.zeros((height, width))
    for first, means in stream_bins(movie, size, total):
        values[:, :, first : first + len(means)] = means.transpose(1, 2, 0)
    window = highpass_bins(bins, highpass_s, size / movie.fps)
    for line in values:  # row by row: no second copy of the whole
        line -= cv2.blur(line, (window, 1), borderType=cv2.BORDER_REFLECT)
        line -= line.mean(axis=1, keepdims=True)
    mean_image = (total / n_frames).astype(np.float32)
    return Binned(values, mean_image, edge_margin(movie), size / movie.fps)


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
    coefficient = _shared_course(values, diameter)
    for images in _time_blocks(values, write=True):
        for image in images:
            image -= coefficient * surroundings(image, diameter)
    inside = np.zeros(values.shape[:2], bool)
    inside[margin : values.shape[0] - margin, margin : values.shape[1] - margin] = True
    return normalized(values, inside)


def normalized(values: NDArray[np.float32], inside: NDArray[np.bool_]) -> Residual:
    """Divide pixels by their noise, in place; those not `inside` become 0.

    Noise is half the mean squared difference of successive bins.
    """
    noise = np.ones(values.shape[:2], np.float32)
    for row, line in enumerate(values):
        if values.shape[2] > 1:
            noise[row] = np.sqrt(np.mean(np.diff(line, axis=1) ** 2, axis=1) / 2)
        noise[row] = np.maximum(noise[row], 1e-6)
        line /= noise[row][:, None]
    if not inside.all():
        values[~inside] = 0
    return Residual(values, noise, inside)


def surroundings(image: NDArray[np.float32], diameter: float) -> NDArray[np.float32]:
    """Return the mean over a square frame around every pixel, 1.5 to 3 diameters wide."""
    inner, outer = int(1.5 * diameter) | 1, int(3 * diameter) | 1
    sums = [
        cv2.boxFilter(image, cv2.CV_32F, (s, s), normalize=False, borderType=cv2.BORDER_REFLECT)
        for s in (inner, outer)
    ]
    return np.asarray(sums[1] - sums[0], np.float32) / np.float32(outer**2 - inner**2)


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
            around = surroundings(image, diameter)
            product += image * around
            power += around * around
    return np.clip(product / np.maximum(power, 1e-12), 0, 3).astype(np.float32)


def edge_margin(movie: Movie) -> int:
    """Return how many pixels at the edges motion often left without data."""
    shifts = [np.abs(getattr(movie, name, np.zeros(1))) for name in ("y_shifts", "x_shifts")]
    limit = min(movie.shape[1:]) // 8
    return int(min(limit, np.ceil(max(np.percentile(values, 85) for values in shifts))))


def correlation_image(residual: Residual) -> NDArray[np.float32]:
    """Return the mean correlation of each pixel of a residual with its eight neighbors."""
    return correlate_neighbors(residual.values, residual.sums)
