"""The smoothed positive derivative: no model, and hard to beat by one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from .baseline import prepare
from .result import DeconvolutionResult, checked_traces, deconvolvers


@deconvolvers.register("derivative", revision=2)
def derivative(
    fluorescence: NDArray, fps: float, *, smoothing_frames: float = 1.0
) -> DeconvolutionResult:
    """Take the positive part of the derivative of the smoothed trace.

    Parameters
    ----------
    fluorescence : array, shape (units, frames)
        Any units, any offset; NaN in missing frames.
    fps : float
        Frames per second.
    smoothing_frames : float
        Standard deviation of the Gaussian (frames).

    Returns
    -------
    DeconvolutionResult
        Activity in trace units per frame; central differences add no delay.

    Raises
    ------
    DataError
        If the traces are not (units, frames) or the frame rate is not positive.
    """
    traces = checked_traces(fluorescence, fps)
    ready = prepare(traces, fps)
    smooth = ready.normal
    if traces.shape[1]:
        smooth = gaussian_filter1d(ready.normal, smoothing_frames, axis=1)
    slope = np.gradient(smooth, axis=1) if traces.shape[1] > 1 else np.zeros_like(smooth)
    scale = ready.noise[:, None]
    unknown = np.full(len(traces), np.nan, np.float32)
    activity = np.where(ready.valid, np.maximum(slope, 0) * scale, 0).astype(np.float32)
    activity[ready.missing] = np.nan
    return DeconvolutionResult(
        activity=activity,
        denoised=(ready.baseline + scale * smooth).astype(np.float32),
        noise=ready.noise,
        rise_s=unknown,
        decay_s=unknown.copy(),
        activity_unit="trace/frame",
    )
