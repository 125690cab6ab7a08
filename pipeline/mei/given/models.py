"""Models as a caller has them, as one module from z-scored images to responses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pipeline.model.encoder import Encoder
from pipeline.model.ensemble import Ensemble

Model = nn.Module | Ensemble | Sequence[Any]
SHAPE = (1, 36, 64)  # of the images of a module that does not say its own
TOLERANCE = 1e-5  # relative, of gray levels that are stored as float32


class Mean(nn.Module):
    """Mean of modules of the same units; they are the members of an ensemble.

    Parameters
    ----------
    modules : sequence of Module
        Each from z-scored images (n, C, h, w) to responses (n, units).
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        super().__init__()
        self.models = nn.ModuleList(modules)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the mean response of all units, shape (n, units)."""
        return torch.stack([checked_output(m(images), len(images)) for m in self.models]).mean(0)

    def members(self, images: torch.Tensor, units: torch.Tensor) -> torch.Tensor:
        """Return what every module says of unit ``units[i]`` and image i, shape (members, n)."""
        return torch.stack([m(images).gather(1, units[:, None])[:, 0] for m in self.models])


class Groups(nn.Module):
    """Mean responses of groups of units: (n, C, h, w) to (n, groups).

    Parameters
    ----------
    model : Module
        z-scored images to responses (n, units).
    groups : list of int arrays
        Units of each group.
    """

    weights: torch.Tensor

    def __init__(self, model: nn.Module, groups: Sequence[NDArray], n_units: int) -> None:
        super().__init__()
        self.model = model
        weights = np.zeros((n_units, len(groups)), np.float32)
        for column, units in enumerate(groups):
            np.add.at(weights[:, column], units, 1 / len(units))
        self.register_buffer("weights", torch.as_tensor(weights))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the mean response of every group, shape (n, groups)."""
        return self.model(images) @ self.weights.to(images)


@dataclass(frozen=True)
class Known:
    """What a model knows of its images; None where it does not say."""

    shape: tuple[int, int, int] | None
    mean: float | None
    sd: float | None

    def settle(
        self, shape: Sequence[int] | None, mean: float | None, sd: float | None
    ) -> tuple[tuple[int, int, int], float, float]:
        """Return shape, mean and sd: the model's own, or those given to a model that has none.

        Raises
        ------
        ValueError
            If what is given is not the model's, is no number, or is missing.
        """
        for name, number, own in (("mean", mean, self.mean), ("sd", sd, self.sd)):
            if number is None and own is None:
                raise ValueError(f"{name} is missing: this model does not say its own")
            if number is None or own is None or not np.isfinite(number):
                continue  # what is not finite is refused below
            if not np.isclose(number, own, rtol=TOLERANCE):
                raise ValueError(f"{name} is {number}, but the model was trained with {own}")
        if shape is not None and self.shape is not None and tuple(shape) != self.shape:
            raise ValueError(f"shape is {shape}, but the model was trained with {self.shape}")
        chosen = shape or self.shape or SHAPE
        if len(chosen) != 3 or any(int(size) != size or size < 1 for size in chosen):
            raise ValueError(f"shape must be (C, H, W), got {tuple(chosen)}")
        level = float(cast(float, self.mean if mean is None else mean))
        spread = float(cast(float, self.sd if sd is None else sd))
        if not np.isfinite(level):
            raise ValueError(f"mean must be a gray level, got {level}")
        if not (np.isfinite(spread) and spread > 0):
            raise ValueError(f"sd must be > 0 gray levels, got {spread}")
        return (int(chosen[0]), int(chosen[1]), int(chosen[2])), level, spread


def as_module(model: Model) -> nn.Module:
    """Return a model of any kind as one module: z-scored (n, C, h, w) to (n, units).

    Parameters
    ----------
    model : Module, Ensemble, Encoder, or sequence of these
        Ensembles and encoders answer in the units of their data set, at mean behavior and gaze.
        A sequence is the mean of its members.

    Raises
    ------
    ValueError
        If it is none of these.
    """
    if isinstance(model, Ensemble):
        return model.frozen()
    if isinstance(model, Encoder):
        return Ensemble([model]).frozen()
    if isinstance(model, nn.Module) and not isinstance(model, nn.ModuleList):
        return model
    if isinstance(model, (Sequence, nn.ModuleList)) and len(model):
        members = list(model)
        if all(isinstance(member, Encoder) for member in members):
            return Ensemble(cast(list[Encoder], members)).frozen()
        modules = [as_module(member) for member in members]
        _check_alike(modules)
        return Mean(modules)
    raise ValueError(
        f"model must be a torch module, an ensemble, an encoder or a list of these, got "
        f"{type(model).__name__}"
    )


def known_of(model: nn.Module) -> Known:
    """Return what a module says of its images, by `input_shape`, `image_mean` and `image_sd`."""
    if isinstance(model, Mean):
        return known_of(model.models[0])
    if isinstance(model, Groups):
        return known_of(model.model)
    size = getattr(model, "input_shape", None)
    shape = None if size is None else ((1, *size) if len(size) == 2 else tuple(size))
    return Known(shape, getattr(model, "image_mean", None), getattr(model, "image_sd", None))


def checked_output(out: Any, n: int) -> torch.Tensor:
    """Return the output of a model for n images if it is (n, units), else raise ValueError."""
    if isinstance(out, torch.Tensor) and out.ndim == 2 and len(out) == n:
        return out
    if isinstance(out, torch.Tensor):
        found = f"a tensor of shape {tuple(out.shape)}"
    else:
        found = f"a {type(out).__name__}"
    raise ValueError(
        f"the model must give a tensor (n, units), got {found} for {n} images; wrap it in a module "
        f"whose forward returns that"
    )


def _check_alike(modules: Sequence[nn.Module]) -> None:
    first = known_of(modules[0])
    for module in modules[1:]:
        other = known_of(module)
        numbers = ((first.mean, other.mean), (first.sd, other.sd))
        same = first.shape == other.shape and all(
            a is b or (a is not None and b is not None and np.isclose(a, b, rtol=TOLERANCE))
            for a, b in numbers
        )
        if not same:
            raise ValueError(f"members see other images: {first} and {other}")
