"""An ensemble at one state of the animal: a differentiable function of the image alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import nn

from pipeline.model.encoder import Encoder
from pipeline.parameters import check_indices

from .alike import Alike, group_alike
from .crop_reader import CropReader
from .encoder import GAZE_WEIGHTS, FrozenEncoder
from .frame_reader import FrameReader

MAX_SPREAD_PX = 8  # by which a crop may exceed a receptive field, for members that disagree


@dataclass(frozen=True)
class Crops:
    """Where in the image each unit looks; arrays of shape (units,), one size for all.

    `exact` units answer to `forward_crops` as to `forward_units`; the others need the image.
    """

    top: NDArray[np.int64]
    left: NDArray[np.int64]
    height: int
    width: int
    exact: NDArray[np.bool_]


class FrozenModel(nn.Module):
    """Mean of encoders at fixed behavior and gaze: z-scored (n, 1, h, w) to (n, units).

    Responses are in the units of the data set. No parameter asks for a gradient; the image may.

    Parameters
    ----------
    encoders : sequence of Encoder
        What is frozen of one is a member.
    behavior, pupil_center : array, optional
        State of the animal in raw units; None is the training mean.
    units : int array, optional
        Units of the encoders to keep, in this order.
    shares : array, shape (members, units of the encoders), optional
        Weight of every member in the mean; default equal ones.

    Attributes
    ----------
    n_units : int
    input_shape : (int, int)
    image_mean, image_sd : float
    """

    shares: torch.Tensor
    _corner: torch.Tensor

    def __init__(
        self,
        encoders: Sequence[Encoder],
        behavior: NDArray | None = None,
        pupil_center: NDArray | None = None,
        units: ArrayLike | None = None,
        shares: ArrayLike | None = None,
    ) -> None:
        super().__init__()
        first = encoders[0]
        chosen = np.arange(first.n_units)
        if units is not None:
            chosen = check_indices(units, first.n_units)
        device = first.response_scale.device
        columns = torch.as_tensor(chosen).to(device)
        self.models = nn.ModuleList(
            FrozenEncoder(encoder, behavior, pupil_center, columns) for encoder in encoders
        )
        self.n_units, self.input_shape = len(chosen), first.input_shape
        self.image_mean, self.image_sd = first.image_mean, first.image_sd
        if shares is not None:
            shares = first.response_scale.new_tensor(np.asarray(shares)[:, chosen])
        self.register_buffer("shares", shares)
        self._plan_crops()

    @property
    def _each(self) -> list[FrozenEncoder]:
        return cast(list[FrozenEncoder], list(self.models))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the responses of all units, shape (n, units)."""
        if self.shares is None:
            return sum(model(images) for model in self._each) / len(self._each)
        pairs = zip(self._each, self.shares, strict=True)
        return sum(model(images) * share for model, share in pairs)

    def forward_units(self, images: torch.Tensor, units: torch.Tensor) -> torch.Tensor:
        """Return the response of unit ``units[i]`` to image i, shape (n,)."""
        return self.combine(self.members(images, units), units)

    def combine(self, members: torch.Tensor, units: torch.Tensor) -> torch.Tensor:
        """Return the ensemble's response of unit ``units[i]``, shape (n,), of (members, n)."""
        if self.shares is None:
            return members.mean(0)
        return (members * self.shares[:, units]).sum(0)

    def members(self, images: torch.Tensor, units: torch.Tensor) -> torch.Tensor:
        """Return what every member says of unit ``units[i]`` and image i, shape (members, n)."""
        return torch.stack([model.forward_units(images, units) for model in self._each])

    def gaze_spread(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Return displacements of all receptive fields as gaze brings them about, with weights.

        The gazes have the mean of the state that was asked for and the variance of the training
        data, x and y independently; members are asked for their mean.

        Returns
        -------
        shifts : tensor, shape (gazes, 2)
            Along x and y (pixels of the model's image), from where the fields are.
        weights : tensor, shape (gazes,)
            They add up to 1. None instead of both if no member has a shifter.
        """
        moves = [model.gaze_moves for model in self._each if model.gaze_moves is not None]
        if not moves:
            return None
        scale = self._each[0].scale
        mean = np.mean(moves, axis=0)
        return torch.as_tensor(mean).to(scale), scale.new_tensor(GAZE_WEIGHTS)

    def frame_reader(self, units: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
        """Return what reads image i by unit ``units[i]``, for many images of the same units.

        Its answer is that of `members`, by the fastest way there is.
        """
        if all(model.spectra is not None for model in self._each):
            return FrameReader(self._each, units)
        return lambda images: self.members(images, units)

    def _plan_crops(self) -> None:
        height, width = self.input_shape
        plans = [model.crop_plan for model in self._each if model.crop_plan is not None]
        n = self.n_units
        exact = np.zeros(n, bool)
        self.alike = nn.ModuleList()
        size, corner = [height, width], np.zeros((2, n), np.int64)
        if n and len(plans) == len(self.models):
            self.alike = group_alike(self._each)
            starts = np.stack([plan.start.cpu().numpy() for plan in plans])  # (members, 2, units)
            ends = starts + np.array([plan.length for plan in plans])[:, :, None]
            low, high = starts.min(0), ends.max(0)
            least = np.max([plan.length for plan in plans], axis=0)
            exact = (high - low <= least[:, None] + MAX_SPREAD_PX).all(0)
            for axis, limit in enumerate((height, width)):
                need = (high - low)[axis][exact].max() if exact.any() else limit
                size[axis] = int(min(need, limit))
                corner[axis] = np.clip(low[axis], 0, limit - size[axis])
        self._crops = Crops(corner[0], corner[1], size[0], size[1], exact)
        device = self._each[0].scale.device
        self.register_buffer("_corner", torch.as_tensor(corner).to(device), persistent=False)

    def crops(self, units: ArrayLike | None = None) -> Crops:
        """Return the part of the image that units see; all crops are of one size.

        The receptive field at the image's edge is that of the padded core: what lies outside of
        the image is treated as the core treats it, so that units at the edge are exact too.
        Readouts that see the whole image, such as a pyramid, have no exact units.

        Parameters
        ----------
        units : int array, optional
            Default all.
        """
        p = self._crops
        pick = slice(None) if units is None else np.asarray(units)
        return Crops(p.top[pick], p.left[pick], p.height, p.width, p.exact[pick])

    def forward_crops(self, crops: torch.Tensor, units: torch.Tensor) -> torch.Tensor:
        """Return the response of unit ``units[i]`` to an image with crop i in its place.

        See `member_crops`.
        """
        return self.combine(self.member_crops(crops, units), units)

    def member_crops(self, crops: torch.Tensor, units: torch.Tensor) -> torch.Tensor:
        """Return what every member says of unit ``units[i]`` and crop i, shape (members, n).

        Parameters
        ----------
        crops : tensor, shape (n, 1, height, width)
            Z-scored, as `crops` says.
        units : long tensor, shape (n,)
            Exact ones only.

        Raises
        ------
        ValueError
            If the crops have another size, or a unit is not exact.
        """
        return self.crop_reader(units)(crops)

    def crop_reader(self, units: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
        """Return what reads crop i by unit ``units[i]``, for many crops of the same units.

        Its answer is that of `member_crops`.

        Raises
        ------
        ValueError
            If a unit is not exact.
        """
        p = self._crops
        if not p.exact[units.cpu().numpy()].all():
            raise ValueError("units that are not exact cannot be read from crops; see crops()")
        size, corner = (p.height, p.width), self._corner[:, units]
        groups = cast(list[Alike], list(self.alike))
        readers = [
            CropReader([self._each[i] for i in group.index], group.chain, units, corner, size)
            for group in groups
        ]
        if len(readers) == 1:
            return readers[0]
        back = np.argsort([i for group in groups for i in group.index]).tolist()
        return lambda crops: torch.cat([reader(crops) for reader in readers])[back]
