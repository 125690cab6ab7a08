"""The MEI altered, or another's."""

from __future__ import annotations

import numpy as np

from pipeline.mei.search import match_full
from pipeline.rng import generator

from .base import ControlContext, Controls, control_kinds, finished


@control_kinds.register("phase_scrambled")
def phase_scrambled(context: ControlContext) -> Controls:
    """Scramble the phases of the MEI: the same spectrum, no pattern."""
    streams = (generator(context.seed, "phases", unit) for unit in context.units)
    noise = np.stack([stream.normal(size=context.shape) for stream in streams])
    turn = np.fft.fft2(noise)
    turn /= np.maximum(np.abs(turn), 1e-12)  # phases of real noise: the result is real
    deviation = np.asarray(context.mei_images, float) - context.image_mean
    scrambled = np.fft.ifft2(np.abs(np.fft.fft2(deviation)) * turn).real
    images = match_full(context.zscore(scrambled + context.image_mean), context.length)
    return finished(context, images, [{} for _ in context.units])


@control_kinds.register("other_mei")
def other_mei(context: ControlContext) -> Controls:
    """Show the MEI of another neuron of the batch, the next one in the order of `units`."""
    if len(context.units) < 2:
        raise ValueError("'other_mei' needs at least two neurons")
    images = context.zscore(np.roll(np.asarray(context.mei_images), -1, axis=0))
    other = np.roll(np.asarray(context.units), -1)
    return finished(context, images, [{"of_unit": int(unit)} for unit in other])
