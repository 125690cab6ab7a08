"""Non-negative deconvolution by a kernel with a rise, as frames see it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from .baseline import prepare
from .indicators import Indicator, estimate_decay, resolve
from .result import DeconvolutionResult, checked_traces, deconvolvers

FINE = 20  # steps of the kernel's integration per frame
RISE_SHARE = 0.065  # of the decay, as in GCaMP6f, 6m and 6s
BLOCK = 4_000_000  # (unit, frame) samples in memory at a time


def frame_kernel(rise_s: float, decay_s: float, fps: float) -> NDArray[np.float64]:
    """Return the mean response of frames 0, 1, ... to one action potential somewhere in frame 0.

    The difference of exponentials, of peak 1, averaged over the time of the action potential in its
    frame and over the exposure of the frame: in frame 0 little is seen yet. Sampling at the starts
    of frames, as AR models do, makes activity late.
    """
    steps = int(np.ceil(6 * decay_s * fps)) * FINE + FINE
    t = (np.arange(steps) + 0.5) / (fps * FINE)
    response = np.exp(-t / decay_s) - np.exp(-t / rise_s)
    response /= response.max()
    exposed = np.convolve(response, np.ones(FINE) / FINE)[:steps]
    seen = np.convolve(exposed, np.ones(FINE) / FINE)[:steps]
    return seen[FINE - 1 :: FINE]


def _descend(
    data: NDArray[np.float32], kernel: NDArray, penalty: float, iterations: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Minimize |data - kernel * s|^2 / 2 + penalty sum(s), s >= 0, by accelerated gradients."""
    frames = data.shape[1]
    size = fft.next_fast_len(frames + len(kernel), real=True)
    transfer = fft.rfft(kernel, size).astype(np.complex64)
    step = np.float32(1 / np.max(np.abs(transfer)) ** 2)
    projected = fft.irfft(fft.rfft(data, size) * transfer.conj(), size)[:, :frames]
    now, ahead, momentum = np.zeros_like(data), np.zeros_like(data), 1.0
    for _ in range(iterations):
        # the padding keeps the circle open: K'K of what is inside of the recording
        model = fft.irfft(fft.rfft(ahead, size) * transfer, size)
        model[:, frames:] = 0
        slope = fft.irfft(fft.rfft(model, size) * transfer.conj(), size)[:, :frames] - projected
        new = np.maximum(ahead - step * (slope + np.float32(penalty)), 0)
        following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        ahead = new + np.float32((momentum - 1) / following) * (new - now)
        now, momentum = new, following
    return now, fft.irfft(fft.rfft(now, size) * transfer, size)[:, :frames]


@deconvolvers.register("rise", revision=2)
def rise(
    fluorescence: NDArray,
    fps: float,
    *,
    indicator: Indicator = None,
    rise_s: float | None = None,
    decay_s: float | None = None,
    sparsity: float = 1.0,
    iterations: int = 60,
    baseline_s: float = 60.0,
    baseline_percentile: float = 20.0,
) -> DeconvolutionResult:
    """Fit transients with a rise, whose spikes may fall anywhere in a frame.

    Parameters
    ----------
    fluorescence : array, shape (units, frames)
        Any units, any offset; NaN in missing frames.
    fps : float
        Frames per second.
    indicator : str, optional
        Name in `indicators.INDICATORS`, for rise and decay.
    rise_s, decay_s : float, optional
        Time constants (s). A decay neither given nor known from the indicator is the median over
        units of the estimates from their autocovariance: one indicator, one kernel; a rise is then
        `RISE_SHARE` of the decay.
    sparsity : float
        Weight of the sum of activity, in units of the noise.
    iterations : int
        Of accelerated projected gradients.
    baseline_s, baseline_percentile : float
        Window (s) and percentile of the running baseline.

    Returns
    -------
    DeconvolutionResult
        Activity is the height of the transient that starts (trace units per frame).

    Raises
    ------
    DataError
        If the traces are not (units, frames) or the frame rate is not positive.
    ValueError
        If a parameter is out of range.

    References
    ----------
    Beck, Teboulle (2009), SIAM Journal on Imaging Sciences, doi:10.1137/080716542 (the descent)
    """
    traces = checked_traces(fluorescence, fps)
    rise_s, decay_s = resolve(indicator, rise_s, decay_s)
    if sparsity < 0 or iterations < 1:
        raise ValueError(f"sparsity {sparsity} must be >= 0 and iterations {iterations} >= 1")
    ready = prepare(traces, fps, window_s=baseline_s, percentile=baseline_percentile)
    units, frames = ready.normal.shape
    alive = np.flatnonzero(ready.noise > 0)
    if len(alive):
        if decay_s is None:
            decay_s = float(np.median(estimate_decay(ready.normal[alive], fps)))
            decay_s = max(decay_s, 1.1 * rise_s) if rise_s else decay_s
        # an autocovariance cannot tell the rise from the length of bursts
        rise_s = RISE_SHARE * decay_s if rise_s is None else rise_s
        kernel = frame_kernel(rise_s, decay_s, fps)
    activity = np.zeros((units, frames), np.float32)
    denoised = np.array(ready.baseline)
    count = max(1, BLOCK // max(frames, 1))
    for first in range(0, len(alive), count):
        block = alive[first : first + count]
        spikes, calcium = _descend(ready.normal[block], kernel, sparsity, iterations)
        activity[block] = spikes * ready.noise[block, None]
        denoised[block] += calcium * ready.noise[block, None]
    activity[~ready.valid] = 0
    activity[ready.missing] = np.nan
    return DeconvolutionResult(
        activity=activity,
        denoised=denoised,
        noise=ready.noise,
        rise_s=np.full(units, np.nan if rise_s is None else rise_s, np.float32),
        decay_s=np.full(units, np.nan if decay_s is None else decay_s, np.float32),
        activity_unit="trace/frame",
    )
