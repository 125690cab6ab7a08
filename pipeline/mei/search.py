"""The best of many images for every neuron: one pass, all neurons, no gradient."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from .view import View

POOL_CHUNK = 256  # images of a stream at a time
CROPS_AT_ONCE = 2048
CROP_PAYS_BELOW = 12  # units: from here on one forward pass for all is cheaper than crops for each


class TopK:
    """The k largest values of every unit in a stream, and where they were."""

    def __init__(self, n_units: int, k: int) -> None:
        self.values = np.full((n_units, k), -np.inf, np.float32)
        self.index = np.full((n_units, k), -1, np.int64)

    def offer(self, index: NDArray[np.int64], values: NDArray[np.float32]) -> None:
        """Take `values` (n, units) of the items `index` (n,); the earlier of equals stays."""
        all_values = np.concatenate([self.values, values.T], 1)
        everything = np.broadcast_to(index, (len(self.index), len(index)))
        all_index = np.concatenate([self.index, everything], 1)
        order = np.argsort(-all_values, axis=1, kind="stable")[:, : self.values.shape[1]]
        self.values = np.take_along_axis(all_values, order, 1)
        self.index = np.take_along_axis(all_index, order, 1)


@torch.no_grad()
def responses(model: nn.Module, images: torch.Tensor, units: NDArray[np.int64]) -> NDArray:
    """Return what every unit answers to every image: (n, C, h, w) z-scored to (n, units)."""
    pick = torch.as_tensor(units, device=images.device)
    can_crop = len(units) < CROP_PAYS_BELOW and hasattr(model, "forward_patches")
    if not can_crop or not model.patches(units).exact.all():
        return model(images)[:, pick].float().cpu().numpy()
    pairs = pick.repeat_interleave(len(images))
    many = images.repeat(len(units), 1, 1, 1)
    return own_responses(model, many, pairs).reshape(len(units), len(images)).T


@torch.no_grad()
def own_responses(model: nn.Module, images: torch.Tensor, units: torch.Tensor) -> NDArray:
    """Return what unit ``units[i]`` answers to image i: (n, C, h, w) z-scored to (n,)."""
    out = np.empty(len(images), np.float32)
    for index, view in views(model, units, tuple(images.shape[1:])):
        out[index.cpu().numpy()] = view.rates(view.cut(images[index])).float().cpu().numpy()
    return out


def views(
    model: nn.Module, units: torch.Tensor, shape: tuple[int, int, int]
) -> Iterator[tuple[torch.Tensor, View]]:
    """Yield parts of a batch with the fastest exact way to read them."""
    exact = np.zeros(len(units), bool)
    if hasattr(model, "forward_patches"):
        exact = np.asarray(model.patches(units.cpu().numpy()).exact)
    for flag, step in ((True, CROPS_AT_ONCE), (False, CROPS_AT_ONCE // 8)):
        index = torch.as_tensor(np.flatnonzero(exact == flag), device=units.device)
        for part in index.split(step):
            if len(part):
                yield part, View(model, units[part], shape, flag)


def match_full(images: torch.Tensor, norm: float) -> torch.Tensor:
    """Bring images (..., h, w) to zero mean and a given L2 norm; flat ones stay 0."""
    delta = images - images.mean((-2, -1), keepdim=True)
    length = delta.square().sum((-2, -1), keepdim=True).sqrt()
    return torch.where(length > 1e-6, delta * (norm / length.clamp_min(1e-6)), 0.0)


def match_masked(images: torch.Tensor, masks: torch.Tensor, norm: float) -> torch.Tensor:
    """Window images, matched inside of the mask: zero mean there, a given norm of the result."""
    total = masks.sum((-2, -1), keepdim=True).clamp_min(1e-6)
    delta = (images - (images * masks).sum((-2, -1), keepdim=True) / total) * masks
    length = delta.square().sum((-2, -1), keepdim=True).sqrt()
    return torch.where(length > 1e-6, delta * (norm / length.clamp_min(1e-6)), 0.0)
