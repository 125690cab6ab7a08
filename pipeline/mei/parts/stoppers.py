"""When an image is finished before the last step: ``f(trace (steps, n)) -> bool (n)``."""

from __future__ import annotations

import torch

from pipeline.registry import Registry

stoppers = Registry("stopper")


@stoppers.register("last_step", default=True)
def last_step(trace: torch.Tensor) -> torch.Tensor:
    """Use all steps."""
    return torch.zeros(trace.shape[1], dtype=torch.bool, device=trace.device)


@stoppers.register("plateau")
def plateau(trace: torch.Tensor, *, window: int = 20, tolerance: float = 1e-4) -> torch.Tensor:
    """Stop when the objective has changed by less than a share of its gain over `window` steps.

    Parameters
    ----------
    window : int
        Steps looked back on.
    tolerance : float
        Share of the gain below which a change counts as none.
    """
    if len(trace) <= window:
        return torch.zeros(trace.shape[1], dtype=torch.bool, device=trace.device)
    recent = trace[-window - 1 :]
    gained = (recent.amax(0) - trace[0]).abs().clamp_min(1e-12)
    return (recent.amax(0) - recent.amin(0)) < tolerance * gained
