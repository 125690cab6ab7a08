"""Fluorescence of every unit: weighted mean, neuropil around it, overlap taken apart."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import fft, sparse
from scipy.ndimage import binary_dilation, gaussian_filter1d, percentile_filter
from scipy.signal import oaconvolve

from pipeline.imaging.movie import Movie, few_frames
from pipeline.imaging.stray_light import bridged, flash_frames
from pipeline.registry import Registry

fluorescence_methods = Registry("fluorescence method")

FEW_TAPS = 100  # of a kernel's half, up to which it is summed directly


@dataclass
class FluorescenceResult:
    """Traces of all units.

    Attributes
    ----------
    raw : array float32, shape (units, frames)
        Weighted mean of the unit's pixels (gray levels of the microscope); frames in which light
        flashed on the detector are bridged by a line.
    neuropil : array float32, shape (units, frames)
        Mean of the surroundings that belong to no unit, freed of photon noise (`wiener`).
    corrected : array float32, shape (units, frames)
        Raw, freed of overlapping units and of `coefficient` times the neuropil's departure from
        its median. Not smoothed.
    coefficient : array float32, shape (units,)
        Share of the neuropil signal that is in the raw trace.
    snr : array float32, shape (units,)
        Size of the largest transients in units of the frame-to-frame noise.
    """

    raw: NDArray[np.float32]
    neuropil: NDArray[np.float32]
    corrected: NDArray[np.float32]
    coefficient: NDArray[np.float32]
    snr: NDArray[np.float32]


def neuropil_rings(
    masks: NDArray[np.bool_], *, gap_px: int, pixels: int, margin_px: int = 0
) -> NDArray[np.bool_]:
    """Return for every unit a ring of pixels that belong to no unit.

    Parameters
    ----------
    masks : array of bool, shape (units, H, W)
    gap_px : int
        Pixels left out around every unit, where its own light still falls.
    pixels : int
        Fewest pixels of a ring; it grows until it has them.
    margin_px : int
        Pixels left out at the edges of the field.

    Returns
    -------
    array of bool, shape (units, H, W)
    """
    _, height, width = masks.shape
    cross = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], bool)
    taken = masks.any(axis=0)
    taken = binary_dilation(taken, cross, iterations=gap_px) if gap_px else taken
    if margin_px:
        inner = np.zeros_like(taken)
        inner[margin_px : height - margin_px, margin_px : width - margin_px] = True
        taken = taken | ~inner
    rings = np.zeros_like(masks)
    rows, columns = np.arange(height)[:, None], np.arange(width)[None]
    free = ~taken if (~taken).any() else ~masks.any(axis=0)
    for unit, mask in enumerate(masks):
        if not mask.any():
            continue
        y, x = (axis.mean() for axis in np.nonzero(mask))
        distance = np.hypot(rows - y, columns - x)
        nearest = distance[free]
        if len(nearest):
            last = min(pixels, len(nearest)) - 1
            rings[unit] = free & (distance <= np.partition(nearest, last)[last])
    return rings


def neuropil_coefficient(
    raw: NDArray,
    neuropil: NDArray,
    fps: float,
    *,
    usual: float = 0.7,
    spread: float = 0.25,
    shared: float = 0.15,
    limit: float = 1.5,
) -> NDArray[np.float64]:
    """Fit how much of the neuropil is in the raw trace, from frames in which the unit rests.

    Both are smoothed over a third of a second and freed of slow drift; frames whose remainder is
    above two of its (lower) standard deviations hold the unit's own transients, and are left out
    of the next of four least-squares fits. What drives the unit drives the neuropil as well, which
    biases the slope by about `shared` times the ratio of their sizes: the slope is drawn toward
    the usual coefficient, the more so the smaller the neuropil's signal is beside the unit's.

    Parameters
    ----------
    raw, neuropil : array, shape (units, frames)
    fps : float
        Frames per second (Hz).
    usual, spread : float
        Mean and standard deviation of coefficients over units.
    shared : float
        Correlation expected between a unit's own signal and its neuropil.
    limit : float
        Largest coefficient.

    Returns
    -------
    array, shape (units,)
    """
    out = np.full(len(raw), usual)
    sigma = max(0.5, fps / 3)
    drift = min(raw.shape[1] / 4, 15 * fps)
    for unit in range(len(raw)):
        y, x = (gaussian_filter1d(t[unit].astype(np.float64), sigma) for t in (raw, neuropil))
        y, x = (t - _smooth(t, drift) for t in (y, x))
        keep = np.ones(len(y), bool)
        slope = usual
        for _ in range(4):
            centered = x[keep] - x[keep].mean()
            power = float(centered @ centered)
            if power <= 0 or keep.sum() < 10:
                break
            slope = float(centered @ y[keep] / power)
            rest = y - slope * x
            rest = rest - np.median(rest)
            noise = np.sqrt(np.mean(rest[rest < 0] ** 2)) if np.any(rest < 0) else 0.0
            keep = rest < 2 * noise if noise > 0 else keep
        ratio = shared * np.std(y - slope * x) / max(np.std(x), 1e-12)
        weight = spread**2 / (spread**2 + ratio**2)
        out[unit] = np.clip(usual + weight * (slope - usual), 0, limit)
    return out


def _smooth(trace: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    """Return `gaussian_filter1d`'s result; wide kernels by Fourier transforms, to 1e-12."""
    reach = int(4 * sigma + 0.5)
    if not FEW_TAPS < reach <= len(trace):
        return gaussian_filter1d(trace, sigma)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    mirrored = np.concatenate([trace[:reach][::-1], trace, trace[-reach:][::-1]])
    return oaconvolve(mirrored, kernel / kernel.sum(), mode="valid")


