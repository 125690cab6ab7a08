"""Cells from local correlations, refined by constrained matrix factorization."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, gaussian_filter, maximum_filter

from pipeline.imaging.movie import Movie
from pipeline.imaging.segmentation.base import (
    Binned,
    Residual,
    SegmentationResult,
    correlation_image,
    diameter_px,
    residual_of,
    segmenters,
    untouched_zeros,
)
from pipeline.imaging.segmentation.grow import Component, grow, overlaps
from pipeline.imaging.segmentation.patches import Found, bins_of, search
from pipeline.imaging.segmentation.scratch import ScratchBins
from pipeline.imaging.segmentation.shape import soma_probability


@segmenters.register("cnmf", default=True, revision=2)
def cnmf(
    movie: Movie,
    *,
    soma_diameter_um: float = 12.0,
    default_um_per_px: float = 1.0,
    bin_s: float = 0.4,
    highpass_s: float = 60.0,
    min_snr: float = 6.0,
    min_skew: float = 1.5,
    edge: float = 0.3,
    outline: float = 0.4,
    rounds: int = 2,
    sweeps: int = 2,
    adapt_size: bool = True,
    memory_mb: float = 600.0,
) -> SegmentationResult:
    """Find cells by seeds of local correlation and alternating footprints and traces.

    Seeds are the maxima of the neighbor correlation of the background-subtracted binned movie.
    The best is grown (`grow`), tested for size, roundness, transients and a clear edge, and what it
    explains is subtracted before the next; then every cell is put back, grown anew beside the
    others and subtracted again, `sweeps` times: hierarchical alternating least squares in which a
    footprint is one connected, non-negative piece.

    Parameters
    ----------
    movie : Movie
        Motion-corrected.
    soma_diameter_um : float
        Expected diameter of a soma (um).
    default_um_per_px : float
        Size of a pixel where the movie does not know it (um).
    bin_s, highpass_s : float
        See `binned_movie`.
    memory_mb : float
        Most memory that the bins may take (MB). More of them lie on disk, two bytes a pixel and
        bin in the folder for temporary files (`TMPDIR`), and are searched patch by patch.
    min_snr : float
        Fewest noise units of a cell's largest transients.
    min_skew : float
        Fewest times that these exceed the largest negative departures.
    edge : float
        Height, relative to the footprint's top, at which a cell ends while cells are looked for.
    outline : float
        The same for the masks returned: higher, since blur widens what is cut low.
    rounds : int
        Times that seeds are looked for in what is left.
    sweeps : int
        Times that all cells are refined.
    adapt_size : bool
        Take the diameter from the movie, by trials on the middle of the field
        (`fitting_diameter`); the expected one is where they begin.

    Returns
    -------
    SegmentationResult

    References
    ----------
    Pnevmatikakis et al. (2016), doi:10.1016/j.neuron.2015.11.037; Cichocki and Phan (2009), Fast
    local algorithms for large scale nonnegative matrix and tensor factorizations.
    """
    diameter = diameter_px(movie, soma_diameter_um, default_um_per_px)
    tests = {"min_snr": min_snr, "min_skew": min_skew}

    def find(residual: Residual, image: NDArray) -> list[Component]:
        cells: list[Component] = []
        for number in range(rounds):
            if number:
                image = correlation_image(residual)
            cells += _harvest(residual, image, diameter, edge, cells, **tests)
            for _ in range(sweeps):
                cells = _refine(residual, cells, diameter, edge, **tests)
        return cells if outline == edge else _outlined(residual, cells, diameter, outline)

    with bins_of(movie, bin_s=bin_s, highpass_s=highpass_s, memory_mb=memory_mb) as binned:
        if adapt_size:
            diameter = fitting_diameter(binned, diameter, edge=edge, **tests)
        found = search(binned, diameter, find)
    return assemble(found)


def fitting_diameter(
    binned: Binned | ScratchBins, expected: float, *, edge: float, min_snr: float, min_skew: float
) -> float:
    """Return the soma diameter (px) with which the cells of an excerpt stand out best.

    The sum of the cells' signal-to-noise ratios has one maximum, at the true diameter; their
    median size says on which side of it a trial is. Beginning with the expected diameter and with
    0.6 and 1.6 times it, the best is followed by the diameter it measured until that is no better.
    With fewer than five cells the answer is the expected diameter.
    """
    most = min(binned.shape[:2]) / 3

    def trial(diameter: float) -> tuple[float, float, int]:
        residual = residual_of(binned.excerpt(256, 1500), diameter)
        tests = {"min_snr": min_snr, "min_skew": min_skew}
        found = _harvest(residual, correlation_image(residual), diameter, edge, [], **tests)
        sizes = [cell.features["relative_diameter"] for cell in found]
        measured = diameter * float(np.clip(np.median(sizes), 0.75, 1.35)) if sizes else diameter
        return sum(cell.snr for cell in found), measured, len(found)

    tried = {d: trial(d) for f in (1.0, 0.6, 1.6) if 5 <= (d := expected * f) <= most}
    if not tried:
        return expected
    for _ in range(3):
        best = max(tried, key=lambda d: tried[d][0])
        following = float(np.clip(tried[best][1], 5, most))
        if any(0.9 < following / d < 1.1 for d in tried):
            break
        tried[following] = trial(following)
    best = max(tried, key=lambda d: tried[d][0])
    if tried[best][2] < 5:
        return expected
    # an outline at `edge` of the height lies a little outside of the cell
    return float(np.clip(0.95 * tried[best][1], 5, most))


def seeds_of(image: NDArray, diameter: float, inside: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return local maxima (y, x) of an image smoothed to a third of a soma, the highest first.

    Those within a pixel of what is not `inside`, or of the image's edge, are left out.
    """
    smooth = gaussian_filter(image, 0.18 * diameter)
    peak = (smooth == maximum_filter(smooth, 3)) & (smooth > np.median(smooth))
    inner = binary_erosion(inside, np.ones((3, 3)), border_value=0)
    y, x = np.nonzero(peak & inner)
    order = np.argsort(-smooth[y, x], kind="stable")
    return np.stack([y[order], x[order]], axis=1)


