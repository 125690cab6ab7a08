"""Movies: arrays of frames that are read, corrected and streamed in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.imaging.warp import Columns, warp_between

_CHUNK = 16  # frames corrected at a time; no result depends on it


@runtime_checkable
class Movie(Protocol):
    """Frames of one field and channel.

    Attributes
    ----------
    shape : tuple (frames, H, W)
    fps : float
        Frames per second (Hz).
    um_per_px : tuple (y, x) or None
        Size of a pixel (um), None if unknown.
    """

    shape: tuple[int, int, int]
    fps: float
    um_per_px: tuple[float, float] | None

    def __getitem__(self, frames: slice) -> NDArray: ...

    def batches(self, size: int = 256) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield `(start, frames)`."""
        ...


class MovieBase:
    """What every movie shares: slicing rules and streaming.

    A subclass sets `shape`, `fps` and `um_per_px` and offers `_read(start, stop)`.
    """

    shape: tuple[int, int, int]
    fps: float
    um_per_px: tuple[float, float] | None
    bidirectional: bool = True

    def _read(self, start: int, stop: int) -> NDArray:
        raise NotImplementedError

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, frames: slice) -> NDArray:
        """Return frames `a:b` (a step is applied after reading), shape (frames, H, W)."""
        if not isinstance(frames, slice):
            raise TypeError(f"a movie is sliced by frames, movie[a:b]; got {frames!r}")
        start, stop, step = frames.indices(self.shape[0])
        if step < 1:
            raise ValueError(f"a movie is read forwards; got step {step}")
        return self._read(start, max(start, stop))[::step]

    def batches(self, size: int = 256) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield `(start, frames)` with at most `size` float32 frames, in order."""
        for start in range(0, self.shape[0], size):
            yield start, np.asarray(self[start : start + size], dtype=np.float32)


def few_frames(movie: Movie, most: int = 32) -> int:
    """Return how many frames to take at a time: float32 copies of 20 MB at most.

    The system takes back larger arrays when they are freed, and clears every page of the next.
    """
    return max(1, min(most, 5_000_000 // (movie.shape[1] * movie.shape[2])))


class ArrayMovie(MovieBase):
    """A movie held in memory or in a memory map.

    Parameters
    ----------
    array : array, shape (frames, H, W)
    fps : float
        Frames per second (Hz).
    um_per_px : tuple (y, x), optional
        Size of a pixel (um).
    """

    def __init__(
        self, array: NDArray, fps: float, um_per_px: tuple[float, float] | None = None
    ) -> None:
        if np.ndim(array) != 3:
            raise ValueError(f"a movie has axes (frames, H, W); got shape {np.shape(array)}")
        self.array, self.fps, self.um_per_px = array, float(fps), um_per_px
        self.shape = tuple(array.shape)

    def _read(self, start: int, stop: int) -> NDArray:
        return self.array[start:stop]


def cubic_taps(shift: float) -> tuple[int, NDArray[np.float64]]:
    """Return an integer shift and the four weights of cubic interpolation for the rest.

    Parameters
    ----------
    shift : float
        How far to move content toward higher indices (px).

    Returns
    -------
    whole : int
        Content moves by `whole` pixels first.
    taps : array, shape (4,)
        Weights of the samples at -2, -1, 0, +1 of the output pixel (Keys' kernel, a = -0.5).

    References
    ----------
    Keys (1981), Cubic convolution interpolation, doi:10.1109/TASSP.1981.1163711
    """
    whole = int(np.floor(shift))
    t = shift - whole
    u = 1 - t  # position between samples -1 and 0
    taps = 0.5 * np.array(
        [-u + 2 * u**2 - u**3, 2 - 5 * u**2 + 3 * u**3, u + 4 * u**2 - 3 * u**3, -(u**2) + u**3]
    )
    return whole, taps


def _full_kernel(shift: float) -> NDArray[np.float64]:
    """Return a centered, odd-sized correlation kernel that moves content by `shift` px."""
    whole, taps = cubic_taps(shift)
    half = abs(whole) + 2
    kernel = np.zeros(2 * half + 1)
    first = half - 2 - whole  # sample -2 relative to the output pixel, moved by -whole
    kernel[first : first + 4] = taps
    return kernel


def shift_rows(rows: NDArray[np.float32], shift: float) -> NDArray[np.float32]:
    """Move the content of rows to the right by `shift` px; edges are replicated.

    Parameters
    ----------
    rows : array, shape (..., W)
    shift : float
        Displacement (px), any fraction.
    """
    flat = np.ascontiguousarray(rows, dtype=np.float32).reshape(-1, rows.shape[-1])
    moved = cv2.filter2D(
        flat, cv2.CV_32F, _full_kernel(shift)[None], borderType=cv2.BORDER_REPLICATE
    )
    return np.asarray(moved, np.float32).reshape(rows.shape)


def shift_frame(
    frame: NDArray[np.float32], y: float, x: float, out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Move the content of one frame down by `y` and right by `x` px; edges are replicated.

    The result is written to `out`, if that is given.
    """
    height, width = frame.shape
    whole_y, taps_y = cubic_taps(float(np.clip(y, -height, height)))
    whole_x, taps_x = cubic_taps(float(np.clip(x, -width, width)))
    if whole_y or whole_x:
        down = int(np.clip(whole_y, 1 - height, height - 1))
        right = int(np.clip(whole_x, 1 - width, width - 1))
        bordered = cv2.copyMakeBorder(
            frame[max(-down, 0) : height - max(down, 0), max(-right, 0) : width - max(right, 0)],
            max(down, 0),
            max(-down, 0),
            max(right, 0),
            max(-right, 0),
            cv2.BORDER_REPLICATE,
        )
        frame = np.asarray(bordered, frame.dtype)
    moved = cv2.sepFilter2D(
        frame, cv2.CV_32F, taps_x, taps_y, out, (2, 2), borderType=cv2.BORDER_REPLICATE
    )
    return np.asarray(moved, np.float32)


class RasterCorrected(MovieBase):
    """A movie whose odd rows are moved back by the raster offset while streaming.

    Parameters
    ----------
    movie : Movie
    raster_px : float
        Displacement of the content of odd rows (1, 3, ...) relative to the even rows, right
        positive (px). Even rows are left as they are.
    """

    bidirectional = False  # nothing is left to correct

    def __init__(self, movie: Movie, raster_px: float) -> None:
        self.movie, self.raster_px = movie, float(raster_px)
        self.shape, self.fps, self.um_per_px = movie.shape, movie.fps, movie.um_per_px

    def _read(self, start: int, stop: int) -> NDArray:
        frames = np.empty((stop - start, *self.shape[1:]), np.float32)
        for first in range(0, len(frames), _CHUNK):  # a second copy of a few frames only
            part = frames[first : first + _CHUNK]
            part[:] = self.movie[start + first : start + first + len(part)]
            if self.raster_px:
                part[:, 1::2] = shift_rows(part[:, 1::2], -self.raster_px)
        return frames


class MotionCorrected(MovieBase):
    """A movie whose frames are moved back by their shifts while streaming.

    Parameters
    ----------
    movie : Movie
        Raster-corrected.
    y_shifts, x_shifts : array, shape (frames,)
        Displacement of the content of each frame, down and right positive (px).
    block_y_shifts, block_x_shifts : array, shape (frames, blocks down, blocks across), optional
        Further displacement of each block (piecewise registration).
    block_centers : tuple of arrays (blocks down,), (blocks across,), optional
        Rows and columns of the block centers (px); between them shifts are interpolated.
    """

    bidirectional = False

    def __init__(
        self,
        movie: Movie,
        y_shifts: NDArray,
        x_shifts: NDArray,
        *,
        block_y_shifts: NDArray | None = None,
        block_x_shifts: NDArray | None = None,
        block_centers: tuple[NDArray, NDArray] | None = None,
    ) -> None:
        if len(y_shifts) != movie.shape[0] or len(x_shifts) != movie.shape[0]:
            raise ValueError(
                f"one shift per frame is needed; got {len(y_shifts)} and {len(x_shifts)} "
                f"for {movie.shape[0]} frames"
            )
        self.movie, self.y_shifts, self.x_shifts = movie, y_shifts, x_shifts
        self.shape, self.fps, self.um_per_px = movie.shape, movie.fps, movie.um_per_px
        self.blocks = None
        if block_y_shifts is not None and block_x_shifts is not None and block_centers is not None:
            height, width = movie.shape[1:]
            self.blocks = tuple(np.asarray(b, np.float32) for b in (block_y_shifts, block_x_shifts))
            self._row_weights = interpolation_matrix(np.asarray(block_centers[0]), height)
            self._columns = Columns(np.asarray(block_centers[1]), width)

    def _read(self, start: int, stop: int) -> NDArray:
        moved = np.empty((stop - start, *self.shape[1:]), np.float32)
        for first in range(start, stop, _CHUNK):  # a second copy of a few frames only
            frames = self.movie[first : min(first + _CHUNK, stop)]
            for number, frame in enumerate(frames, first):
                self._move_back(np.asarray(frame, np.float32), number, moved[number - start])
        return moved

    def _move_back(self, frame: NDArray[np.float32], number: int, out: NDArray[np.float32]) -> None:
        y, x = float(self.y_shifts[number]), float(self.x_shifts[number])
        if self.blocks is None:
            shift_frame(frame, -y, -x, out=out)
            return
        node_y, node_x = (
            self._row_weights @ block[number] + np.float32(shift)
            for block, shift in zip(self.blocks, (y, x), strict=True)
        )
        warp_between(frame, node_y, node_x, self._columns, out)


def interpolation_matrix(centers: NDArray, size: int) -> NDArray[np.float32]:
    """Return the weights, shape (size, centers), of linear interpolation between block centers.

    Outside the outermost centers the value of the nearest one holds.
    """
    eye = np.eye(len(centers))
    return np.stack([np.interp(np.arange(size), centers, column) for column in eye], axis=1).astype(
        np.float32
    )
