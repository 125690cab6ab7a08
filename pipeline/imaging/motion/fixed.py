"""What is fixed to the scanner, not to the tissue: lines, borders, stuck and dead pixels.

Registration would lock to it: it is in every frame at the same place, often brighter than the
field. Optics and movement blur the tissue; what belongs to the scanner has edges of one pixel.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import (
    binary_dilation,
    distance_transform_edt,
    median_filter,
    uniform_filter,
)

from pipeline.errors import DataError
from pipeline.imaging.movie import Movie, MovieBase

FRAMES = 240  # looked at
MOST = 0.5  # share of the field that may be fixed
STEP = 10.0  # least step from row to row, in robust standard deviations of such steps
POINT = 12.0  # least excess of a pixel over its surroundings, likewise
STILL = 0.1  # noise, as a share of the field's median, below which nothing is seen


class WithoutFixed(MovieBase):
    """A movie whose fixed pixels show what their nearest free neighbor shows.

    Parameters
    ----------
    movie : Movie
    fixed : array of bool, shape (H, W)
        At least one pixel is free.
    """

    def __init__(self, movie: Movie, fixed: NDArray[np.bool_]) -> None:
        self.movie, self.shape, self.fps = movie, movie.shape, movie.fps
        self.um_per_px = movie.um_per_px
        self.bidirectional = getattr(movie, "bidirectional", True)
        nearest = distance_transform_edt(fixed, return_distances=False, return_indices=True)
        self._place = np.flatnonzero(fixed)
        self._shown = np.ravel_multi_index(nearest, fixed.shape)[fixed]

    def _read(self, start: int, stop: int) -> NDArray:
        frames = np.array(self.movie[start:stop])
        flat = frames.reshape(len(frames), -1)
        flat[:, self._place] = flat[:, self._shown]
        return frames


def without_fixed(movie: Movie) -> tuple[Movie, NDArray[np.bool_]]:
    """Return the movie without what is fixed to the scanner, and where that is, (H, W).

    Raises
    ------
    DataError
        If so much of the field is fixed that no movement can be told from the rest.
    """
    fixed = fixed_pattern(movie)
    if not fixed.any():
        return movie, fixed
    if (share := float(fixed.mean())) > MOST:
        raise DataError(
            "movement cannot be told: pixels do not change with the tissue",
            field="movie",
            found=f"{share:.0%} of the field constant, or in lines of their own",
            expected=f"{MOST:.0%} at most",
            remedy="crop the movie to the tissue",
        )
    return WithoutFixed(movie, fixed), fixed


def fixed_pattern(movie: Movie) -> NDArray[np.bool_]:
    """Find pixels that are fixed to the scanner.

    - Rows and columns between edges of one pixel, brighter or darker than the rest;
    - single pixels far from those above and below in their mean, or without any variation;
    - areas that do not vary: blocked, or saturated.

    Parameters
    ----------
    movie : Movie
        Raster-corrected or as recorded.

    Returns
    -------
    array of bool, shape (H, W)
        All False for a field that is tissue to its edges, and for fewer than 16 frames.
    """
    n_frames, height, width = movie.shape
    none = np.zeros((height, width), bool)
    if n_frames < 16 or min(height, width) < 16:
        return none
    chosen = np.unique(np.linspace(0, n_frames - 1, min(FRAMES, n_frames)).round().astype(int))
    total, square = np.zeros((2, height, width))
    origin = np.asarray(movie[:1], np.float64)[0]  # near the mean: squares lose no digits
    for number in chosen:
        step = np.asarray(movie[int(number) : int(number) + 1], np.float64)[0] - origin
        total += step
        square += step**2
    mean, count = total / len(chosen), len(chosen)
    noise = np.sqrt(np.maximum(square / count - mean**2, 0))
    image = mean + origin
    usual = float(np.median(noise))
    if usual <= 0:
        return none if noise.max() <= 0 else noise <= 0
    lines = none.copy()
    lines[_odd_lines(np.median(image, axis=1))] = True
    still = uniform_filter(noise, 3, mode="nearest") < STILL * usual
    points = _odd_points(image, noise, count)
    # the correction of the raster phase spreads a pixel along its row
    columns = np.zeros_like(none)
    columns[:, _odd_lines(np.median(image, axis=0))] = True
    columns = binary_dilation(columns, np.ones((1, 3)))
    points = binary_dilation(points, np.ones((3, 5)))
    return lines | columns | points | binary_dilation(still, np.ones((3, 3)))


def _odd_lines(profile: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return rows between sharp steps that are off the level of most rows."""
    steps = np.diff(profile)
    spread = 1.4826 * np.median(np.abs(steps - np.median(steps)))
    large = np.abs(steps) > max(STEP * spread, 1e-9)
    if not large.any():
        return np.zeros(0, np.intp)
    # an edge in the tissue is blurred over several rows
    beside = np.zeros((2, len(steps)))
    beside[0, 1:], beside[1, :-1] = steps[:-1], steps[1:]
    same = np.maximum(beside * np.sign(steps), 0).max(axis=0)
    edges = np.flatnonzero(large & (same < 0.4 * np.abs(steps)))
    bounds = np.concatenate([[0], edges + 1, [len(profile)]])
    parts = [np.arange(a, b) for a, b in pairwise(bounds)]
    if len(parts) == 1:
        return np.zeros(0, np.intp)
    longest = max(parts, key=len)
    # of many lines, most rows have the tissue's level
    most = profile[longest] if len(longest) >= len(profile) / 4 else profile
    level, least = float(np.median(most)), float(np.abs(steps[edges]).min()) / 2
    odd = [
        part
        for part in parts
        if part is not longest
        and len(part) <= len(profile) / 4  # more of them are a field of two halves
        and abs(np.median(profile[part]) - level) > least
    ]
    return np.concatenate(odd) if odd else np.zeros(0, np.intp)


def _odd_points(
    image: NDArray[np.float64], noise: NDArray[np.float64], count: int
) -> NDArray[np.bool_]:
    """Return pixels off those above and below, or that do not vary and differ from all around."""
    around = median_filter(image, 5, mode="nearest")
    excess = np.abs(image - around)
    spread = 1.4826 * float(np.median(excess))
    above, below = (np.roll(image - around, by, axis=0) for by in (1, -1))
    level = float(np.median(around) - around.min())
    alone = (
        (excess > POINT * spread) & (np.abs(above + below) < 0.3 * excess) & (excess > 2 * level)
    )
    near = median_filter(noise, 5, mode="nearest")
    dead = (noise < 0.05 * near) & (excess > 5 * near / np.sqrt(count))
    return alone | dead
