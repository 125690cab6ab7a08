"""The best of many images for every neuron: one pass, all neurons, no gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from .objectives import activation
from .view import View, exact_units, frame_shape

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
        # most parts of a long stream hold nothing new for most units: these are not sorted
        rows = np.flatnonzero(values.max(0, initial=-np.inf) > self.values[:, -1])
        if not len(rows):
            return
        all_values = np.concatenate([self.values[rows], values.T[rows]], 1)
        everything = np.broadcast_to(index, (len(rows), len(index)))
        all_index = np.concatenate([self.index[rows], everything], 1)
        order = np.argsort(-all_values, axis=1, kind="stable")[:, : self.values.shape[1]]
        self.values[rows] = np.take_along_axis(all_values, order, 1)
        self.index[rows] = np.take_along_axis(all_index, order, 1)


class Histogram:
    """Counts of every unit's values in a stream, in bins whose range grows as needed.

    Every unit has its own range, from the values of the first part; it doubles, two bins becoming
    one, when a value lies outside.
    """

    def __init__(self, n_units: int, bins: int = 64) -> None:
        self.bins = bins + bins % 2
        self.counts = np.zeros((n_units, self.bins), np.int64)
        self.low = np.zeros(n_units)
        self.width = np.zeros(n_units)  # of one bin; 0 until there are values
        self.total, self.square = np.zeros((2, n_units))

    def offer(self, values: NDArray[np.float32]) -> None:
        """Count `values` (n, units)."""
        values = np.asarray(values, np.float64)
        if not len(values):
            return
        self.total += values.sum(0)
        self.square += (values**2).sum(0)
        low, high = values.min(0), values.max(0)
        if not self.width.any():
            self.low = low.copy()
            self.width = np.maximum((high - low) * 1.001, 1e-9 + 1e-6 * np.abs(high)) / self.bins
        while (beyond := high >= self.low + self.width * self.bins).any():
            self._double(np.flatnonzero(beyond), upwards=True)
        while (below := low < self.low).any():
            self._double(np.flatnonzero(below), upwards=False)
        places = np.clip((values - self.low) / self.width, 0, self.bins - 1).astype(np.int64)
        units = np.broadcast_to(np.arange(len(self.low)), places.shape)
        flat = (units * self.bins + places).ravel()
        self.counts += np.bincount(flat, minlength=self.counts.size).reshape(self.counts.shape)

    def _double(self, units: NDArray[np.int64], *, upwards: bool) -> None:
        half = self.bins // 2
        merged = self.counts[units].reshape(len(units), half, 2).sum(2)
        self.counts[units] = 0
        if upwards:
            self.counts[units, :half] = merged
        else:
            self.counts[units, half:] = merged
            self.low[units] -= self.bins * self.width[units]
        self.width[units] *= 2

    def describe(self, unit: int) -> dict[str, Any]:
        """Return one unit's distribution as JSON: lower edge, bin width, counts, mean and sd."""
        n = max(int(self.counts[unit].sum()), 1)
        mean = self.total[unit] / n
        return {
            "pool_size": int(self.counts[unit].sum()),
            "pool_mean": float(mean),
            "pool_sd": float(max(self.square[unit] / n - mean**2, 0.0) ** 0.5),
            "histogram_low": float(self.low[unit]),
            "histogram_width": float(self.width[unit]),
            "histogram_counts": [int(count) for count in self.counts[unit]],
        }


@torch.no_grad()
def responses(model: nn.Module, images: torch.Tensor, units: NDArray[np.int64]) -> NDArray:
    """Return what every unit answers to every image: (n, C, h, w) z-scored to (n, units)."""
    pick = torch.as_tensor(units, device=images.device)
    can_crop = len(units) < CROP_PAYS_BELOW and hasattr(model, "crop_reader")
    if not can_crop or not exact_units(model, units).all():
        return model(images)[:, pick].float().cpu().numpy()
    pairs = pick.repeat_interleave(len(images))
    many = images.repeat(len(units), 1, 1, 1)
    return own_responses(model, many, pairs).reshape(len(units), len(images)).T


@torch.no_grad()
def own_responses(
    model: nn.Module,
    images: torch.Tensor,
    units: torch.Tensor,
    objective: Callable[[View, torch.Tensor], torch.Tensor] = activation,
) -> NDArray[np.float32]:
    """Return what unit ``units[i]`` answers to image i, or another objective of both.

    Z-scored images (n, C, h, w) to (n,).
    """
    out = np.empty(len(images), np.float32)
    crop = getattr(objective, "own_unit", False)
    for index, view in views(model, units, frame_shape(images), crop):
        value = objective(view, view.cut(images[index]))
        out[index.cpu().numpy()] = value.float().cpu().numpy()
    return out


def views(
    model: nn.Module, units: torch.Tensor, shape: tuple[int, int, int], crop: bool = True
) -> Iterator[tuple[torch.Tensor, View]]:
    """Yield parts of a batch with the fastest exact way to read them.

    Without `crop` that is from whole frames, as an objective of several units needs.
    """
    exact = exact_units(model, units.cpu().numpy()) & crop
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
