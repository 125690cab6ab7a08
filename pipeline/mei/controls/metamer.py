"""Another image to which the whole population responds as to the MEI."""

from __future__ import annotations

import numpy as np

from pipeline.mei.reconstruction import reconstruct
from pipeline.mei.search import match_full

from .base import ControlContext, Controls, control_kinds, finished


@control_kinds.register("metamer")
def metamer(context: ControlContext, *, steps: int = 200, all_units: bool = True) -> Controls:
    """Make an image, from noise, that the model's units cannot tell from the neuron's MEI.

    Parameters
    ----------
    context : ControlContext
    steps : int
        Of the ascent.
    all_units : bool
        All units of the model have to be fooled; else the target neurons only.

    Returns
    -------
    Controls
        `info`: rms difference of the population's responses (sd) and similarity to the MEI.
    """
    mei = match_full(context.zscore(context.mei_images), context.length)
    n_units = context.cnn(mei[:1]).shape[1]
    images, unlike = reconstruct(
        context.cnn,
        mei,
        np.arange(n_units) if all_units else context.units,
        norm=context.length,
        names=np.asarray(context.units),
        seed=context.seed,
        steps=steps,
    )
    like = (images * mei).sum((1, 2, 3)).cpu().numpy() / context.length**2
    info = [
        {"response_difference_sd": float(d), "mei_similarity": float(s)}
        for d, s in zip(unlike, like, strict=True)
    ]
    return finished(context, images, info)
