"""Which of two stimuli did better: what a two-sided p does not say."""

from __future__ import annotations

import math


def above(difference: float | None, reference: str, control: str) -> str:
    """Return which of two stimuli has the larger responses.

    Parameters
    ----------
    difference : float or None
        Of the responses, reference minus control: of one neuron, or the median over neurons.
    reference, control : str
        What they are called.

    Returns
    -------
    str
        `reference above control`, `control above reference`, `no difference` for 0, `unknown`
        where there is no difference to look at.
    """
    if difference is None or math.isnan(difference):
        return "unknown"
    if difference == 0:
        return "no difference"
    higher, lower = (reference, control) if difference > 0 else (control, reference)
    return f"{higher} above {lower}"


def tested(p: float | None, difference: float | None, reference: str, control: str) -> str:
    """Return a two-sided p with the direction of its effect, as figures write it."""
    text = "p unknown" if p is None or math.isnan(p) else f"p = {p:.2g} (two-sided)"
    return f"{text}: {above(difference, reference, control)}"
