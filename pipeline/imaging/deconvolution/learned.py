"""Deconvolution by a network trained on simulated recordings."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .baseline import prepare
from .indicators import Indicator, resolve
from .kinetics import judge_kinetics
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


@deconvolvers.register("network", default=True, revision=3)
def network(
    fluorescence: NDArray,
    fps: float,
    *,
    indicator: Indicator = None,
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
        Time constants (s). What is not given is judged from the unit's own trace: by the network,
        and then by what makes the trace out of the activity that it found (`judge_kinetics`); with
        that the network is asked again.
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
    used = np.full((2, units), np.nan, np.float32)
    model = load_network()
    alive = np.flatnonzero(ready.noise > 0)
    count = max(1, BLOCK // max(frames, 1))

    def ask(normal: NDArray, told: NDArray) -> tuple[NDArray, NDArray]:
        with torch.inference_mode():
            answer = model(torch.from_numpy(normal), torch.from_numpy(told), float(fps))
        return answer[0].numpy(), answer[1].numpy()

    for first in range(0, len(alive), count):
        block = alive[first : first + count]
        normal = ready.normal[block]
        told = describe(normal, fps, rise_s, decay_s)
        rate, clean = ask(normal, told)
        kinetics = np.array([[rise_s or np.nan], [decay_s or np.nan]]).repeat(len(block), axis=1)
        if rise_s is None or decay_s is None:
            judged = np.array(judge_kinetics(rate, normal, fps, rise_s=rise_s, decay_s=decay_s))
            known = np.isfinite(judged).all(axis=0)
            if known.any():
                kinetics[:, known] = judged[:, known]
                told[known] = describe(normal[known], fps, *judged[:, known])
                rate[known], clean[known] = ask(normal[known], told[known])
        used[:, block] = kinetics
        activity[block] = rate
        middle = np.median(normal - clean, axis=1, keepdims=True)
        denoised[block] += ready.noise[block, None] * (clean + middle)
    activity[~ready.valid] = 0
    activity[ready.missing] = np.nan
    return DeconvolutionResult(
        activity=activity,
        denoised=denoised,
        noise=ready.noise,
        rise_s=used[0],
        decay_s=used[1],
        activity_unit="spikes/frame",
    )
