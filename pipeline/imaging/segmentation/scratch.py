"""Time bins of a recording that memory does not hold, in a file that nobody else sees.

Bins are kept as whole numbers, in 1/64 of each pixel's noise: two bytes a pixel and bin. A value of
more than 512 times the noise is cut there.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import deque
from collections.abc import Iterator
from itertools import chain, pairwise
from typing import Self

import numba
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.imaging.movie import Movie
from pipeline.imaging.segmentation.base import (
    Binned,
    Residual,
    bin_frames,
    edge_margin,
    highpass_bins,
    normalized,
    stream_bins,
    surroundings,
)

LEVELS = 64  # whole numbers to one standard deviation of the noise
CHUNK = 128  # most bins that lie together in the file
FIRST = 40  # bins from which the noise of pixels is estimated


class ScratchBins:
    """A movie in time bins on disk, freed of slow changes; closed, it is gone.

    Parameters
    ----------
    movie : Movie
    bin_s, highpass_s : float
        See `binned_movie`.
    memory_mb : float
        Most memory to be taken at a time (MB).

    Attributes
    ----------
    shape : tuple
        Height, width, and number of bins.
    mean_image, margin, bin_s
        As in `Binned`.

    Raises
    ------
    DataError
        If the disk or the memory is too small.
    """

    def __init__(self, movie: Movie, *, bin_s: float, highpass_s: float, memory_mb: float) -> None:
        n_frames, height, width = movie.shape
        size = bin_frames(movie, bin_s)
        self.shape = (height, width, n_frames // size)
        self.bin_s, self.margin = size / movie.fps, edge_margin(movie)
        self.memory_mb = memory_mb
        self._chunk = int(np.clip(memory_mb * 1e6 / 8 / (2 * height * width), 1, CHUNK))
        self._file = _scratch_file(2 * height * width * self.shape[2])
        try:
            total = np.zeros((height, width))
            images = chain.from_iterable(m for _, m in stream_bins(movie, size, total))
            self._write(images, highpass_bins(self.shape[2], highpass_s, self.bin_s))
            self.mean_image = (total / n_frames).astype(np.float32)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the disk space back."""
        self._file.close()

    def _write(self, images: Iterator[NDArray[np.float32]], window: int) -> None:
        """Write the bins less the mean of `window` bins around them, image after image."""
        height, width, bins = self.shape
        if (need := 2 * (window + 1) * height * width / 1e6) > self.memory_mb:
            raise DataError(
                "is too little for the window of the slow course",
                field="memory_mb",
                found=f"{self.memory_mb:g} MB",
                expected=f"{need:.0f} MB for {window} bins of {height} x {width} px",
                remedy="raise memory_mb, or lower highpass_s",
            )
        first = [image for _, image in zip(range(FIRST), images, strict=False)]
        self._scale = _noise_unit(first)
        self._sum = np.zeros((height, width))
        origin, inverse = first[0], (1 / self._scale).astype(np.float32)
        images = chain(_emptied(first), images)
        ring = np.empty((window + 1, height, width), np.int16)
        total = np.zeros((height, width), np.int32)
        half, known, slots = window // 2, 0, window + 1
        high = np.empty((height, width), np.float32)
        block = np.empty((self._chunk, height, width), np.int16)

        def at(number: int) -> NDArray[np.int16]:
            """Return a bin; beyond the ends they are mirrored."""
            nonlocal known
            number = -1 - number if number < 0 else number
            number = 2 * bins - 1 - number if number >= bins else number
            while known <= number:
                _enter(next(images), origin, inverse, ring[known % slots])
                known += 1
            return ring[number % slots]

        for number in range(-half, half + 1):
            _slide(total, at(number), 1)
        for number in range(bins):
            _leave(at(number), total, window, self._scale, high)
            _to_units(high, inverse, block[number % self._chunk])
            self._sum += high
            if (number + 1) % self._chunk == 0 or number + 1 == bins:
                filled = block[: number % self._chunk + 1]
                self._put(number + 1 - len(filled), filled)
            if number + 1 < bins:
                entering = at(number + 1 + half)  # before the one that leaves is overwritten
                _slide(total, entering, 1)
                _slide(total, at(number - half), -1)
        for _ in images:  # frames after the last whole bin count in the mean image
            pass

    def _put(self, first: int, block: NDArray[np.int16]) -> None:
        height, width, _ = self.shape
        view, done = np.ascontiguousarray(block).data.cast("B"), 0
        try:
            while done < len(view):  # a disk that fills takes a part before it refuses
                place = 2 * first * height * width + done
                done += os.pwrite(self._file.fileno(), view[done:], place)
        except OSError as error:
            raise DataError(
                "scratch file cannot be written",
                file=tempfile.gettempdir(),
                found=error.strerror,
                remedy="set TMPDIR to a folder with more space",
            ) from error

    def _blocks(self) -> Iterator[tuple[int, int]]:
        for start in range(0, self.shape[2], self._chunk):
            yield start, min(start + self._chunk, self.shape[2])

    def _get(self, place: int, out: NDArray[np.int16]) -> None:
        """Read numbers from a place in the file, counted in numbers."""
        view, done = out.data.cast("B"), 0
        while done < len(view):
            read = os.preadv(self._file.fileno(), [view[done:]], 2 * place + done)
            if not read:
                raise OSError(f"scratch file in {tempfile.gettempdir()} was cut off")
            done += read

    def excerpt(self, side: int, bins: int) -> Binned:
        """Return a copy of the middle: at most `side` x `side` pixels and `bins` bins."""
        height, width, count = self.shape
        parts = []
        for size, most in ((height, side), (width, side), (count, bins)):
            first = max(0, (size - most) // 2)
            parts.append(slice(first, first + min(size, most)))
        rows, columns, times = parts
        lines = np.empty((rows.stop - rows.start, width), np.int16)
        shape = tuple(part.stop - part.start for part in parts)
        values = np.empty(shape, np.float32)
        scale = self._scale[rows, columns] / LEVELS
        mean = (self._sum / count)[rows, columns]
        for number in range(times.start, times.stop):
            self._get((number * height + rows.start) * width, lines)
            values[:, :, number - times.start] = lines[:, columns] * scale - mean
        margin = self.margin if height <= side and width <= side else 0
        return Binned(values, self.mean_image[rows, columns], margin, self.bin_s)

    def subtract_surroundings(self, diameter: float) -> None:
        """Take from every pixel what it shares with its surroundings, as `residual_of` does.

        Afterwards time runs fastest within the chunks of the file, and `residual` can be read.
        """
        height, width, bins = self.shape
        mean = (self._sum / bins).astype(np.float32)
        block = np.empty((self._chunk, height, width), np.int16)
        image, around = np.empty((2, height, width), np.float32)
        product, power = np.zeros((2, height, width))
        inverse = (1 / self._scale).astype(np.float32)
        for start, stop in self._blocks():
            part = block[: stop - start]
            self._get(start * height * width, part)
            for units in part:
                _to_gray(units, self._scale, mean, image)
                around = surroundings(image, diameter)
                _regress(image, around, product, power)
        coefficient = np.clip(product / np.maximum(power, 1e-12), 0, 3).astype(np.float32)
        turned = np.empty(block.size, np.int16)
        for start, stop in self._blocks():
            part = block[: stop - start]
            self._get(start * height * width, part)
            for units in part:
                _to_gray(units, self._scale, mean, image)
                around = surroundings(image, diameter)
                around *= coefficient
                image -= around
                _to_units(image, inverse, units)
            fastest = turned[: part.size].reshape(height, width, len(part))
            _turn(part, fastest)
            self._put(start, fastest)

    def residual(self, rows: slice, columns: slice, memory: NDArray[np.float32]) -> Residual:
        """Return a patch in units of noise, (rows, columns, bins), in the memory given.

        Pixels in the field's margin are 0.
        """
        height, width, bins = self.shape
        shape = (rows.stop - rows.start, columns.stop - columns.start)
        values = memory[: shape[0] * shape[1] * bins].reshape(*shape, bins)
        scale = self._scale[rows, columns] / np.float32(LEVELS)
        for start, stop in self._blocks():
            count = stop - start
            line = np.empty((shape[1], count), np.int16)
            for y in range(shape[0]):
                place = start * height * width
                place += ((rows.start + y) * width + columns.start) * count
                self._get(place, line)
                np.multiply(line, scale[y][:, None], out=values[y, :, start:stop])
        inside = np.zeros((height, width), bool)
        margin = self.margin
        inside[margin : height - margin, margin : width - margin] = True
        return normalized(values, inside[rows, columns])


def _scratch_file(size: int):
    """Return an unnamed file, for which the disk has space now (bytes)."""
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    if free < size:
        raise DataError(
            "disk has too little space for time bins",
            file=folder,
            found=f"{free / 1e9:.1f} GB free",
            expected=f"{size / 1e9:.1f} GB",
            remedy="set TMPDIR to a folder with more space, or raise memory_mb",
        )
    return tempfile.TemporaryFile(prefix="inception-bins-", dir=folder, buffering=0)


def _noise_unit(images: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Return a noise of every pixel to count in (gray levels), never far below the median's."""
    steps = [np.abs(later - image) for image, later in pairwise(images)]
    noise = np.mean(steps, axis=0) / 2**0.5 / 0.8 if steps else np.zeros_like(images[0])
    usual = float(np.median(noise[noise > 0])) if (noise > 0).any() else 1.0
    return np.maximum(noise, 0.1 * usual).astype(np.float32)


def _emptied(images: list[NDArray]) -> Iterator[NDArray]:
    queue = deque(images)
    while queue:
        yield queue.popleft()


@numba.njit(cache=True, nogil=True)
def _enter(image, origin, inverse, units):
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            value = np.rint((image[y, x] - origin[y, x]) * inverse[y, x] * np.float32(LEVELS))
            units[y, x] = np.int16(min(max(value, np.float32(-32767)), np.float32(32767)))


@numba.njit(cache=True, nogil=True)
def _to_units(image, inverse, units):
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            value = np.rint(image[y, x] * inverse[y, x] * np.float32(LEVELS))
            units[y, x] = np.int16(min(max(value, np.float32(-32767)), np.float32(32767)))


@numba.njit(cache=True, nogil=True)
def _to_gray(units, scale, mean, image):
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            value = np.float32(units[y, x]) * np.float32(1 / LEVELS)
            image[y, x] = value * scale[y, x] - mean[y, x]


@numba.njit(cache=True, nogil=True)
def _slide(total, units, sign):
    for y in range(total.shape[0]):
        for x in range(total.shape[1]):
            total[y, x] += np.int32(sign) * np.int32(units[y, x])


@numba.njit(cache=True, nogil=True)
def _leave(units, total, window, scale, high):
    share = np.float32(1 / window)
    for y in range(high.shape[0]):
        for x in range(high.shape[1]):
            value = np.float32(units[y, x]) - np.float32(total[y, x]) * share
            high[y, x] = value * scale[y, x] * np.float32(1 / LEVELS)


@numba.njit(cache=True, nogil=True)
def _regress(image, around, product, power):
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            product[y, x] += image[y, x] * around[y, x]
            power[y, x] += around[y, x] * around[y, x]


@numba.njit(cache=True, nogil=True)
def _turn(images, fastest):
    """Write images (bins, H, W) as (H, W, bins)."""
    for y in range(images.shape[1]):
        for t in range(images.shape[0]):
            for x in range(images.shape[2]):
                fastest[y, x, t] = images[t, y, x]
