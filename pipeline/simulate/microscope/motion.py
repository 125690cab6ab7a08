"""How the brain moves under the objective."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter


@dataclass(frozen=True)
class Motion:
    """Displacement of the content (px), down and right positive."""

    shifts_y: NDArray[np.float64]  # (frames,) mean over the lines
    shifts_x: NDArray[np.float64]
    warp_y: NDArray[np.float64]  # (frames, 2) cosine and sine part along the lines
    warp_x: NDArray[np.float64]

    def lines(self, frames: slice, height: int) -> tuple[NDArray, NDArray]:
        """Return displacement y and x of every line, each (frames, height)."""
        phase = 2 * np.pi * np.arange(height) / height
        wave = np.stack([np.cos(phase), np.sin(phase)])  # zero mean: the frame's shift stays
        return (
            self.shifts_y[frames, None] + self.warp_y[frames] @ wave,
            self.shifts_x[frames, None] + self.warp_x[frames] @ wave,
        )


def _process(n: int, tau: float, rng: np.random.Generator) -> NDArray[np.float64]:
    keep = np.exp(-1 / max(tau, 1e-6))
    noise = rng.normal(size=n) * np.sqrt(1 - keep**2)
    noise[0] = rng.normal()
    return lfilter([1.0], [1.0, -keep], noise)


def draw_motion(
    speed_cm_s: NDArray,
    fps: float,
    rng: np.random.Generator,
    *,
    drift_px: float = 1.0,
    jitter_px: float = 0.12,
    running_px: float = 1.5,
    jerk_hz: float = 0.25,
    nonrigid_px: float = 0.0,
    limit_px: float = 9.0,
) -> Motion:
    """Draw slow drift, jitter, and sway and jerks while running.

    Parameters
    ----------
    speed_cm_s : array, shape (frames,)
        Running speed.
    drift_px, jitter_px, running_px : float
        Standard deviation of drift over minutes, of breathing and heart beat, and of sway at full
        speed; along y, somewhat less along x.
    jerk_hz : float
        Jerks per second of running, 2-5 px for a few frames.
    nonrigid_px : float
        Standard deviation of displacement between the lines of a frame.
    limit_px : float
        Largest displacement.
    """
    n = len(speed_cm_s)
    effort = np.clip(speed_cm_s / 10, 0, 1)
    jerks = np.zeros((n, 2))
    for start in np.flatnonzero(rng.random(n) < jerk_hz / fps * (effort > 0.3)):
        angle, size = rng.uniform(0, 2 * np.pi), rng.uniform(2, 5)
        fade = np.exp(-np.arange(max(2, int(0.5 * fps))) / max(1.0, 0.12 * fps))[: n - start]
        jerks[start : start + len(fade)] += (
            size * fade[:, None] * [np.sin(angle), 0.7 * np.cos(angle)]
        )
    shifts = []
    for axis, share in enumerate((1.0, 0.7)):
        drift = drift_px * _process(n, 240 * fps, rng)
        jitter = jitter_px * _process(n, 0.15 * fps, rng)
        sway = running_px * effort * _process(n, 0.35 * fps, rng)
        total = share * (drift + sway) + jitter + jerks[:, axis]
        shifts.append(np.clip(total, -limit_px, limit_px))
    warps = [
        nonrigid_px * np.stack([_process(n, 0.5 * fps, rng) for _ in range(2)], axis=1)
        for _ in range(2)
    ]
    return Motion(shifts[0], shifts[1], warps[0], warps[1])
