"""The most exciting Gabor."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.mei.gabor import bank_parameters, describe, draw, drawn_bank
from pipeline.mei.objectives import objectives
from pipeline.mei.parts.ties import first_best, reaches
from pipeline.mei.search import POOL_CHUNK, TopK, match_full, own_responses, responses, views
from pipeline.parameters import Rule

from .base import ControlContext, Controls, control_kinds, finished


def _needs_nothing(name: str) -> bool:
    return name in objectives and inspect.Parameter.empty not in objectives.defaults(name).values()


_PLAIN_OBJECTIVE = Rule("that names an objective which works without parameters", _needs_nothing)


@control_kinds.register("gabor", revision=2)
def best_gabor(
    context: ControlContext,
    *,
    phases_deg: Sequence[float] = (0, 90, 180, 270),
    wavelengths_px: Sequence[float] = (4, 7, 10, 15, 20),
    orientations: int = 8,
    sigmas_px: Sequence[float] = (2, 3, 5, 7, 9),
    n_dy: int = 7,
    n_dx: int = 13,
    max_shift: float = 0.3,
    shortlist: int | None = 32,
    refine: int = 2,
    refine_steps: int = 40,
    wavelength_range_px: Sequence[float] = (3, 30),
    sigma_range_px: Sequence[float] = (1, 12),
    objective: Annotated[str, _PLAIN_OBJECTIVE] = "activation",
) -> Controls:
    """Find the most exciting Gabor: the published bank of 72,800, then a continuous ascent.

    Parameters
    ----------
    context : ControlContext
    phases_deg, wavelengths_px, orientations, sigmas_px, n_dy, n_dx, max_shift
        The bank; shifts are fractions of the frame. Distances are in pixels of a frame of 64
        columns and scale with the frame.
    shortlist : int, optional
        Evaluate only the Gabors most like the unit's MEI under the model; None evaluates all.
    refine : int
        How many of the best are ascended by gradient; 0 keeps to the bank.
    refine_steps : int
        Steps of that ascent.
    wavelength_range_px, sigma_range_px : (float, float)
        Limits of that ascent (at 64 columns).
    objective : str
        What that ascent maximizes, and the shortlist is ranked by: an objective without parameters.
        The whole bank (`shortlist` None) is ranked by the plain response.

    Returns
    -------
    Controls
        `info` holds the parameters, the bank's best activation, and the similarity (cosine) of
        the image to the MEI.
    """
    scale = context.shape[1] / 64
    table = bank_parameters(
        context.shape,
        phases_deg=tuple(phases_deg),
        wavelengths_px=tuple(scale * value for value in wavelengths_px),
        orientations=orientations,
        sigmas_px=tuple(scale * value for value in sigmas_px),
        n_dy=n_dy,
        n_dx=n_dx,
        max_shift=max_shift,
    )
    units = context.units
    count = max(refine, 1)
    if shortlist is None:
        top = TopK(len(units), count)
        for start, images in drawn_bank(table, context.shape, context.length, context.device):
            for part in range(0, len(images), POOL_CHUNK):
                some = images[part : part + POOL_CHUNK, None]
                index = start + part + np.arange(len(some))
                top.offer(index, responses(context.cnn, some, units))
    else:
        top = _rank_shortlist(context, table, max(shortlist, count), count, objective)
    chosen = table[top.index]  # (units, count, 6)
    bank_best = top.values[:, 0]
    if refine and refine_steps:
        limits = [[scale * v for v in r] for r in (sigma_range_px, wavelength_range_px)]
        chosen = _refined(context, chosen, objective, refine_steps, *limits)
    best, images = _best_of(context, chosen, objective)
    mei = match_full(context.zscore(context.mei_images), 1.0)
    similarity = (mei * images / context.length).sum((1, 2, 3)).cpu().numpy()
    info = [
        {**describe(p), "bank_activation": float(a), "mei_similarity": float(s)}
        for p, a, s in zip(best, bank_best, similarity, strict=True)
    ]
    return finished(context, images, info)


def _rank_shortlist(
    context: ControlContext, table: NDArray, shortlist: int, count: int, objective: str
) -> TopK:
    """Rank the Gabors most like each MEI (cosine) by an objective."""
    mei = match_full(context.zscore(context.mei_images), 1.0).flatten(1)
    n_units = len(context.units)
    like = TopK(n_units, shortlist)
    for start, images in drawn_bank(table, context.shape, 1.0, context.device):
        cosine = (images.flatten(1) @ mei.T).cpu().numpy()
        like.offer(start + np.arange(len(images)), cosine)
    top = TopK(n_units, count)
    pairs = context.pick().repeat_interleave(shortlist)
    values = np.empty(len(pairs), np.float32)
    rows = torch.as_tensor(table[like.index.ravel()], dtype=torch.float32, device=context.device)
    for part in torch.arange(len(pairs), device=context.device).split(2048):
        images = draw(rows[part], context.shape, context.length)[:, None]
        values[part.cpu().numpy()] = own_responses(
            context.cnn, images, pairs[part], objectives[objective]
        )
    order = np.argsort(-values.reshape(n_units, shortlist), axis=1, kind="stable")[:, :count]
    top.values = np.take_along_axis(values.reshape(n_units, shortlist), order, 1)
    top.index = np.take_along_axis(like.index, order, 1)
    return top


def _refined(
    context: ControlContext, start: NDArray, objective: str, steps: int, sigma_px, wavelength_px
) -> NDArray[np.float64]:
    """Ascend an objective over Gabor parameters; returns start and end of each ascent."""
    n_units, count = start.shape[:2]
    units = context.pick().repeat_interleave(count)
    flat = torch.as_tensor(start.reshape(-1, 6), dtype=torch.float32, device=context.device)
    out = flat.clone()
    size = torch.tensor([1.0, 1.0, 0.15, 0.15, 0.15, 0.4], device=context.device)
    crop = getattr(objectives[objective], "own_unit", False)
    for index, view in views(context.cnn, units, (1, *context.shape), crop):
        # log sigma and log wavelength; every coordinate in units of a fair step
        free = flat[index].clone()
        free[:, 2:4] = free[:, 2:4].log()
        moment, square = torch.zeros_like(free), torch.zeros_like(free)
        best = torch.full((len(free),), -torch.inf, device=free.device)
        for step in range(steps + 1):
            free.requires_grad_(True)
            now = torch.cat([free[:, :2], free[:, 2:4].exp(), free[:, 4:]], 1)
            images = view.cut(draw(now, context.shape, context.length)[:, None])
            rates = objectives[objective](view, images)
            (gradient,) = torch.autograd.grad(rates.sum(), free)
            with torch.no_grad():
                better = reaches(rates, best)  # the latest of equals, as in an ascent
                best = torch.where(rates > best, rates, best)
                out[index[better]] = now.detach()[better]
                # Adam, so that responses of any unit and any coordinate are of one scale
                gradient = gradient * size
                moment = 0.8 * moment + 0.2 * gradient
                square = 0.95 * square + 0.05 * gradient**2
                unbias = (1 - 0.8 ** (step + 1)) / (1 - 0.95 ** (step + 1)) ** 0.5
                pace = 0.5 * (1 - step / (steps + 1))
                move = moment / (square.sqrt() + 1e-12) / unbias
                free = free.detach() + pace * size * move
                for column, limit in ((2, sigma_px), (3, wavelength_px)):
                    free[:, column].clamp_(*np.log(limit))
                free[:, 0].clamp_(0, context.shape[0] - 1)
                free[:, 1].clamp_(0, context.shape[1] - 1)
    ends = out.reshape(n_units, count, 6).cpu().numpy().astype(np.float64)
    return np.concatenate([ends, start], 1)


def _best_of(
    context: ControlContext, parameters: NDArray, objective: str
) -> tuple[NDArray, torch.Tensor]:
    """Return parameters (units, 6) and image of each unit's best Gabor."""
    n_units, count = parameters.shape[:2]
    flat = torch.as_tensor(parameters, dtype=torch.float32, device=context.device).flatten(0, 1)
    images = draw(flat, context.shape, context.length)[:, None]
    units = context.pick().repeat_interleave(count)
    values = own_responses(context.cnn, images, units, objectives[objective])
    best = first_best(values.reshape(n_units, count))
    rows = np.arange(n_units)
    return parameters[rows, best], images[torch.as_tensor(rows * count + best)]
