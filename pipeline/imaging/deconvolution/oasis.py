"""OASIS: sparse non-negative deconvolution of autoregressive calcium, AR(1) and AR(2)."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .ar import in_trace_units, pooled
from .baseline import Prepared, prepare
from .indicators import Indicator, estimate_decay, estimate_rise_decay, resolve
from .result import DeconvolutionResult, checked_traces, deconvolvers, over_units

CONSTRAINTS = ("soft", "hard", "noise")


def _run(
    ready: Prepared,
    fps: float,
    rise_s: NDArray | None,
    decay_s: NDArray,
    constraint: str,
    sparsity: float,
    min_jump: float,
) -> DeconvolutionResult:
    if constraint not in CONSTRAINTS:
        raise ValueError(f"constraint {constraint!r} is none of {CONSTRAINTS}")
    if sparsity < 0 or min_jump < 0:
        raise ValueError(f"sparsity {sparsity} and min_jump {min_jump} must not be negative")
    units = len(ready.normal)
    slow = np.exp(-1 / (fps * np.broadcast_to(decay_s, (units,)).astype(np.float64)))
    fast = np.zeros(units)
    peak = np.ones(units)
    if rise_s is not None:
        rise_s = np.broadcast_to(rise_s, (units,)).astype(np.float64)
        fast = np.exp(-1 / (fps * rise_s))
        fast = np.where(fast < 1e-6, 0.0, np.minimum(fast, 0.999 * slow))
        k = np.arange(max(2, int(np.ceil(2 * fps * decay_s.max(initial=0.1)))))[:, None]
        peak = ((slow ** (k + 1) - fast ** (k + 1)) / (slow - fast)).max(axis=0)
    calcium, jumps = np.empty_like(ready.normal), np.empty_like(ready.normal)
    height = (ready.noise * peak).astype(np.float32)
    penalty = float(sparsity) if constraint == "soft" else 0.0
    least = float(min_jump) if constraint == "hard" else 0.0

    def work(block: slice) -> None:
        pooled(
            ready.normal[block],
            slow[block],
            fast[block],
            penalty,
            least,
            constraint == "noise",
            calcium[block],
            jumps[block],
        )
        in_trace_units(
            calcium[block],
            jumps[block],
            ready.baseline[block],
            ready.noise[block],
            height[block],
            ready.valid[block],
        )

    if ready.normal.shape[1]:
        over_units(work, units)
        jumps[ready.missing] = np.nan
    return DeconvolutionResult(
        activity=jumps,
        denoised=calcium,
        noise=ready.noise,
        rise_s=np.full(units, np.nan, np.float32) if rise_s is None else rise_s.astype(np.float32),
        decay_s=np.broadcast_to(decay_s, (units,)).astype(np.float32),
        activity_unit="trace/frame",
    )


@deconvolvers.register("oasis_ar1", revision=2)
def oasis_ar1(
    fluorescence: NDArray,
    fps: float,
    *,
    indicator: Indicator = None,
    decay_s: float | None = None,
    constraint: Literal["soft", "hard", "noise"] = "soft",
    sparsity: float = 0.0,
    min_jump: float = 3.0,
    baseline_s: float = 60.0,
    baseline_percentile: float = 20.0,
) -> DeconvolutionResult:
    """Fit a sum of sudden jumps that decay exponentially.

    Parameters
    ----------
    fluorescence : array, shape (units, frames)
        Any units, any offset; NaN in missing frames.
    fps : float
        Frames per second.
    indicator : str, optional
        Name in `indicators.INDICATORS`, from which the decay is taken.
    decay_s : float, optional
        Decay time constant (s); estimated from every unit's autocovariance if neither is given.
    constraint : str
        "soft": jumps >= 0 with penalty `sparsity`; "hard": a jump is 0 or >= `min_jump`; "noise":
        the sparsest fit whose residual is the noise.
    sparsity, min_jump : float
        In units of the trace's noise.
    baseline_s, baseline_percentile : float
        Window (s) and percentile of the running baseline.

    Returns
    -------
    DeconvolutionResult
        Activity is the jump of the trace (trace units per frame). Without a rise in the model,
        activity follows the spikes of a slow indicator by tens of milliseconds.

    Raises
    ------
    DataError
        If the traces are not (units, frames) or the frame rate is not positive.
    ValueError
        If a parameter is out of range.

    References
    ----------
    Friedrich, Zhou, Paninski (2017), PLoS Computational Biology, doi:10.1371/journal.pcbi.1005423
    """
    traces = checked_traces(fluorescence, fps)
    _, given = resolve(indicator, None, decay_s)
    ready = prepare(traces, fps, window_s=baseline_s, percentile=baseline_percentile)
    decay = estimate_decay(ready.normal, fps) if given is None else np.full(len(traces), given)
    return _run(ready, fps, None, decay, constraint, sparsity, min_jump)


@deconvolvers.register("oasis_ar2", revision=2)
def oasis_ar2(
    fluorescence: NDArray,
    fps: float,
    *,
    indicator: Indicator = None,
    rise_s: float | None = None,
    decay_s: float | None = None,
    constraint: Literal["soft", "hard", "noise"] = "soft",
    sparsity: float = 0.0,
    min_jump: float = 3.0,
    baseline_s: float = 60.0,
    baseline_percentile: float = 20.0,
) -> DeconvolutionResult:
    """Fit a sum of transients that rise and decay exponentially.

    The pooling solution is exact for AR(1) and a good approximation for AR(2).

    Parameters
    ----------
    fluorescence, fps, indicator, decay_s, constraint, sparsity, min_jump, baseline_s,
    baseline_percentile
        See `oasis_ar1`.
    rise_s : float, optional
        Rise time constant (s). What of rise and decay is neither given nor known from the
        indicator is estimated from every unit's autocovariance.

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
    """
    traces = checked_traces(fluorescence, fps)
    rise_given, decay_given = resolve(indicator, rise_s, decay_s)
    ready = prepare(traces, fps, window_s=baseline_s, percentile=baseline_percentile)
    rise, decay = np.full(len(traces), rise_given), np.full(len(traces), decay_given)
    if rise_given is None or decay_given is None:
        rise_found, decay_found = estimate_rise_decay(ready.normal, fps)
        decay = decay_found if decay_given is None else decay
        rise = np.minimum(rise_found, 0.9 * decay) if rise_given is None else rise
        rise = np.minimum(rise, 0.9 * decay)
    return _run(ready, fps, rise.astype(float), decay.astype(float), constraint, sparsity, min_jump)
