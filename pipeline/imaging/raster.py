"""Raster phase: the horizontal offset between the two sweep directions of a bidirectional scan."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal.windows import tukey

from pipeline.imaging.movie import Movie
from pipeline.registry import Registry

raster_methods = Registry("raster method")


@dataclass(frozen=True)
class RasterResult:
    """Offset of a bidirectional scan.

    Attributes
    ----------
    raster_px : float
        Displacement of the content of odd rows relative to even rows, right positive (px).
    drift_px : float
        Change of the offset from the first to the last frame (px), by a straight line.
    """

    raster_px: float
    drift_px: float


@raster_methods.register("none")
def no_correction(movie: Movie) -> RasterResult:
    """Leave the rows where they are."""
    return RasterResult(0.0, 0.0)


@raster_methods.register("fourier", default=True)
def row_phase(
    movie: Movie, *, max_offset_px: float = 8.0, max_frames: int = 4000, blocks: int = 16
) -> RasterResult:
    """Find the offset from the cross-spectrum of odd rows with the mean of their neighbors.

    Rows of a mean image differ from the mean of the rows above and below by the offset only, on
    average; uncorrected motion blurs both alike, so that the estimate needs no registration. Mean
    images of `blocks` stretches of the recording give independent noise in both factors, and each
    frequency counts by its coherence between them, the maximum-likelihood weight.

    Parameters
    ----------
    movie : Movie
        Not corrected yet. A movie that says `bidirectional = False` has offset 0.
    max_offset_px : float
        Largest offset looked for (px).
    max_frames : int
        Most frames to read, evenly from the whole recording.
    blocks : int
        Stretches averaged separately.

    Returns
    -------
    RasterResult

    References
    ----------
    Knapp and Carter (1976), The generalized correlation method for estimation of time delay,
    doi:10.1109/TASSP.1976.1162830
    """
    n_frames, height, width = movie.shape
    if not getattr(movie, "bidirectional", True) or height < 3 or width < 8:
        return RasterResult(0.0, 0.0)
    blocks = max(1, min(blocks, n_frames))
    length = max(1, min(n_frames, max_frames) // blocks)
    starts = np.linspace(0, n_frames - length, blocks).round().astype(int)
    window = tukey(width, 0.3)
    cross, power_even, power_odd = [], [], []
    for start in starts:
        image = _mean(movie, start, start + length)
        middle = image[1 : height - 1 : 2]
        around = (image[0 : height - 2 : 2] + image[2:height:2][: len(middle)]) / 2
        odd, even = (
            np.fft.rfft((rows - rows.mean(axis=1, keepdims=True)) * window, axis=1)
            for rows in (middle, around)
        )
        cross.append((odd * even.conj()).sum(axis=0))
        power_odd.append((np.abs(odd) ** 2).sum(axis=0))
        power_even.append((np.abs(even) ** 2).sum(axis=0))
    spectra = np.array(cross)  # (blocks, frequencies)
    weights = _coherence_weights(
        spectra.sum(0), np.sum(power_odd, 0), np.sum(power_even, 0), len(odd)
    )
    offset = _best_offset(spectra.sum(0) * weights, width, max_offset_px)
    if blocks < 4:
        return RasterResult(offset, 0.0)
    each = np.array([_local_offset(one * weights, width, offset) for one in spectra])
    slope = np.polyfit((starts + length / 2) / n_frames, each, 1)[0]
    return RasterResult(offset, float(slope))


def _mean(movie: Movie, start: int, stop: int, size: int = 128) -> NDArray[np.float64]:
    total = np.zeros(movie.shape[1:])
    for first in range(start, stop, size):
        total += np.asarray(movie[first : min(first + size, stop)]).sum(axis=0, dtype=np.float64)
    return total / (stop - start)


def _coherence_weights(
    cross: NDArray, power_a: NDArray, power_b: NDArray, rows: int
) -> NDArray[np.float64]:
    """Return coherence / (1 - coherence) / |cross|, without the constant term."""
    magnitude = np.abs(cross)
    coherence = magnitude**2 / np.maximum(power_a * power_b, 1e-30)
    coherence = np.clip(coherence - 1 / rows, 0, 0.999)  # 1 / rows is its bias for pure noise
    weights = coherence / (1 - coherence) / np.maximum(magnitude, 1e-30)
    weights[0] = 0
    return weights


def _objective(spectrum: NDArray, width: int, offsets: NDArray) -> NDArray:
    angle = 2 * np.pi * np.arange(len(spectrum)) / width
    return np.real(np.exp(1j * np.outer(offsets, angle)) @ spectrum)


def _best_offset(spectrum: NDArray, width: int, limit: float) -> float:
    if not np.any(np.abs(spectrum) > 0):
        return 0.0
    coarse = np.arange(-limit, limit + 0.125, 0.125)
    best = coarse[np.argmax(_objective(spectrum, width, coarse))]
    fine = best + np.linspace(-0.125, 0.125, 101)
    return float(np.clip(fine[np.argmax(_objective(spectrum, width, fine))], -limit, limit))


def _local_offset(spectrum: NDArray, width: int, around: float) -> float:
    fine = around + np.linspace(-1, 1, 401)
    return float(fine[np.argmax(_objective(spectrum, width, fine))])
