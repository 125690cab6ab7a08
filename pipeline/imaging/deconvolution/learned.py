"""Deconvolution by a network trained on simulated recordings."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .baseline import prepare
from .indicators import resolve
from .result import DeconvolutionResult, checked_traces, deconvolvers

if TYPE_CHECKING:
    from .network import SpikeNetwork

WEIGHTS = Path(__file__).with_name("network.safetensors")
BLOCK = 65_536  # (unit, frame) samples in memory at a time


@lru_cache(maxsize=2)
def load_network(path: Path = WEIGHTS) -> SpikeNetwork:
    """Return the network with its trained weights."""
    from safetensors.torch import load_file

    from .network import SpikeNetwork

    network = SpikeNetwork()
    network.load_state_dict(load_file(path))
    return network.eval().requires_grad_(False)


@deconvolvers.register("network", default=True)
def network(
    fluorescence: NDArray,
    fps: float,
    *,
    indicator: str | None = None,
    rise_s: float | None = None,
    decay_s: float | None = None,
    baseline_s: float = 60.0,
    baseline_percentile: float = 20.0,
) -> DeconvolutionResult:
    """Infer expected spikes with a small network that has seen simulated recordings only.

    Parameters
    ----------
    fluorescence : array, shape (units, frames)
        Any units, any offset; NaN in missing frames.
    fps : float
        Frames per second; trained from 4 to 60.
    indicator : str, optional
        Name in `indicators.INDICATORS`, for its rise and decay.
    rise_s, decay_s : float, optional
        Time constants (s). What is not given the network judges from the unit's own trace.
    baseline_s, baseline_percentile : float
        Window (s) and percentile of the running baseline.

    Returns
    -------
    DeconvolutionResult
        Activity is the expected number of spikes per frame; its scale is a guess for each unit,
        since amplitude per spike and number of spikes cannot be told apart for certain.

    Raises
    ------
    DataError
        If the traces are not (units, frames) or the frame rate is not positive.
    ValueError
        If a time constant is out of range or the indicator unknown.
    """
    import torch

    from .network import describe

    traces = checked_traces(fluorescence, fps)
    rise_s, decay_s = resolve(indicator, rise_s, decay_s)
    ready = prepare(traces, fps, window_s=baseline_s, percentile=baseline_percentile)
    units, frames = ready.normal.shape
    activity = np.zeros((units, frames), np.float32)
    denoised = np.array(ready.baseline)
    model = load_network()
    alive = np.flatnonzero(ready.noise > 0)
    count = max(1, BLOCK // max(frames, 1))
    for first in range(0, len(alive), count):
        block = alive[first : first + count]
        normal = ready.normal[block]
        told = describe(normal, fps, rise_s, decay_s)
        with torch.inference_mode():
            rate, clean = model(torch.from_numpy(normal), torch.from_numpy(told), float(fps))
        activity[block] = rate.numpy()
        middle = np.median(normal - clean.numpy(), axis=1, keepdims=True)
        denoised[block] += ready.noise[block, None] * (clean.numpy() + middle)
    activity[~ready.valid] = 0
    unknown = np.full(units, np.nan, np.float32)
    return DeconvolutionResult(
        activity=activity,
        denoised=denoised,
        noise=ready.noise,
        rise_s=unknown if rise_s is None else np.full(units, rise_s, np.float32),
        decay_s=unknown.copy() if decay_s is None else np.full(units, decay_s, np.float32),
        activity_unit="spikes/frame",
    )
