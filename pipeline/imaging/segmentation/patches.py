"""Look for cells in a whole field, or patch by patch where memory does not hold all its bins."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.imaging.movie import Movie
from pipeline.imaging.segmentation.base import (
    Binned,
    Residual,
    bin_frames,
    binned_movie,
    correlation_image,
    residual_of,
)
from pipeline.imaging.segmentation.grow import Component, overlaps
from pipeline.imaging.segmentation.scratch import ScratchBins

Finder = Callable[[Residual, NDArray], list[Component]]


@dataclass
class Found:
    """Cells of a field, and images of it.

    Attributes
    ----------
    cells : list of Component
    noise, mean_image, correlation_image : array float32, shape (H, W)
        Noise of a bin (gray levels); see `SegmentationResult`.
    """

    cells: list[Component]
    noise: NDArray[np.float32]
    mean_image: NDArray[np.float32]
    correlation_image: NDArray[np.float32]


@contextmanager
def bins_of(
    movie: Movie, *, bin_s: float, highpass_s: float, memory_mb: float
) -> Iterator[Binned | ScratchBins]:
    """Give a movie in time bins: in memory if they fit in `memory_mb` (MB), else on disk.

    The bins are as long as asked, whatever the length of the recording.
    """
    height, width = movie.shape[1:]
    bins = movie.shape[0] // bin_frames(movie, bin_s)
    if 4e-6 * height * width * bins <= memory_mb:
        yield binned_movie(movie, bin_s=bin_s, highpass_s=highpass_s)
        return
    with ScratchBins(movie, bin_s=bin_s, highpass_s=highpass_s, memory_mb=memory_mb) as binned:
        yield binned


def search(binned: Binned | ScratchBins, diameter: float, find: Finder) -> Found:
    """Let `find` look for cells in the residual of a field; `binned` is used up.

    Patches overlap by the windows of cells. What is found in the overlap is subtracted there, too,
    but each patch keeps only the cells of its own core; of two patches that found the same cell,
    the one in which it is clearer keeps it.

    Parameters
    ----------
    binned : Binned or ScratchBins
    diameter : float
        Expected soma diameter (px).
    find : callable
        Takes a residual, which it may change, and its correlation image; returns cells.
    """
    if isinstance(binned, Binned):
        residual = residual_of(binned, diameter)
        image = correlation_image(residual)
        return Found(find(residual, image), residual.noise, binned.mean_image, image)
    height, width, bins = binned.shape
    halo = patch_halo(diameter)
    down, across = patch_grid(binned.shape, diameter, binned.memory_mb, binned.bin_s)
    binned.subtract_surroundings(diameter)
    noise, correlation = np.ones((2, height, width), np.float32)
    sides = [-(-size // count) + 2 * halo for size, count in ((height, down), (width, across))]
    memory = np.empty(min(sides[0], height) * min(sides[1], width) * bins, np.float32)
    cells: list[Component] = []
    for own_rows in _parts(height, down):
        for own_columns in _parts(width, across):
            rows, columns = _widened(own_rows, halo, height), _widened(own_columns, halo, width)
            residual = binned.residual(rows, columns, memory)
            image = correlation_image(residual)
            corner = (rows.start, columns.start)
            core = tuple(
                slice(own.start - first, own.stop - first)
                for own, first in zip((own_rows, own_columns), corner, strict=True)
            )
            noise[own_rows, own_columns] = residual.noise[core]
            correlation[own_rows, own_columns] = image[core]
            looked = np.zeros(image.shape, bool)
            beyond = int(np.ceil(0.5 * diameter)) + 1
            looked[
                tuple(_widened(c, beyond, n) for c, n in zip(core, image.shape, strict=True))
            ] = True
            residual.inside &= looked
            found = [
                replace(cell, top=cell.top + corner[0], left=cell.left + corner[1])
                for cell in find(residual, image)
            ]
            cells += [c for c in found if _holds((own_rows, own_columns), c, 0.25 * diameter)]
    return Found(_without_twins(cells, diameter), noise, binned.mean_image, correlation)


def patch_halo(diameter: float) -> int:
    """Return how far a patch reaches beyond its core (px): neighbors half a soma outside fit."""
    return int(np.ceil(1.45 * diameter)) + 4


def patch_grid(
    shape: tuple[int, int, int], diameter: float, memory_mb: float, bin_s: float
) -> tuple[int, int]:
    """Return the numbers of patches down and across, all of which fit in memory.

    The smallest patches whose overlap costs a tenth more work than the least at most.

    Raises
    ------
    DataError
        If a patch whose core is one soma wide does not fit.
    """
    height, width, bins = shape
    halo = patch_halo(diameter)

    def pixels(down: int, across: int) -> int:
        sides = (-(-height // down) + 2 * halo, -(-width // across) + 2 * halo)
        return min(sides[0], height) * min(sides[1], width)

    most = [max(1, int(size // diameter)) for size in (height, width)]
    fitting = [
        (pixels(down, across), down, across)
        for down in range(1, most[0] + 1)
        for across in range(1, most[1] + 1)
        if 4e-6 * pixels(down, across) * bins <= memory_mb
    ]
    if not fitting:
        raise DataError(
            "is too little for the time bins around one cell",
            field="memory_mb",
            found=f"{memory_mb:g} MB",
            expected=f"{4e-6 * pixels(*most) * bins:.0f} MB for {bins} bins of {bin_s:.2g} s "
            f"and a soma of {diameter:.0f} px",
            remedy="raise memory_mb, or bin_s",
        )
    work = [size * down * across for size, down, across in fitting]
    _, down, across = min(f for f, w in zip(fitting, work, strict=True) if w <= 1.1 * min(work))
    return down, across


def _parts(size: int, count: int) -> list[slice]:
    step = -(-size // count)
    return [slice(start, min(start + step, size)) for start in range(0, size, step)]


def _widened(part: slice, by: int, size: int) -> slice:
    return slice(max(0, part.start - by), min(size, part.stop + by))


def _holds(core: tuple[slice, slice], cell: Component, slack: float) -> bool:
    return all(
        part.start - slack <= place < part.stop + slack
        for part, place in zip(core, cell.center, strict=True)
    )


def _without_twins(cells: list[Component], diameter: float) -> list[Component]:
    """Return cells, the clearest first, without those that another patch found more clearly."""
    kept: list[Component] = []
    for cell in sorted(cells, key=lambda c: -c.snr):
        if not any(overlaps(cell, other, diameter) for other in kept):
            kept.append(cell)
    return kept
