"""A plain ascent from given images, for methods that set out from an image already made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch

from .parts import Scene

Objective = Callable[[torch.Tensor], torch.Tensor]
Precondition = Callable[[torch.Tensor, float], torch.Tensor]
Schedule = Literal["geometric", "linear"]
Normalise = Literal["l2", "mean_abs"]
Projection = Callable[[torch.Tensor], torch.Tensor]


class Mover:
    """One step up the gradient, its length set for every image by itself.

    Parameters
    ----------
    scene : Scene
    step_start, step_end, schedule, normalise
        See `AscentParameters`.
    precondition : function, optional
        Gradients (n, C, h, w) and fraction of the ascent to the gradients that are followed.
    """

    def __init__(
        self,
        scene: Scene,
        *,
        step_start: float,
        step_end: float,
        schedule: Schedule = "geometric",
        normalise: Normalise = "l2",
        precondition: Precondition | None = None,
    ) -> None:
        self.scene, self.first, self.last = scene, step_start, step_end
        self.schedule, self.normalise, self.precondition = schedule, normalise, precondition

    def move(self, x: torch.Tensor, gradient: torch.Tensor, fraction: float) -> torch.Tensor:
        """Return images (n, C, h, w) moved along their gradients, at a fraction of the ascent."""
        if self.schedule == "geometric":
            size = self.first * (self.last / self.first) ** fraction
        else:
            size = self.first + (self.last - self.first) * fraction
        # first to a largest value of 1, so that tiny gradients do not underflow when squared
        gradient = gradient / gradient.abs().amax((1, 2, 3), keepdim=True).clamp_min(1e-38)
        if self.precondition is not None:
            gradient = self.precondition(gradient, fraction)
        if self.normalise == "l2":
            length = gradient.square().sum((1, 2, 3), keepdim=True).sqrt()
            size = size * self.scene.norm
        else:
            length = gradient.abs().mean((1, 2, 3), keepdim=True)
        return x + size * gradient / length.clamp_min(1e-12)


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
    mover = Mover(scene, step_start=step_start, step_end=step_end)
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
