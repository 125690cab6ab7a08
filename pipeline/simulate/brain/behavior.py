"""What the animal does: pupil, gaze, blinks and running over time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.signal import lfilter

from .population import PUPIL_RADIUS_PX

STATE_HZ = 20.0  # at which the state of the animal is drawn
DRIFT_S, DRIFT_STEP_S = 1500.0, 30.0  # time constant of a cell's own gain, and its samples


@dataclass(frozen=True)
class AnimalState:
    """State of the animal at `STATE_HZ`; arrays of shape (samples,)."""

    time_s: NDArray[np.float64]
    radius_px: NDArray[np.float64]
    center_x_px: NDArray[np.float64]
    center_y_px: NDArray[np.float64]
    lid: NDArray[np.float64]  # 0 open, 1 closed
    speed_cm_s: NDArray[np.float64]

    def at(self, time_s: NDArray, name: str) -> NDArray[np.float64]:
        """Interpolate one of the arrays at given times (s)."""
        return np.interp(time_s, self.time_s, getattr(self, name))

    def behavior(self, time_s: NDArray) -> NDArray[np.float64]:
        """Return (times, 3): pupil radius (px), its derivative (px/s), speed (cm/s)."""
        dilation = np.gradient(gaussian_filter1d(self.radius_px, 4), 1 / STATE_HZ)
        return np.stack(
            [
                self.at(time_s, "radius_px"),
                np.interp(time_s, self.time_s, dilation),
                self.at(time_s, "speed_cm_s"),
            ],
            axis=1,
        )

    def gaze(self, time_s: NDArray) -> NDArray[np.float64]:
        """Return the pupil center (x, y) in eye px, shape (times, 2)."""
        return np.stack([self.at(time_s, "center_x_px"), self.at(time_s, "center_y_px")], axis=1)


def _colored(n: int, tau_s: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Unit-variance first-order process with time constant `tau_s`."""
    keep = np.exp(-1 / (tau_s * STATE_HZ))
    noise = rng.normal(size=n) * np.sqrt(1 - keep**2)
    noise[0] = rng.normal()
    return lfilter([1.0], [1.0, -keep], noise)


def _bouts(n: int, rest_s: float, run_s: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """0 at rest and 1 in bouts of running, exponential durations."""
    state = np.zeros(n)
    at, running = 0, False
    while at < n:
        length = max(1, int(rng.exponential(run_s if running else rest_s) * STATE_HZ))
        state[at : at + length] = running
        at, running = at + length, not running
    return state


def simulate_animal(
    duration_s: float,
    rng: np.random.Generator,
    *,
    pupil_mean_px: tuple[float, float] = (80.0, 60.0),
    rest_s: float = 14.0,
    run_s: float = 6.0,
    saccade_hz: float = 0.35,
    blink_hz: float = 0.04,
) -> AnimalState:
    """Draw the animal's state for `duration_s` from time 0 on.

    Running comes in bouts that dilate the pupil; gaze rests between saccades, most of them
    horizontal; blinks last a few hundred milliseconds.
    """
    n = int(np.ceil(duration_s * STATE_HZ)) + 2
    time_s = np.arange(n) / STATE_HZ
    bouts = _bouts(n, rest_s, run_s, rng)
    vigour = np.exp(0.4 * _colored(n, 5.0, rng))
    speed = gaussian_filter1d(bouts * vigour * 11.0, 0.35 * STATE_HZ)
    speed = np.maximum(speed + 0.15 * gaussian_filter1d(rng.normal(size=n), 3), 0)
    arousal = lfilter([1 - (k := np.exp(-1 / (2.5 * STATE_HZ)))], [1, -k], bouts)
    log_radius = 0.16 * _colored(n, 9.0, rng) + 0.05 * _colored(n, 1.0, rng) + 0.30 * arousal
    radius = np.clip(PUPIL_RADIUS_PX * 0.92 * np.exp(log_radius), 7.0, 26.0)
    jumps = rng.random(n) < saccade_hz / STATE_HZ
    jumps[0] = True
    which = np.cumsum(jumps) - 1
    places = rng.normal(0, (2.4, 1.3), size=(which[-1] + 1, 2))
    gaze = gaussian_filter1d(places[which], 0.7, axis=0)
    gaze[:, 0] += 0.5 * _colored(n, 60.0, rng)
    gaze[:, 1] += 0.4 * _colored(n, 60.0, rng)
    lid = np.zeros(n)
    for start in np.flatnonzero(rng.random(n) < blink_hz / STATE_HZ):
        lid[start : start + int(rng.uniform(0.15, 0.45) * STATE_HZ)] = 1
    return AnimalState(
        time_s=time_s,
        radius_px=radius,
        center_x_px=pupil_mean_px[0] + gaze[:, 0],
        center_y_px=pupil_mean_px[1] + gaze[:, 1],
        lid=np.clip(gaussian_filter1d(lid, 0.8) * 1.3, 0, 1),
        speed_cm_s=speed,
    )


def slow_gain(
    time_s: NDArray, sd: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Draw the gain of mean 1 that wanders over a session, every cell its own.

    Parameters
    ----------
    time_s : array, shape (times,)
        Rising.
    sd : array, shape (units,)
        Of the log of the gain, over sessions.
    rng : Generator

    Returns
    -------
    array, shape (times, units)
    """
    steps = int(np.ceil((time_s[-1] - time_s[0]) / DRIFT_STEP_S)) + 2
    keep = np.exp(-DRIFT_STEP_S / DRIFT_S)
    noise = rng.normal(size=(steps, len(sd)))
    noise[1:] *= np.sqrt(1 - keep**2)
    walk = lfilter([1.0], [1.0, -keep], noise, axis=0)
    place = (time_s - time_s[0]) / DRIFT_STEP_S
    low = np.minimum(place.astype(int), steps - 2)
    part = (place - low)[:, None]
    log_gain = sd * ((1 - part) * walk[low] + part * walk[low + 1])
    return np.exp(log_gain - sd**2 / 2).astype(np.float32)
