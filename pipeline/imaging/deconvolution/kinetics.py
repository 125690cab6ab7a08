"""Kinetics that explain a trace best, given a first guess of the activity."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from .rise import frame_kernel

RISES_S = (0.003, 0.01, 0.02, 0.04, 0.07, 0.11)
DECAYS_S = (0.06, 0.10, 0.15, 0.20, 0.30, 0.45, 0.70, 1.10)
LEAST_FIT = 0.2  # correlation of model and trace below which nothing is said about kinetics


def judge_kinetics(
    activity: NDArray[np.float32],
    normal: NDArray[np.float32],
    fps: float,
    *,
    rise_s: float | None = None,
    decay_s: float | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return rise and decay (s) of the transient that makes the trace out of the activity.

    One unit at a time, from a grid: activity convolved with each kernel is correlated with the
    trace.

    Parameters
    ----------
    activity, normal : array, shape (units, frames)
    fps : float
    rise_s, decay_s : float, optional
        What is known, and is not looked for.

    Returns
    -------
    rise_s, decay_s : array, shape (units,)
        NaN where no kernel explains the trace.
    """
    units, frames = normal.shape
    best = np.full(units, LEAST_FIT)
    rise, decay = np.full((2, units), np.nan)
    if frames < 2:
        return rise, decay
    size = fft.next_fast_len(2 * frames, real=True)
    spectrum = fft.rfft(activity, size, axis=1)
    trace = normal - normal.mean(axis=1, keepdims=True)
    trace /= np.maximum(np.linalg.norm(trace, axis=1, keepdims=True), 1e-12)
    for one in RISES_S if rise_s is None else (rise_s,):
        for other in DECAYS_S if decay_s is None else (decay_s,):
            if one >= other / 2:
                continue
            kernel = frame_kernel(one, other, fps)[:frames].astype(np.float32)
            model = fft.irfft(spectrum * fft.rfft(kernel, size), size, axis=1)[:, :frames]
            model -= model.mean(axis=1, keepdims=True)
            fit = np.einsum("uf,uf->u", model, trace)
            fit /= np.maximum(np.linalg.norm(model, axis=1), 1e-12)
            better = fit > best
            best[better], rise[better], decay[better] = fit[better], one, other
    return rise, decay
