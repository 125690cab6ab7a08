"""A plain ascent from given images, for methods that set out from an image already made."""

from __future__ import annotations

from collections.abc import Callable

import torch

from .ascent import Mover
from .parts import Scene

Objective = Callable[[torch.Tensor], torch.Tensor]
Projection = Callable[[torch.Tensor], torch.Tensor]


def climb(
    images: torch.Tensor,
    objective: Objective,
    project: Projection,
    scene: Scene,
    *,
    steps: int,
    step_start: float,
    step_end: float,
) -> torch.Tensor:
    """Ascend `objective` by steps of a falling length and return the last images.

    Parameters
    ----------
    images : tensor, shape (n, C, h, w)
        Z-scored frames or crops.
    objective : function
        Images to values (n,); images may depend on each other.
    project : function
        Brings images back to what is allowed after a step.
    scene : Scene
        Its norm is the unit of the steps.
    steps : int
    step_start, step_end : float
        Length of a step as a share of the norm; falls geometrically.
    """
    schedule = {"step_start": step_start, "step_end": step_end}
    mover = Mover({**schedule, "schedule": "geometric", "normalise": "l2"}, lambda g, _: g, scene)
    x = project(images.detach())
    for step in range(steps):
        x.requires_grad_(True)
        (gradient,) = torch.autograd.grad(objective(x).sum(), x)
        with torch.no_grad():
            x = project(mover.move(x.detach(), gradient, step / steps))
    return x.detach()


def on_sphere(norm: float) -> Projection:
    """Return the projection to images of zero mean and one norm; crops lie in a gray frame."""

    def project(images: torch.Tensor) -> torch.Tensor:
        # the frame around a crop is gray, so that its own mean must vanish
        centred = images - images.mean((2, 3), keepdim=True)
        length = centred.square().sum((1, 2, 3), keepdim=True).sqrt()
        return centred * (norm / length.clamp_min(1e-12))

    return project
