"""The MEI left as it is inside its mask, with a surround that adds to it or suppresses it."""

from __future__ import annotations

import numpy as np
import torch

from pipeline.mei.climb import climb
from pipeline.mei.parts import Scene
from pipeline.mei.search import own_responses, views
from pipeline.rng import normal_rows

from .base import ControlContext, Controls, control_kinds, finished


@control_kinds.register("surround_excite")
def exciting_surround(
    context: ControlContext,
    *,
    share: float = 0.3,
    inside: float = 0.05,
    steps: int = 80,
    step_start: float = 0.5,
    step_end: float = 0.005,
) -> Controls:
    """Extend the MEI beyond its mask by what raises the response most.

    Parameters
    ----------
    context : ControlContext
    share : float
        Of the squared contrast that the surround gets; the center, the masked MEI, keeps the rest,
        and the same for both effects, so that the two are compared with equal centers.
    inside : float
        The surround is where the mask is not larger than this.
    steps, step_start, step_end
        Of the ascent; lengths in shares of the norm.

    Returns
    -------
    Controls
        `info` holds the response to the center alone, at its contrast in this image.
    """
    return _extended(context, 1.0, share, inside, steps, step_start, step_end)


@control_kinds.register("surround_inhibit")
def suppressing_surround(
    context: ControlContext,
    *,
    share: float = 0.3,
    inside: float = 0.05,
    steps: int = 80,
    step_start: float = 0.5,
    step_end: float = 0.005,
) -> Controls:
    """Extend the MEI beyond its mask by what lowers the response most; see `surround_excite`."""
    return _extended(context, -1.0, share, inside, steps, step_start, step_end)


def _extended(context, sign, share, inside, steps, step_start, step_end) -> Controls:
    if context.mei_masks is None:
        raise ValueError("a surround needs the masks of the MEIs")
    if not 0 < share < 1:
        raise ValueError(f"share must be between 0 and 1, got {share}")
    masks = torch.as_tensor(np.asarray(context.mei_masks, np.float32), device=context.device)
    masks = masks[:, None]
    free = (masks <= inside).float()
    centre = context.zscore(context.mei_images) * masks * (1 - free)
    centre = _of_norm(_centered(centre, masks * (1 - free)), context.length * (1 - share) ** 0.5)
    length = context.length * share**0.5
    noise = normal_rows(context.seed, "surround", context.units, context.shape)
    start = torch.as_tensor(noise[:, None].astype(np.float32), device=context.device)
    scene = Scene((1, *context.shape), context.image_mean, context.image_sd, length)
    images = centre.clone()
    for index, view in views(context.cnn, context.pick(), (1, *context.shape)):
        core, room = view.cut(centre[index]), view.cut(free[index])

        def project(x, core=core, room=room):
            return core + _of_norm(_centered((x - core) * room, room), length)

        def objective(x, view=view):
            return sign * view.rates(x)

        lengths = {"steps": steps, "step_start": step_start, "step_end": step_end}
        found = climb(view.cut(start[index]) + core, objective, project, scene, **lengths)
        images[index] = view.frame(found)
    alone = own_responses(context.cnn, centre, context.pick())
    return finished(context, images, [{"centre_activation": float(value)} for value in alone])


def _centered(images: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Take the mean inside of the weights away, there only."""
    total = weights.sum((1, 2, 3), keepdim=True).clamp_min(1e-9)
    return images - weights * (images.sum((1, 2, 3), keepdim=True) / total)


def _of_norm(images: torch.Tensor, norm: float) -> torch.Tensor:
    length = images.square().sum((1, 2, 3), keepdim=True).sqrt()
    return images * (norm / length.clamp_min(1e-9))