def wiener(traces: NDArray, *, cutoff: float = 0.6) -> NDArray[np.float32]:
    """Free traces of white noise by a Wiener filter made from their own spectra.

    Power above `cutoff` of the highest frequency is noise; each frequency keeps the share of its
    power, averaged over neighboring frequencies, that exceeds it. Photon noise of the ring would
    otherwise be added to the cell when the neuropil is subtracted.

    Parameters
    ----------
    traces : array, shape (units, frames)
    cutoff : float
        Start of the noise band, as a share of the Nyquist frequency.
    """
    frames = traces.shape[1]
    if frames < 64:
        return traces.astype(np.float32)
    out = np.empty(traces.shape, np.float32)
    for unit, trace in enumerate(traces):
        level = trace.mean(dtype=np.float64)
        # mirrored, so that the ends do not leak into each other
        spectrum = fft.rfft(np.concatenate([trace, trace[::-1]]) - level)
        power = np.abs(spectrum) ** 2
        floor = power[int(cutoff * len(power)) :].mean()
        smooth = gaussian_filter1d(power, max(2.0, len(power) / 200))
        keep = np.clip(1 - floor / np.maximum(smooth, 1e-30), 0, 1)
        keep[:1] = 1
        out[unit] = fft.irfft(spectrum * keep, 2 * frames)[:frames] + level
    return out


def trace_snr(traces: NDArray, fps: float) -> NDArray[np.float32]:
    """Return the size of the largest transients over the noise, shape (units,).

    Size: 99.5th minus 50th percentile of the trace smoothed over 0.3 s; noise: standard deviation
    of that smoothed trace expected from the differences of neighboring frames.
    """
    sigma = max(0.5, 0.3 * fps)
    out = np.zeros(len(traces), np.float32)
    for unit, trace in enumerate(traces):
        trace = trace.astype(np.float64)
        if len(trace) < 3:
            continue
        noise = np.median(np.abs(np.diff(trace))) / 0.6745 / np.sqrt(2)
        noise /= np.sqrt(2 * sigma * np.sqrt(np.pi))  # of white noise after the Gaussian
        smooth = gaussian_filter1d(trace, sigma)
        if noise > 0:
            out[unit] = (np.percentile(smooth, 99.5) - np.median(smooth)) / noise
    return out


@fluorescence_methods.register("demixed", default=True, revision=2)
def demixed(
    movie: Movie,
    masks: NDArray[np.bool_],
    weights: NDArray[np.floating],
    *,
    gap_px: int = 2,
    ring_pixels: int = 400,
    usual_coefficient: float = 0.7,
    max_coefficient: float = 1.5,
    demix: bool = True,
) -> FluorescenceResult:
    """Read every unit's trace in one pass over the movie.

    Parameters
    ----------
    movie : Movie
        Motion-corrected.
    masks : array of bool, shape (units, H, W)
    weights : array, shape (units, H, W)
        Non-negative; only their ratios within a unit count. A unit without any is averaged over
        its mask.
    gap_px : int
        Pixels between any unit and a neuropil ring.
    ring_pixels : int
        Fewest pixels of a ring.
    usual_coefficient, max_coefficient : float
        Neuropil coefficient where it cannot be fitted, and the largest.
    demix : bool
        Take overlapping units apart by least squares.

    Returns
    -------
    FluorescenceResult

    Raises
    ------
    ValueError
        If masks, weights and movie differ in size, or a mask is empty.
    """
    n_frames, height, width = movie.shape
    masks = np.asarray(masks, bool)
    weights = np.asarray(weights, np.float32)
    if masks.shape[1:] != (height, width) or weights.shape != masks.shape:
        raise ValueError(
            f"masks {masks.shape} and weights {weights.shape} must be (units, {height}, {width})"
        )
    units = len(masks)
    if units == 0:
        empty, none = np.zeros((0, n_frames), np.float32), np.zeros(0, np.float32)
        return FluorescenceResult(empty, empty, empty, none, none)
    footprints = _sparse_footprints(masks, weights)
    reader = sparse.diags(1 / np.asarray(footprints.sum(axis=1)).ravel()) @ footprints
    rings = neuropil_rings(masks, gap_px=gap_px, pixels=ring_pixels).reshape(units, -1)
    ring_reader = sparse.csr_matrix(rings, dtype=np.float32)
    counts = np.maximum(np.asarray(ring_reader.sum(axis=1)).ravel(), 1)
    both = sparse.vstack([reader, sparse.diags(1 / counts) @ ring_reader]).tocsr()
    both = both.astype(np.float32)
    values = np.empty((2 * units, n_frames), np.float32)
    for start, frames in movie.batches(few_frames(movie)):
        flat = frames.reshape(len(frames), -1)
        _read_pixels(both.indptr, both.indices, both.data, flat, values[:, start:])
    flashed = flash_frames(values[units:], movie.fps)
    raw, neuropil = bridged(values[:units], flashed), wiener(bridged(values[units:], flashed))
    coefficient = neuropil_coefficient(
        raw, neuropil, movie.fps, usual=usual_coefficient, limit=max_coefficient
    )
    corrected = raw - coefficient[:, None] * (neuropil - np.median(neuropil, axis=1)[:, None])
    if demix:
        corrected = _demix(corrected, reader, footprints)
    return FluorescenceResult(
        raw,
        neuropil,
        corrected.astype(np.float32),
        coefficient.astype(np.float32),
        trace_snr(corrected, movie.fps),
    )