def acceptable(cell: Component, *, min_snr: float, min_skew: float) -> bool:
    """Return whether a component passes the tests of a cell."""
    features = cell.features
    return (
        cell.snr >= min_snr
        and cell.skew >= min_skew
        and 0.5 <= features["relative_diameter"] <= 1.5
        and features["roundness"] >= 0.75
        and features["solidity"] >= 0.8
        and cell.contrast >= 0.6
    )


def _harvest(
    residual: Residual,
    image: NDArray,
    diameter: float,
    edge: float,
    known: list[Component],
    **tests: float,
) -> list[Component]:
    found: list[Component] = []
    for y, x in seeds_of(image, diameter, residual.inside):
        cell = grow(residual, (y, x), diameter=diameter, edge=edge)
        if cell is None or not acceptable(cell, **tests):
            continue
        if any(overlaps(cell, other, diameter) for other in known + found):
            continue
        residual.add(*cell.share(-1))
        found.append(cell)
    return found


def _refine(
    residual: Residual, cells: list[Component], diameter: float, edge: float, **tests: float
) -> list[Component]:
    kept: list[Component] = []
    for cell in sorted(cells, key=lambda c: -c.snr):
        residual.add(*cell.share(1))
        again = grow(residual, cell.center, diameter=diameter, edge=edge)
        if again is None or not acceptable(again, **tests):
            continue
        if any(overlaps(again, other, diameter) for other in kept):
            continue
        residual.add(*again.share(-1))
        kept.append(again)
    return kept


def _outlined(
    residual: Residual, cells: list[Component], diameter: float, outline: float
) -> list[Component]:
    """Return cells grown again to another height of their outline, each beside the others."""
    grown = []
    for cell in sorted(cells, key=lambda c: -c.snr):
        residual.add(*cell.share(1))
        again = grow(residual, cell.center, diameter=diameter, edge=outline) or cell
        residual.add(*again.share(-1))
        grown.append(again)
    return grown


def assemble(found: Found) -> SegmentationResult:
    """Return components as masks and weights, the clearest first.

    A pixel's weight is its response in gray levels over its noise variance: the filter that makes
    the least noisy trace.
    """
    cells = sorted(found.cells, key=lambda c: -c.snr)
    shape = (len(cells), *found.noise.shape)
    masks, weights = untouched_zeros(shape, bool), untouched_zeros(shape, np.float32)
    for index, cell in enumerate(cells):
        masks[index][cell.window] = cell.mask
        values = np.where(cell.mask, cell.footprint, 0) / found.noise[cell.window]
        weights[index][cell.window] = values / values.sum()
    probability = [soma_probability(cell.features, cell.contrast) for cell in cells]
    return SegmentationResult(
        masks,
        weights,
        np.array([cell.snr for cell in cells], np.float32),
        np.array(probability, np.float32),
        found.mean_image,
        found.correlation_image,
    )
