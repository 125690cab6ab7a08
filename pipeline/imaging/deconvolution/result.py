"""What every deconvolver takes for granted and returns."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.errors import DataError
from pipeline.registry import Registry

deconvolvers = Registry("deconvolver")


@dataclass(frozen=True)
class DeconvolutionResult:
    """Activity of all units of a recording.

    Attributes
    ----------
    activity : array float32, shape (units, frames)
        Non-negative. Frame i holds what happened from half a frame before to half a frame after
        the time at which frame i was exposed: in register with the spikes. In `activity_unit` up
        to one factor per unit; NaN in frames that are missing (NaN in the trace), 0 in units that
        never vary.
    denoised : array float32, shape (units, frames)
        The trace without its noise, with its baseline, in the units of the trace.
    noise : array float32, shape (units,)
        Standard deviation of the frame-to-frame noise, in the units of the trace.
    rise_s, decay_s : array float32, shape (units,)
        Time constants that were used (s); NaN where the method has none.
    activity_unit : str
        "spikes/frame" (expected number, scale learned from simulation) or "trace/frame" (jump of
        the trace in this frame).
    """

    activity: NDArray[np.float32]
    denoised: NDArray[np.float32]
    noise: NDArray[np.float32]
    rise_s: NDArray[np.float32]
    decay_s: NDArray[np.float32]
    activity_unit: str


def checked_traces(fluorescence: ArrayLike, fps: float) -> NDArray:
    """Return the traces as a float array of two axes.

    Raises
    ------
    DataError
        If the array is not (units, frames) or the frame rate is no positive number.
    """
    traces = np.asarray(fluorescence)
    if traces.ndim != 2 or traces.dtype.kind not in "fiu":
        raise DataError(
            "traces cannot be deconvolved",
            field="fluorescence",
            found=f"shape {traces.shape}, {traces.dtype}",
            expected="numbers of shape (units, frames)",
        )
    if not (np.isscalar(fps) or np.ndim(fps) == 0) or not np.isfinite(fps) or fps <= 0:
        raise DataError(
            "frame rate is unusable", field="fps", found=fps, expected="frames per second, > 0"
        )
    return traces


def thread_count() -> int:
    """Return the number of threads that compiled loops may use (NUMBA_NUM_THREADS, else cores)."""
    asked = os.environ.get("NUMBA_NUM_THREADS", "")
    if asked.isdigit() and int(asked) > 0:
        return int(asked)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def over_units(work: Callable[[slice], None], units: int, block: int = 16) -> None:
    """Call `work` for blocks of units, on as many threads as allowed.

    Units never share state, so that neither blocks nor threads change a result. Threads rather
    than `numba.prange`: numba's portable threading layer must not be entered by two threads.
    """
    blocks = [slice(i, min(i + block, units)) for i in range(0, units, block)]
    threads = min(thread_count(), len(blocks))
    if threads <= 1:
        for one in blocks:
            work(one)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, blocks))