@numba.njit(cache=True, nogil=True)
def _read_pixels(first, pixel, weight, frames, values):
    """Write the weighted sums of a sparse matrix' rows over pixels, four frames at a time."""
    last = len(frames) - 1
    for t in range(0, len(frames), 4):
        one, two = frames[t], frames[min(t + 1, last)]
        three, four = frames[min(t + 2, last)], frames[min(t + 3, last)]
        for row in range(len(first) - 1):
            a = b = c = d = np.float32(0)
            for k in range(first[row], first[row + 1]):
                place, share = pixel[k], weight[k]
                a += share * one[place]
                b += share * two[place]
                c += share * three[place]
                d += share * four[place]
            values[row, t] = a
            values[row, min(t + 1, last)] = b
            values[row, min(t + 2, last)] = c
            values[row, min(t + 3, last)] = d


def _sparse_footprints(masks: NDArray, weights: NDArray) -> sparse.csr_matrix:
    """Return positive weights inside of masks, (units, pixels); a mask without any counts evenly.

    Unit by unit, since dense copies of a large field's weights would fill the memory.
    """
    rows, columns, values = [], [], []
    for unit, (mask, weight) in enumerate(zip(masks, weights, strict=True)):
        pixels = np.flatnonzero(mask)
        value = np.maximum(weight.ravel()[pixels], 0).astype(np.float64)
        if not value.any():
            if len(pixels) == 0:
                raise ValueError(f"mask of unit {unit} has no pixel")
            value[:] = 1
        rows.append(np.full(len(pixels), unit))
        columns.append(pixels)
        values.append(value)
    places = (np.concatenate(rows), np.concatenate(columns))
    return sparse.csr_matrix((np.concatenate(values), places), shape=(len(masks), masks[0].size))


def _demix(traces: NDArray, reader: sparse.csr_matrix, footprints: sparse.csr_matrix) -> NDArray:
    """Solve trace = mixing @ own for units that share pixels; medians stay where they are.

    Unit j lights up pixel p in proportion to its weight there, so that reader i sees
    sum_p reader[i, p] footprints[j, p] of it, relative to what reader j sees.
    """
    mixing = np.asarray((reader @ footprints.T).todense())
    mixing /= np.maximum(np.diag(mixing), 1e-12)[None]
    if np.count_nonzero(mixing) == len(mixing):
        return traces
    level = np.median(traces, axis=1, keepdims=True)
    # units that are the same pixels cannot be told apart: keep the system well conditioned
    identity = np.eye(len(mixing))
    stable = (mixing + 0.02 * identity) / 1.02
    return level + np.linalg.solve(stable, traces - level)


def running_baseline(
    traces: NDArray, fps: float, *, window_s: float = 60.0, percentile: float = 20.0
) -> NDArray[np.float32]:
    """Return a slow baseline of each trace: a running percentile of block means, interpolated.

    Parameters
    ----------
    traces : array, shape (units, frames)
    fps : float
        Frames per second (Hz).
    window_s : float
        Width of the running window (s).
    percentile : float
    """
    block = max(1, round(fps))
    count = max(1, traces.shape[1] // block)
    edges = np.linspace(0, traces.shape[1], count + 1).astype(int)
    means = np.add.reduceat(traces, edges[:-1], axis=1) / np.diff(edges)
    width = max(1, min(count, round(window_s * fps / block)))
    low = percentile_filter(means, percentile, size=(1, width), mode="nearest")
    centers = (edges[:-1] + edges[1:] - 1) / 2
    frames = np.arange(traces.shape[1])
    return np.stack([np.interp(frames, centers, row) for row in low]).astype(np.float32)


def relative_change(traces: NDArray, fps: float, **baseline: float) -> NDArray[np.float32]:
    """Return dF/F: departure from the running baseline, in units of the baseline."""
    low = running_baseline(traces, fps, **baseline)
    floor = np.maximum(np.abs(np.median(traces, axis=1, keepdims=True)) * 0.05, 1e-6)
    return ((traces - low) / np.maximum(low, floor)).astype(np.float32)
