"""Where the tiles of a frame went: slope of the likelihood of their displacement."""

from __future__ import annotations

import cv2
import numba
import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.ndimage import gaussian_filter

from pipeline.imaging.movie import Movie, shift_frame

REACH = 3  # lags on each side at which a tile is compared (px)
FARTHEST = 1.99  # displacement up to which four lags surround it (px)
_KERNEL = 12  # half size of the whitening kernel (px)


class Tiles:
    """Slope of the likelihood of the displacement of every tile of a frame.

    For a template T, a frame f and noise of inverse covariance W, the log likelihood of a
    displacement d has the slope (f - T_d)' d(W T_d)/dd and the expected curvature
    -(dT_d/dd)' W (dT_d/dd), from which changes of brightness are projected out. Each tile takes
    the part of these sums inside it, so that tiles need neither overlap nor
    taper. The slope is taken at a grid of lags, by one matrix product per tile, and read between
    them by cubic interpolation.

    W is a filter between two multiplications with 1 / `noise`: a pixel counts by what it tells
    above its photons, which are more where it is bright, and above the activity of its cell,
    which would otherwise be taken for displacement.

    Even and odd rows are summed apart. Their photons are different: what the two sets agree on is
    displacement, the rest is noise.

    Parameters
    ----------
    template : array, shape (H, W)
    whitening : array, shape (H, W // 2 + 1)
        Inverse noise spectrum, in any unit.
    noise : array, shape (H, W)
        Standard deviation of a pixel of the template over time, in any unit, from `noise_image`.
    tile_px : float
        Wanted side of a tile (px).

    Attributes
    ----------
    centers : array, shape (tiles, 2)
        Middle of every tile, y and x, in -1..1 across the field.
    curvature : array, shape (sets, tiles, 2, 2)
        Expected, sign reversed.
    """

    def __init__(
        self, template: NDArray, whitening: NDArray, noise: NDArray, *, tile_px: float
    ) -> None:
        self.shape = template.shape
        height, width = self.shape
        down, across = (max(1, round(size / tile_px)) for size in self.shape)
        # an even number of rows, so that the two sets are alike
        self.side = (height // down // 2 * 2, width // across)
        self.count = (down, across)
        self.corner = tuple(
            (size - n * side) // 2
            for size, n, side in zip(self.shape, self.count, self.side, strict=True)
        )
        middle = [
            2 * (first + side * (np.arange(n) + 0.5) - 0.5) / max(size - 1, 1) - 1
            for first, side, n, size in zip(
                self.corner, self.side, self.count, self.shape, strict=True
            )
        ]
        self.centers = np.stack(np.meshgrid(*middle, indexing="ij"), axis=-1).reshape(-1, 2)
        template = np.asarray(template - template.mean(), np.float32)
        weight = np.asarray(np.median(noise) / noise, np.float32)
        kernel = _kernel(whitening, self.shape)
        plain = [np.asarray(slope, np.float32) for slope in np.gradient(template)]
        slopes = [
            weight * cv2.filter2D(weight * s, cv2.CV_32F, kernel, borderType=cv2.BORDER_REFLECT)
            for s in plain
        ]
        lags = [(y, x) for y in range(-REACH, REACH + 1) for x in range(-REACH, REACH + 1)]
        columns: list[list[NDArray]] = [[], []]
        for y, x in lags:
            nuisance = self._brightness(_moved(template, y, x))
            for kept, slope in zip(columns, slopes, strict=True):
                # content moved by d: the template is read at p - d, its slope in d is negative
                column = -self.cut(_moved(slope, y, x)[None]).swapaxes(2, 3)
                column -= nuisance @ (nuisance.swapaxes(2, 3) @ column)
                kept.append(column[..., 0])
        self.columns = np.stack(columns[0] + columns[1], axis=-1)  # (sets, tiles, pixels, 2 lags^2)
        own = [-self.cut(slope[None]).swapaxes(2, 3)[..., 0] for slope in plain]
        at_zero = self.columns[..., len(lags) // 2 :: len(lags)]
        curvature = np.stack([own[0], own[1]], axis=2) @ at_zero
        self.curvature = ((curvature + curvature.swapaxes(2, 3)) / 2).astype(np.float64)

    def _brightness(self, template: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what changes of light look like in a tile: (sets, tiles, pixels, 6), orthonormal.

        A level and a slope, added to and multiplied with the template: neuropil that brightens on
        one side of a tile must not be taken for a displacement.
        """
        rows, columns = (
            np.broadcast_to(axis, self.shape).astype(np.float32)
            for axis in np.ogrid[-1 : 1 : self.shape[0] * 1j, -1 : 1 : self.shape[1] * 1j]
        )
        one = np.ones(self.shape, np.float32)
        images = [one, rows, columns, template, rows * template, columns * template]
        stack = self.cut(np.stack(images)).swapaxes(2, 3)
        return np.linalg.qr(stack)[0]

    def cut(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return frames by sets of rows and tiles: (sets, tiles, frames, pixels)."""
        (down, across), (high, wide), (top, left) = self.count, self.side, self.corner
        inside = frames[:, top : top + down * high, left : left + across * wide]
        inside = inside.reshape(len(frames), down, high // 2, 2, across, wide)
        inside = np.ascontiguousarray(inside.transpose(3, 1, 4, 0, 2, 5))
        return inside.reshape(2, down * across, len(frames), -1)

    def surfaces(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return slopes at all lags, (sets, tiles, frames, 2 lags^2)."""
        return self.cut(frames) @ self.columns

    def slopes(
        self, surfaces: NDArray[np.float32], displacement: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return slopes at displacements (frames, tiles, 2) as (sets, frames, tiles, 2)."""
        out = np.empty((2, *displacement.shape))
        for surface, target in zip(surfaces, out, strict=True):
            _interpolate(surface, displacement, target)
        return out


def noise_image(
    movie: Movie, y: NDArray, x: NDArray, *, frames: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return the standard deviation over time of every pixel of the field, shape (H, W).

    Photons, activity and what is left of the motion count alike: none of them tells where the
    field is. Smoothed by a pixel, and at least a fifth of the median.

    Parameters
    ----------
    movie : Movie
    y, x : array, shape (frames of the movie,)
        Displacement of the content of each frame (px).
    frames : array of int
        Which to use.
    """
    total, squares = np.zeros((2, *movie.shape[1:]))
    for number in frames:
        frame = np.asarray(movie[int(number) : int(number) + 1], np.float32)[0]
        moved = shift_frame(frame, -y[number], -x[number])
        moved -= moved.mean()
        total += moved
        squares += moved.astype(np.float64) ** 2
    variance = gaussian_filter(squares / len(frames) - (total / len(frames)) ** 2, 1.0)
    least = max(0.04 * float(np.median(variance)), 1e-12 * float(variance.max()), 1e-30)
    return np.sqrt(np.maximum(variance, least)).astype(np.float32)


def integer_shift(frame: NDArray[np.float32], y: int, x: int, fill: NDArray) -> NDArray:
    """Return a frame with its content moved back by whole pixels; the template fills the rest."""
    height, width = frame.shape
    out = fill.copy()
    rows = slice(max(0, -y), min(height, height - y))
    columns = slice(max(0, -x), min(width, width - x))
    out[rows, columns] = frame[rows.start + y : rows.stop + y, columns.start + x : columns.stop + x]
    return out


def _kernel(whitening: NDArray, shape: tuple[int, int]) -> NDArray[np.float32]:
    kernel = fft.fftshift(fft.irfft2(whitening, s=shape))
    box = tuple(
        slice(size // 2 - half, size // 2 + half + 1)
        for size in shape
        for half in [min(_KERNEL, size // 2 - 1)]
    )
    kernel = kernel[box]
    return (kernel - kernel.mean()).astype(np.float32)


def _moved(image: NDArray[np.float32], y: int, x: int) -> NDArray[np.float32]:
    """Return an image with its content moved by whole pixels, mirrored at the edges."""
    height, width = image.shape
    padded = cv2.copyMakeBorder(image, REACH, REACH, REACH, REACH, cv2.BORDER_REFLECT)
    return np.asarray(padded, image.dtype)[
        REACH - y : REACH - y + height, REACH - x : REACH - x + width
    ]


@numba.njit(cache=True)
def _taps(t):
    """Weights of the samples at -1, 0, 1, 2 for a place t in 0..1 (Keys' kernel, a = -0.5)."""
    return (
        ((-0.5 * t + 1.0) * t - 0.5) * t,
        (1.5 * t - 2.5) * t * t + 1.0,
        ((-1.5 * t + 2.0) * t + 0.5) * t,
        (0.5 * t - 0.5) * t * t,
    )


@numba.njit(cache=True)
def _interpolate(surface, displacement, out):
    side = 2 * REACH + 1
    for tile in range(surface.shape[0]):
        for frame in range(surface.shape[1]):
            y = min(max(displacement[frame, tile, 0], -FARTHEST), FARTHEST)
            x = min(max(displacement[frame, tile, 1], -FARTHEST), FARTHEST)
            first_y, first_x = int(np.floor(y)), int(np.floor(x))
            down, across = _taps(y - first_y), _taps(x - first_x)
            for axis in range(2):
                total = 0.0
                for i in range(4):
                    start = axis * side * side + (first_y + REACH - 1 + i) * side
                    start += first_x + REACH - 1
                    line = 0.0
                    for j in range(4):
                        line += across[j] * surface[tile, frame, start + j]
                    total += down[i] * line
                out[frame, tile, axis] = total
