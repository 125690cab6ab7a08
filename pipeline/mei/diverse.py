"""Diverse exciting inputs: a set of images that a neuron likes and that are unlike each other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from .ascent import Ascended, Problem, ascent_methods
from .climb import climb, on_sphere
from .objectives import activation


@ascent_methods.register("diverse", revision=2)
def diverse(
    problem: Problem,
    *,
    ascent: str | dict[str, Any] = "constrained",
    least_share: float = 0.85,
    margin: float = 0.03,
    softness: float = 0.1,
    penalty: float = 200.0,
    steps: int = 150,
    step_start: float = 0.3,
    step_end: float = 0.003,
    crop: bool = True,
) -> Ascended:
    """Spread the starts of a unit over what excites it: one image a start, as a set.

    Every start first climbs by itself. Then each image moves away from the most similar other
    image of its unit, as long as its activation stays above a share of the best one's. A cell
    that likes one pattern only keeps its images alike: the share counts first.

    Parameters
    ----------
    problem : Problem
        The starts of a unit are one set; that of another unit makes no difference.
    ascent : str or dict
        Method by which every image is made first.
    least_share : float
        Least activation, of the best image of the unit's.
    margin : float
        How far above that the penalty begins.
    softness : float
        Of the maximum over the other images, in correlation.
    penalty : float
        Weight of the squared shortfall (share) against the similarity (correlation).
    steps, step_start, step_end
        Of the second ascent; lengths in shares of the norm.
    crop : bool
        See `constrained`.

    Returns
    -------
    Ascended
        The trace is that of the first ascent, `value` the activation, or the objective that is
        given as a function; one that is named rules the first ascent alone.

    Raises
    ------
    ValueError
        If an objective that is given as a function is 0 or less for a unit's image.

    References
    ----------
    Ding et al. (2023), Bipartite invariance in mouse primary visual cortex, PMC10055119
    """
    alone = ascent_methods.build({**ascent_methods.spec(ascent), "crop": crop}, problem)
    view, scene = problem.view, problem.scene
    frames = torch.as_tensor(alone.images, device=view.units.device)
    alive = torch.as_tensor(~alone.silent, device=view.units.device)
    drive = activation if problem.objective is None else problem.objective
    first = alone.activations if problem.objective is None else alone.value
    rates = torch.as_tensor(first, device=view.units.device)
    if problem.objective is not None and not bool((rates[alive] > 0).all()):
        raise ValueError("diverse images need an objective above 0: its shares are compared")
    same = view.units[:, None] == view.units[None]
    best = torch.where(same, rates[None], -torch.inf).amax(1)
    others = same & alive[None] & ~torch.eye(len(same), dtype=torch.bool, device=same.device)
    paired = others.any(1, keepdim=True)

    def objective(images: torch.Tensor) -> torch.Tensor:
        flat = torch.nn.functional.normalize(images.flatten(1), dim=1)
        # the others stand still, so that every image moves for its own good
        similar = torch.where(others, flat @ flat.detach().T, -1e4)
        nearest = softness * torch.logsumexp(similar / softness, 1)
        short = (least_share + margin - drive(view, images) / best.clamp_min(1e-12)).clamp_min(0)
        return -torch.where(paired[:, 0], nearest, 0.0) - penalty * short**2

    spread = climb(
        view.cut(frames),
        objective,
        on_sphere(scene.norm),
        scene,
        steps=steps,
        step_start=step_start,
        step_end=step_end,
    )
    with torch.no_grad():
        moved = (paired[:, 0] & alive)[:, None, None, None]
        images = torch.where(moved, view.frame(spread), frames)
        activations = view.rates(view.cut(images)).float().cpu().numpy()
        value = drive(view, view.cut(images)).float().cpu().numpy()
        members = view.members(view.cut(images)).T.float().cpu().numpy()
    return replace(
        alone,
        images=images.cpu().numpy(),
        activations=activations,
        value=value,
        members=members,
    )
