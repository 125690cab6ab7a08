"""The most exciting natural images."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.mei.search import (
    POOL_CHUNK,
    Histogram,
    TopK,
    match_full,
    match_masked,
    own_responses,
    responses,
)

from .base import ControlContext, Controls, control_kinds, finished


@control_kinds.register("fni")
def best_full_image(context: ControlContext, *, top_k: int = 5, bins: int = 64) -> Controls:
    """Find the most exciting natural image, all at the same contrast.

    Parameters
    ----------
    context : ControlContext
    top_k : int
        How many of the best are named in `info`.
    bins : int
        Of the histogram of responses to the pool in `info`.
    """
    natural = _natural(context)
    units = context.units
    top = TopK(len(units), top_k)
    spread = Histogram(len(units), bins)
    for start in range(0, len(natural), POOL_CHUNK):
        part = match_full(context.zscore(natural[start : start + POOL_CHUNK]), context.length)
        values = responses(context.cnn, part, units)
        top.offer(start + np.arange(len(part)), values)
        spread.offer(values)
    images = match_full(context.zscore(natural[top.index[:, 0]]), context.length)
    return finished(context, images, _top_info(top, spread))


@control_kinds.register("mni")
def best_masked_image(
    context: ControlContext,
    *,
    top_k: int = 5,
    max_images: int | None = None,
    bins: int = 64,
) -> Controls:
    """Find the most exciting natural image behind the mask of the MEI, matched inside of it.

    Parameters
    ----------
    context : ControlContext
    top_k : int
        How many of the best are named in `info`.
    max_images : int, optional
        Search only the first so many images; every neuron has its own windowed copies of them.
    bins : int
        Of the histogram of responses to the pool in `info`.

    Raises
    ------
    ValueError
        If there are no masks or images.
    """
    natural = _natural(context)[:max_images]
    if context.mei_masks is None:
        raise ValueError("'mni' needs the masks of the MEIs")
    units = context.pick()
    masks = torch.as_tensor(np.asarray(context.mei_masks, np.float32), device=context.device)
    top = TopK(len(units), top_k)
    spread = Histogram(len(units), bins)
    step = max(1, 2048 // max(len(units), 1))
    for start in range(0, len(natural), step):
        part = context.zscore(natural[start : start + step])  # (n, 1, h, w)
        windowed = match_masked(part, masks, context.length)  # (n, units, h, w)
        pairs = windowed.flatten(0, 1)[:, None]
        values = own_responses(context.cnn, pairs, units.repeat(len(part)))
        values = values.reshape(len(part), len(units))
        top.offer(start + np.arange(len(part)), values)
        spread.offer(values)
    images = match_masked(context.zscore(natural[top.index[:, 0]]), masks[:, None], context.length)
    return finished(context, images, _top_info(top, spread))


def _natural(context: ControlContext) -> NDArray:
    if context.natural is None or not len(context.natural):
        raise ValueError("there are no natural images to search")
    if tuple(np.shape(context.natural)[1:]) != context.shape:
        raise ValueError(
            f"natural images must be {context.shape}, got {np.shape(context.natural)[1:]}; "
            "bring them to the model's size with to_model"
        )
    return context.natural


def _top_info(top: TopK, spread: Histogram) -> list[dict[str, Any]]:
    return [
        {
            "image_index": [int(i) for i in index if i >= 0],
            "image_activation": [float(v) for i, v in zip(index, values, strict=True) if i >= 0],
            **spread.describe(unit),
        }
        for unit, (index, values) in enumerate(zip(top.index, top.values, strict=True))
    ]
