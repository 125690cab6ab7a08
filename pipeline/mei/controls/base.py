"""What a kind of control gets, and what it returns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pipeline.mei.ascent import PARTS, ascent_methods
from pipeline.mei.objectives import objectives
from pipeline.mei.search import own_responses
from pipeline.mei.synthesize import default_norm
from pipeline.parameters import check_indices
from pipeline.registry import Registry
from pipeline.stimulus.kinds import check_kind


class KindRegistry(Registry):
    """Kinds of control, under names that tables and names of stimuli can hold."""

    def register(self, name: str, **options: Any) -> Callable[[Callable], Callable]:
        """Return a decorator that files a kind; see `Registry.register` and `check_kind`."""
        return super().register(check_kind(name), **options)


def _below(kind: str, params: Mapping[str, Any]) -> Iterator[tuple[Registry, str]]:
    """Yield the objective, and the ascent with its parts, that parameters of a kind name."""
    if isinstance(params.get("objective"), str):
        yield objectives, params["objective"]
    if "method" in params and "params" in params:
        ascent = ascent_methods.spec({"method": params["method"], "params": params["params"]})
        yield ascent_methods, ascent["name"]
        yield from ((registry, ascent[p]["name"]) for p, registry in PARTS.items() if p in ascent)


control_kinds = KindRegistry("kind of control", _below)


@dataclass(frozen=True)
class ControlContext:
    """The neurons, their models and MEIs, and what there is to search.

    Attributes
    ----------
    cnn, ln : Module
        Frozen ensembles: z-scored (n, 1, h, w) to (n, units).
    units : int array, shape (units,)
        Columns of both models.
    mei_images : array, shape (units, h, w)
        Gray levels.
    mei_masks : array, shape (units, h, w), or None
    image_mean, image_sd : float
        Gray-level statistics of the models' z-scores.
    natural : array, shape (n, h, w), or None
        Natural images at the model's size (gray levels); never those of the test tier.
    norm : float or None
        L2 norm of z-scored images; None is the norm that synthesis takes by default.
    seed : int
    """

    cnn: nn.Module
    ln: nn.Module
    units: NDArray[np.int64]
    mei_images: NDArray
    mei_masks: NDArray | None
    image_mean: float
    image_sd: float
    natural: NDArray | None
    norm: float | None
    seed: int

    def __post_init__(self) -> None:
        n_units = getattr(self.cnn, "n_units", np.iinfo(np.int64).max)
        object.__setattr__(self, "units", check_indices(self.units, n_units))

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the model's image."""
        return tuple(np.shape(self.mei_images)[1:])

    @property
    def length(self) -> float:
        """The norm that every image gets."""
        return default_norm((1, *self.shape)) if self.norm is None else float(self.norm)

    @property
    def device(self) -> torch.device:
        """Where the CNN computes."""
        for tensor in (*self.cnn.parameters(), *self.cnn.buffers()):
            return tensor.device
        return torch.device("cpu")

    def zscore(self, images: NDArray) -> torch.Tensor:
        """Return z-scored images (n, 1, h, w) on the model's device."""
        z = (np.asarray(images, np.float32) - self.image_mean) / self.image_sd
        return torch.as_tensor(z[:, None].astype(np.float32), device=self.device)

    def pick(self) -> torch.Tensor:
        """Return the units as a tensor on the model's device."""
        return torch.as_tensor(self.units, device=self.device)

    def grey(self, images: torch.Tensor) -> NDArray[np.float32]:
        """Return z-scored images (n, 1, h, w) as gray levels (n, h, w)."""
        return (images[:, 0] * self.image_sd + self.image_mean).float().cpu().numpy()


@dataclass(frozen=True)
class Controls:
    """One stimulus for every neuron."""

    images: NDArray[np.float32]  # (units, h, w) gray levels
    masks: NDArray[np.float32] | None  # (units, h, w) if the display is to blend, else None
    activations: NDArray[np.float32]  # (units,) predicted response
    info: list[dict[str, Any]]  # (units,) JSON


def finished(context: ControlContext, images: torch.Tensor, info: list[dict]) -> Controls:
    """Return images z-scored (units, 1, h, w) as controls, with the responses to them."""
    activations = own_responses(context.cnn, images, context.pick())
    return Controls(context.grey(images), None, activations, info)
