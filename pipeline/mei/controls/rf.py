"""The linear receptive field."""

from __future__ import annotations

from typing import Annotated, Any

from pipeline.mei.ascent import ascent_methods
from pipeline.mei.synthesize import synthesize
from pipeline.parameters import Nested

from .base import ControlContext, Controls, control_kinds, finished


@control_kinds.register("rf", revision=2)
def receptive_field(
    context: ControlContext,
    *,
    method: str | None = None,
    params: Annotated[dict[str, Any] | None, Nested(ascent_methods)] = None,
) -> Controls:
    """Make the linear receptive field: the MEI of the LN ensemble, by the same ascent and norm.

    Parameters
    ----------
    context : ControlContext
    method, params
        Of the ascent; default its defaults.
    """
    found = synthesize(
        context.ln,
        context.units,
        shape=(1, *context.shape),
        mean=context.image_mean,
        sd=context.image_sd,
        norm=context.length,
        method=method,
        params=params,
        seed=context.seed,
        device=context.device.type,
    )
    info = [
        {"ln_activation": float(a), "converged": bool(c), "silent": bool(s)}
        for a, c, s in zip(found.activations, found.converged, found.silent, strict=True)
    ]
    return finished(context, context.zscore(found.images[:, 0]), info)
