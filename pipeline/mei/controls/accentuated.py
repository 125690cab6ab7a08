"""A natural image changed as little as possible until it drives a neuron to a wanted level."""

from __future__ import annotations

import numpy as np
import torch

from pipeline.mei.climb import on_sphere
from pipeline.mei.search import match_full, own_responses, views
from pipeline.rng import generator

from .base import ControlContext, Controls, control_kinds, finished


@control_kinds.register("accentuated")
def accentuated(
    context: ControlContext,
    *,
    level: float = 0.5,
    steps: int = 60,
    longest_step: float = 0.1,
    tolerance: float = 0.01,
) -> Controls:
    """Accentuate, or attenuate, in a natural image what a neuron responds to.

    From a natural image drawn at random for every neuron, the same at every level, Newton steps
    along the gradient of the response lead up or down to the level: of all directions the one
    that changes the image least. Eleven levels are eleven rows of the method.

    Parameters
    ----------
    context : ControlContext
    level : float
        Response wanted, as a share of that to the MEI.
    steps : int
        At most.
    longest_step : float
        Of one step, as a share of the norm.
    tolerance : float
        Shortfall, as a share of the response to the MEI, at which a neuron is done.

    Returns
    -------
    Controls
        `info`: the natural image, the level reached, and how similar the image still is to it.
    """
    if context.natural is None or not len(context.natural):
        raise ValueError("'accentuated' needs natural images")
    units = context.pick()
    streams = (generator(context.seed, "seed", unit) for unit in context.units)
    seeds = np.array([stream.integers(len(context.natural)) for stream in streams], np.int64)
    start = match_full(context.zscore(context.natural[seeds]), context.length)
    mei = own_responses(context.cnn, context.zscore(context.mei_images), units)
    goal = torch.as_tensor(level * mei, device=context.device)
    scale = torch.as_tensor(np.maximum(mei, 1e-9), device=context.device)
    project = on_sphere(context.length)
    images = start.clone()
    for index, view in views(context.cnn, units, (1, *context.shape)):
        x, nearest = start[index].clone(), start[index].clone()
        miss = torch.full((len(index),), torch.inf, device=context.device)
        for _ in range(steps + 1):
            x.requires_grad_(True)
            rates = view.rates(view.cut(x))
            (gradient,) = torch.autograd.grad(rates.sum(), x)
            with torch.no_grad():
                x = x.detach()
                short = goal[index] - rates
                better = short.abs() < miss
                nearest[better], miss[better] = x[better], short.abs()[better]
                square = gradient.square().sum((1, 2, 3)).clamp_min(1e-20)
                most = longest_step * context.length / square.sqrt()
                stride = torch.clamp(short / square, -most, most)
                done = miss <= tolerance * scale[index]
                x = torch.where(
                    done[:, None, None, None],
                    x,
                    project(x + stride[:, None, None, None] * gradient),
                )
        images[index] = nearest
    reached = own_responses(context.cnn, images, units) / np.maximum(mei, 1e-9)
    like = (images * start).sum((1, 2, 3)).cpu().numpy() / context.length**2
    info = [
        {"image_index": int(i), "level": float(level), "reached": float(r), "similarity": float(s)}
        for i, r, s in zip(seeds, reached, like, strict=True)
    ]
    return finished(context, images, info)
