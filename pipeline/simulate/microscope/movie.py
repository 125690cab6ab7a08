"""Two-photon frames: footprints times activity, moved, scanned line by line, counted as photons."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numba
import numpy as np
from numpy.typing import NDArray
from scipy.stats import gamma

from .tissue import FieldImage

QUANTILES = 4096
LEVELS = 1024
MAX_PHOTONS = 400.0


@dataclass(frozen=True)
class Detector:
    """Photomultiplier and digitiser.

    Parameters
    ----------
    photons : float
        Mean photons per pixel and frame from neuropil at rest.
    gain : float
        Digitiser counts per photon.
    gain_cv : float
        Coefficient of variation of the pulse height of one photon.
    offset, read_sd : float
        Digitiser offset and noise (counts).
    """

    photons: float = 0.65
    gain: float = 40.0
    gain_cv: float = 0.5
    offset: float = 20.0
    read_sd: float = 12.0


@lru_cache(maxsize=4)
def noise_table(detector: Detector) -> NDArray[np.int16]:
    """Tabulate the detector's quantile function, shape (LEVELS, QUANTILES).

    Row k is the distribution of counts at ``(k / (LEVELS - 1))^2 * MAX_PHOTONS`` expected photons:
    a compound Poisson sum of gamma pulses plus normal noise, from its characteristic function.
    """
    top = detector.gain * (MAX_PHOTONS + 8 * np.sqrt(MAX_PHOTONS * (1 + detector.gain_cv**2)))
    low = -10 * detector.read_sd
    n = 1 << int(np.ceil(np.log2((top - low) * 1.05)))
    # pulse heights in whole counts, as the digitiser sees them
    shape = 1 / detector.gain_cv**2
    edges = np.arange(n + 1) - 0.5
    pulse = np.diff(gamma.cdf(edges, shape, scale=detector.gain / shape))
    phi = np.fft.rfft(pulse)
    frequency = 2 * np.pi * np.arange(len(phi)) / n
    noise = np.exp(-0.5 * (detector.read_sd * frequency) ** 2 + 1j * frequency * low)
    table = np.empty((LEVELS, QUANTILES), np.int16)
    wanted = (np.arange(QUANTILES) + 0.5) / QUANTILES
    for level in range(LEVELS):
        mean = (level / (LEVELS - 1)) ** 2 * MAX_PHOTONS
        density = np.fft.irfft(np.exp(mean * (phi - 1)) * noise, n)
        cdf = np.cumsum(np.maximum(density, 0))
        counts = np.searchsorted(cdf / cdf[-1], wanted) + low + detector.offset
        table[level] = np.clip(np.round(counts), -32768, 32767)
    return table


@numba.njit(cache=True, inline="always")
def _mix_bits(x):
    """One step of splitmix64: 64 random bits for every counter."""
    x = (x + np.uint64(0x9E3779B97F4A7C15)) & np.uint64(0xFFFFFFFFFFFFFFFF)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@numba.njit(cache=True, inline="always")
def _cubic(t):
    """Catmull-Rom weights of the four samples around fraction t."""
    return (
        np.float32(((-0.5 * t + 1.0) * t - 0.5) * t),
        np.float32((1.5 * t - 2.5) * t * t + 1.0),
        np.float32(((-1.5 * t + 2.0) * t + 0.5) * t),
        np.float32((0.5 * t - 0.5) * t * t),
    )


@numba.njit(cache=True, fastmath=False)
def _render(
    static,
    modes,
    mode_activity,
    start,
    pixel,
    weight,
    cell_activity,
    shift_y,
    shift_x,
    height,
    width,
    margin,
    photons,
    table,
    seed,
    first_frame,
    out,
):
    n_frames, canvas_w = out.shape[0], static.shape[1]
    light = np.empty(static.size, np.float32)
    row = np.empty(canvas_w, np.float32)
    resting = static.ravel()
    grid = light.reshape(static.shape)
    scale = np.float32((table.shape[0] - 1) / np.sqrt(MAX_PHOTONS))
    top = np.float32(table.shape[0] - 1.001)
    for t in range(n_frames):
        light[:] = resting
        for k in range(modes.shape[0]):
            a = mode_activity[t, k]
            for p in range(light.size):
                light[p] += a * modes[k, p]
        for c in range(len(start) - 1):
            a = cell_activity[t, c]
            for j in range(start[c], start[c + 1]):
                light[pixel[j]] += a * weight[j]
        base = _mix_bits(np.uint64(seed) + np.uint64(first_frame + t) * np.uint64(0x9E3779B1))
        for r in range(height):
            y = r + margin - shift_y[t, r]
            iy = int(np.floor(y))
            a0, a1, a2, a3 = _cubic(y - iy)
            x = margin - shift_x[t, r]
            ix = int(np.floor(x))
            b0, b1, b2, b3 = _cubic(x - ix)
            for c in range(ix - 1, ix + width + 2):
                row[c] = (
                    a0 * grid[iy - 1, c]
                    + a1 * grid[iy, c]
                    + a2 * grid[iy + 1, c]
                    + a3 * grid[iy + 2, c]
                )
            for c in range(width):
                s = c + ix
                value = b0 * row[s - 1] + b1 * row[s] + b2 * row[s + 1] + b3 * row[s + 2]
                value = max(value, np.float32(0.0)) * photons
                bits = _mix_bits(base + np.uint64(r * width + c))
                # levels between two rows of the table are drawn in proportion
                dither = np.float32((bits >> np.uint64(40)) & np.uint64(0xFFFF)) * np.float32(
                    1.0 / 65536.0
                )
                level = min(np.sqrt(value) * scale + dither, top)
                out[t, r, c] = table[int(level), int(bits & np.uint64(4095))]


def render_frames(
    field: FieldImage,
    detector: Detector,
    mode_activity: NDArray,
    cell_activity: NDArray,
    shift_y: NDArray,
    shift_x: NDArray,
    *,
    seed: int,
    first_frame: int,
) -> NDArray[np.int16]:
    """Render a stretch of frames; the result does not depend on how a movie is cut.

    Parameters
    ----------
    mode_activity : array, shape (frames, modes)
        Relative change of the neuropil.
    cell_activity : array, shape (frames, cells)
        Fluorescence of every cell relative to its baseline (1 at rest).
    shift_y, shift_x : array, shape (frames, rows)
        Displacement of the content on every line, down and right positive (px).
    seed : int
        Photon noise.
    first_frame : int
        Index of the first frame in the movie.

    Returns
    -------
    array, shape (frames, H, W), int16
    """
    reach = max(np.abs(shift_y).max(), np.abs(shift_x).max())
    if reach > field.margin_px - 3:
        raise ValueError(f"shift of {reach:.1f} px leaves a margin of {field.margin_px} px")
    out = np.empty((len(cell_activity), *field.shape), np.int16)
    _render(
        field.static,
        field.modes,
        np.ascontiguousarray(mode_activity, np.float32),
        field.start,
        field.pixel,
        field.weight,
        np.ascontiguousarray(cell_activity, np.float32),
        np.ascontiguousarray(shift_y, np.float64),
        np.ascontiguousarray(shift_x, np.float64),
        field.shape[0],
        field.shape[1],
        field.margin_px,
        np.float32(detector.photons),
        noise_table(detector),
        np.uint64(seed),
        first_frame,
        out,
    )
    return out
