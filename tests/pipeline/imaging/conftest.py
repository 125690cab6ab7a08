"""A small two-photon movie of known cells, motion and raster offset, written for these tests only.

Everything is made by formulas of its own (Fourier shifts, sums of Gaussians), nothing is taken from
`pipeline`, so that code and truth cannot share a mistake.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, gaussian_filter1d


@dataclass
class Simulated:
    movie: np.ndarray  # (frames, H, W) int16
    fps: float
    y: np.ndarray  # displacement of the content (frames)
    x: np.ndarray
    raster_px: float
    masks: np.ndarray  # (cells, H, W) bool
    traces: np.ndarray  # (cells, frames) dF/F
    active: np.ndarray  # (cells,) bool
    clean: np.ndarray | None = None


def fourier_shift(frames, y, x):
    height, width = frames.shape[1:]
    spectrum = np.fft.rfft2(frames)
    phase_y = np.exp(-2j * np.pi * np.fft.fftfreq(height)[None] * np.asarray(y)[:, None])
    phase_x = np.exp(-2j * np.pi * np.fft.rfftfreq(width)[None] * np.asarray(x)[:, None])
    return np.fft.irfft2(spectrum * phase_y[:, :, None] * phase_x[:, None], s=(height, width))


def simulate(
    *,
    seed=0,
    size=128,
    frames=1000,
    fps=10.0,
    cells=40,
    diameter=11.0,
    photons=25.0,
    motion_px=1.0,
    raster_px=1.7,
    silent=0.15,
    amplitude=0.8,
    neuropil=0.25,
    gain=20.0,
    donut=0.5,
    rate=0.15,
):
    rng = np.random.default_rng(seed)
    pad = 12
    side = size + 2 * pad
    rows, columns = np.mgrid[:side, :side]
    base = gaussian_filter(rng.normal(size=(side, side)), 12)
    base = 0.7 + 0.25 * base / base.std()
    base += 0.25 * gaussian_filter(rng.normal(size=(side, side)), 1.5) * 5
    for _ in range(3):  # vessels
        angle, place = rng.uniform(0, np.pi), rng.uniform(0.2, 0.8, 2) * side
        distance = (rows - place[0]) * np.cos(angle) + (columns - place[1]) * np.sin(angle)
        base *= 1 - 0.7 * np.exp(-0.5 * (distance / 2.5) ** 2)
    base = np.maximum(base, 0.15)
    centers, profiles, masks = [], [], []
    tries = 0
    while len(centers) < cells and tries < 20000:
        tries += 1
        place = rng.uniform(pad + 2, side - pad - 2, 2)
        apart = 0.75 * diameter
        if any(np.hypot(*(place - other)) < apart for other in centers):
            continue
        radius = diameter / 2 * rng.uniform(0.8, 1.2)
        stretch, angle = rng.uniform(0.85, 1.15), rng.uniform(0, np.pi)
        dy, dx = rows - place[0], columns - place[1]
        u = (dy * np.cos(angle) + dx * np.sin(angle)) * stretch
        v = (-dy * np.sin(angle) + dx * np.cos(angle)) / stretch
        r = np.hypot(u, v) / radius
        profile = (r < 1).astype(float)
        if rng.random() < donut:
            profile -= 0.75 * (r < 0.55)
        profiles.append(gaussian_filter(profile, 0.7))
        masks.append(r < 1)
        centers.append(place)
    profiles, masks = np.array(profiles), np.array(masks)
    n_cells = len(profiles)
    time = np.arange(0, 8, 1 / fps)
    kernel = np.exp(-time / 1.0) - np.exp(-time / 0.15)
    kernel /= kernel.max()
    active = rng.random(n_cells) > silent
    rates = rate * rng.lognormal(0, 0.6, n_cells) * active
    burst = np.exp(gaussian_filter1d(rng.normal(size=(n_cells, frames)), fps * 0.5, axis=1) * 3)
    spikes = rng.poisson(rates[:, None] * burst / fps * (burst > 1))
    traces = np.array([np.convolve(s, kernel)[:frames] for s in spikes]) * amplitude
    resting = 1.0 * rng.uniform(0.5, 1.2, n_cells)
    common = gaussian_filter1d(rng.normal(size=(12, frames)), fps * 0.4, axis=1)
    common = np.abs(common / common.std()) * neuropil
    modes = np.array([gaussian_filter(rng.normal(size=(side, side)), 15) for _ in range(12)])
    modes = np.maximum(modes / modes.std() * 0.35 + 0.3, 0)
    y, x = (
        gaussian_filter1d(rng.normal(size=frames), 4)
        + 0.3 * gaussian_filter1d(rng.normal(size=frames), 1)
        for _ in range(2)
    )
    y, x = (motion_px * values / values.std() / np.sqrt(2) for values in (y, x))
    movie = np.empty((frames, size, size), np.int16)
    flat = profiles.reshape(n_cells, -1)
    for start in range(0, frames, 200):
        part = slice(start, start + 200)
        change = (resting[:, None] * (0.4 + traces[:, part])).T @ flat
        scene = base + change.reshape(-1, side, side) * 0.9
        scene += np.tensordot(common[:, part].T, modes, 1) * base
        scene = fourier_shift(scene, y[part], x[part])
        if raster_px:
            odd = np.fft.rfft(scene[:, 1::2], axis=2)
            odd *= np.exp(-2j * np.pi * np.fft.rfftfreq(side) * raster_px)
            scene[:, 1::2] = np.fft.irfft(odd, n=side, axis=2)
        scene = np.maximum(scene[:, pad:-pad, pad:-pad], 0.02)
        counts = rng.poisson(scene * photons)
        movie[part] = np.clip(counts * gain + rng.normal(0, 10, counts.shape) + 100, -32768, 32767)
    cut = np.s_[:, pad:-pad, pad:-pad]
    return Simulated(movie, fps, y, x, raster_px, masks[cut], traces, active)


@pytest.fixture(scope="session")
def recording():
    return simulate(seed=1, size=128, frames=1200)


@pytest.fixture(scope="session")
def simulator():
    return simulate
