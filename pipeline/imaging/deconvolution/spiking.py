"""Simulated recordings of random kinetics, from which the network learns.

Nothing is fitted to recordings: ranges are wide enough to hold every indicator in `indicators` and
the noise of two-photon microscopes between a few and sixty frames per second.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

SUBSTEP_S = 0.005  # longest step of the simulation


@dataclass(frozen=True)
class Recording:
    """Simulated units; arrays of shape (units, frames) or (units,)."""

    fps: float
    trace: NDArray[np.float32]  # fluorescence with noise and drift
    clean: NDArray[np.float32]  # without either
    spikes: NDArray[np.float32]  # number from half a frame before to half a frame after a frame
    rise_s: NDArray[np.float64]
    decay_s: NDArray[np.float64]


@numba.njit(cache=True, nogil=True)
def _spike_train(rng, steps, dt, rate, swing, swing_s, epoch_gain, epoch_s, burst, counts):
    """Fill `counts` (steps) of one unit: doubly stochastic, with epochs and bursts."""
    counts[:] = 0
    keep = np.exp(-dt / swing_s)
    kick = np.sqrt(1 - keep * keep)
    state = rng.normal()
    on = rng.random() < 0.5
    left = rng.exponential(epoch_s)
    interval = 0.004 + 0.008 * rng.random()
    for t in range(steps):
        state = keep * state + kick * rng.normal()
        left -= dt
        if left < 0:
            on = not on
            left = epoch_s * (0.5 + rng.random())
        mean = rate * np.exp(swing * state - 0.5 * swing * swing)
        mean *= epoch_gain if on else 1.0 / epoch_gain
        mean = min(mean, 120.0) * dt
        if rng.random() < 1 - np.exp(-mean):
            at = float(t)
            while True:
                place = int(at)
                if place >= steps:
                    break
                counts[place] += 1.0
                if rng.random() >= burst:
                    break
                at += (0.5 * interval + rng.exponential(0.5 * interval)) / dt


@numba.njit(cache=True, nogil=True)
def _record(rng, frames, per_frame, dt, table, exposed, trace, clean, spikes):
    """Fill the arrays of all units from their rows of parameters."""
    lead = int(np.ceil(6.0 / (dt * per_frame)))  # frames before the first: calcium is never at rest
    steps = (frames + lead) * per_frame
    counts = np.zeros(steps)
    for u in range(len(table)):
        (
            rate,
            swing,
            swing_s,
            epoch_gain,
            epoch_s,
            burst,
            rise,
            decay,
            tail,
            tail_s,
            power,
            half,
            jitter,
            noise,
            shot,
            slow,
            slow_s,
            leak,
            dips,
            drift,
            bleach,
            undershoot,
        ) = table[u]
        _spike_train(rng, steps, dt, rate, swing, swing_s, epoch_gain, epoch_s, burst, counts)
        k_rise, k_decay, k_tail = np.exp(-dt / rise), np.exp(-dt / decay), np.exp(-dt / tail_s)
        k_slow, k_under = np.exp(-dt * per_frame / slow_s), np.exp(-dt / (4 * decay))
        ratio = rise / decay
        peak = ratio ** (ratio / (1 - ratio)) - ratio ** (1 / (1 - ratio))
        fast = main = late = under = 0.0
        wander = rng.normal()
        walk = 0.0
        # neighbors: filtered noise with the indicator's own time course
        cloud = 0.0
        middle = (per_frame - 1) / 2
        dip = 0.0
        for f in range(-lead, frames):
            total = weight = number = 0.0
            for j in range(per_frame):
                n = counts[(f + lead) * per_frame + j]
                fast *= k_rise
                main *= k_decay
                late *= k_tail
                under *= k_under
                if n > 0:
                    size = n * max(0.1, 1 + jitter * rng.normal() / np.sqrt(n))
                    fast += size
                    main += size * (1 - tail)
                    late += size * tail
                    under += size
                number += n
                x = max(main + late - fast, 0.0) / peak
                if abs(j - middle) <= exposed * per_frame / 2 + 0.26:
                    raised = x**power
                    y = raised * (1 + half ** (-power)) / (1 + (x / half) ** power)
                    total += y - undershoot * under
                    weight += 1.0
            cloud = cloud * k_decay**per_frame + rng.normal() * np.sqrt(
                1 - k_decay ** (2 * per_frame)
            )
            wander = k_slow * wander + np.sqrt(1 - k_slow * k_slow) * rng.normal()
            if f < 0:
                continue
            walk += drift * rng.normal() * np.sqrt(dt * per_frame)
            y = total / weight
            clean[u, f] = y
            spikes[u, f] = number
            if rng.random() < dips * dt * per_frame:
                dip = (rng.random() - 0.7) * 6 * noise
            dip *= np.exp(-dt * per_frame / 0.15)
            sd = noise * np.sqrt(1 + shot * max(y, 0.0))
            trace[u, f] = (
                y
                + sd * rng.normal()
                + slow * wander
                + leak * cloud
                + walk
                + dip
                + bleach * np.exp(-f * dt * per_frame / 60.0)
            )


def draw(
    rng: np.random.Generator,
    units: int,
    frames: int,
    fps: float,
) -> Recording:
    """Simulate units of random kinetics, firing and noise.

    Parameters
    ----------
    rng : Generator
    units, frames : int
    fps : float
        Frames per second.

    Notes
    -----
    One action potential peaks at 1. Its time course is a difference of exponentials, part of which
    may decay slowly; the sum over action potentials goes through x^p / (1 + (x / h)^p). A frame is
    the mean over a share of the frame's time around its middle.
    """

    def span(low: float, high: float) -> NDArray[np.float64]:
        return np.exp(rng.uniform(np.log(low), np.log(high), units))

    def some(values: NDArray, share: float) -> NDArray[np.float64]:
        return np.where(rng.random(units) < share, values, 0.0)

    per_frame = max(3, int(np.ceil(1 / (fps * SUBSTEP_S)))) | 1  # odd: there is a middle one
    dt = 1 / (fps * per_frame)
    decay = span(0.04, 1.5)
    rise = np.minimum(span(0.002, 0.12), 0.6 * decay)
    # noise for one action potential of height 1 at 30 frames per second
    noise = 1 / span(0.35, 40.0) * np.sqrt(fps / 30)
    table = np.stack(
        [
            np.clip(np.exp(rng.normal(np.log(0.7), 1.1, units)), 0.03, 15),
            some(rng.uniform(0.3, 2.2, units), 0.8),
            span(0.03, 3.0),
            np.where(rng.random(units) < 0.5, span(1.0, 4.0), 1.0),
            span(0.3, 4.0),
            some(rng.uniform(0.05, 0.7, units), 0.6),
            rise,
            decay,
            some(rng.uniform(0.05, 0.45, units), 0.5),
            decay * span(2.0, 8.0),
            1 + some(rng.uniform(0.0, 1.2, units), 0.7),
            span(6.0, 80.0),
            rng.uniform(0.0, 0.35, units),
            noise,
            some(span(0.02, 0.5), 0.6),
            some(noise * span(0.1, 1.5), 0.6),
            span(1.0, 20.0),
            some(noise * span(0.1, 1.2), 0.5),
            some(span(0.01, 0.3), 0.3),
            some(noise * span(0.01, 0.3), 0.6),
            some(noise * rng.normal(0, 2, units), 0.3),
            some(rng.uniform(0.0, 0.04, units), 0.2),
        ],
        axis=1,
    )
    shape = (units, frames)
    trace, clean, spikes = (np.zeros(shape, np.float32) for _ in range(3))
    exposed = float(rng.choice([1.0, 1.0, rng.uniform(0.0, 1.0)]))
    _record(rng, frames, per_frame, dt, table, exposed, trace, clean, spikes)
    return Recording(float(fps), trace, clean, spikes, rise, decay)
