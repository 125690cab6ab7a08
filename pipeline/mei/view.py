"""Each image read by one unit, by the fastest way the model offers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pipeline.model.shifters import move_images


class View:
    """A model in which image i is read by unit ``units[i]``.

    Parameters
    ----------
    model : Module
        Z-scored images (n, C, h, w) to responses (n, units). `forward_units`, `members`,
        `combine`, `shares`, `crop_reader` and `frame_reader` of a frozen ensemble are used if
        there.
    units : long tensor, shape (n,)
    shape : (int, int, int)
        Channels, height and width of the whole frame.
    crop : bool
        The images are the receptive fields' crops (only units that are exact).
    """

    def __init__(
        self, model: nn.Module, units: torch.Tensor, shape: tuple[int, int, int], crop: bool
    ) -> None:
        self.model, self.units, self.shape, self.crop = model, units, shape, crop
        self._offers = cast(Any, model)  # methods beyond `forward` are looked for by their names
        self._reader: Callable[[torch.Tensor], torch.Tensor] | None = None
        self._shifted: View | None = None
        if crop:
            crops = self._offers.crops(units.cpu().numpy())
            self.top = torch.as_tensor(crops.top, device=units.device)
            self.left = torch.as_tensor(crops.left, device=units.device)
            self.size: tuple[int, int] = (crops.height, crops.width)
        else:
            self.size = (shape[1], shape[2])

    @property
    def outside(self) -> int:
        """Pixels of the frame that are not ascended, per channel."""
        return self.shape[1] * self.shape[2] - self.size[0] * self.size[1]

    def select(self, index: torch.Tensor) -> View:
        """Return the view of some of the images."""
        return View(self.model, self.units[index], self.shape, self.crop)

    def rates(self, images: torch.Tensor) -> torch.Tensor:
        """Return the response of each image's unit, shape (n,)."""
        if self._reads():
            return self.combine(self.members(images))
        if hasattr(self.model, "forward_units"):
            return self._offers.forward_units(images, self.units)
        return self.model(images).gather(1, self.units[:, None])[:, 0]

    def members(self, images: torch.Tensor) -> torch.Tensor:
        """Return what each member of an ensemble says, shape (members, n)."""
        if self._reads():
            reader = self._reader
            if reader is None:  # prepared once for all steps of an ascent
                offers = self._offers
                read = offers.crop_reader if self.crop else offers.frame_reader
                self._reader = reader = read(self.units)
            return reader(images)
        if hasattr(self.model, "members"):
            return self._offers.members(images, self.units)
        return self.rates(images)[None]

    def combine(self, members: torch.Tensor) -> torch.Tensor:
        """Return the mean (n,) of what the members of an ensemble say (members, n), by shares."""
        if hasattr(self.model, "combine"):
            return self._offers.combine(members, self.units)
        return members.mean(0)

    def shares(self) -> torch.Tensor | None:
        """Return the share of every member in each image's unit (members, n); None: equal ones."""
        shares = getattr(self.model, "shares", None)
        return None if shares is None else shares[:, self.units]

    def gaze_spread(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Return how far gaze moves receptive fields; see `FrozenModel.gaze_spread`."""
        spread = getattr(self.model, "gaze_spread", None)
        return None if spread is None else spread()

    def shifted_rates(self, images: torch.Tensor, shifts: torch.Tensor) -> torch.Tensor:
        """Return each image's response where receptive fields are displaced, shape (n, shifts).

        Parameters
        ----------
        images : tensor, shape (n, C, h, w)
            Around a crop, and beyond the frame, lies mean gray.
        shifts : tensor, shape (shifts, 2)
            Displacements (x, y) of all receptive fields (pixels).
        """
        n, k = len(images), len(shifts)
        shifted = self._shifted
        if shifted is None or len(shifted.units) != n * k:
            units = self.units.repeat_interleave(k)
            self._shifted = shifted = View(self.model, units, self.shape, self.crop)
        half = shifts.new_tensor([images.shape[3] / 2, images.shape[2] / 2])
        moved = move_images(images.repeat_interleave(k, 0), (shifts / half).repeat(n, 1))
        return shifted.rates(moved).reshape(n, k)

    def _reads(self) -> bool:
        return self.crop or hasattr(self.model, "frame_reader")

    def all_units(self, images: torch.Tensor) -> torch.Tensor:
        """Return the responses of all units, shape (n, units)."""
        return self.model(self.frame(images))

    def frame(self, images: torch.Tensor, background: torch.Tensor | None = None) -> torch.Tensor:
        """Return whole frames (n, C, h, w): crops in their places, `background` (n, C) around."""
        if not self.crop:
            return images
        frames = images.new_zeros((len(images), *self.shape))
        if background is not None:
            frames += background[..., None, None]
        flat = self._pixels()[:, None].expand(-1, self.shape[0], -1)
        return frames.flatten(2).scatter(2, flat, images.flatten(2)).reshape(frames.shape)

    def cut(self, frames: torch.Tensor) -> torch.Tensor:
        """Return the crops of whole frames (n, C, h, w), or the frames if nothing is cropped."""
        if not self.crop:
            return frames
        flat = self._pixels()[:, None].expand(-1, self.shape[0], -1)
        return frames.flatten(2).gather(2, flat).reshape(len(frames), self.shape[0], *self.size)

    def around(self, frames: torch.Tensor) -> torch.Tensor:
        """Return the mean of a frame outside of its crop, shape (n, C); 0 if nothing is."""
        if not self.outside:
            return frames.new_zeros(frames.shape[:2])
        return (frames.sum((2, 3)) - self.cut(frames).sum((2, 3))) / self.outside

    def _pixels(self) -> torch.Tensor:
        """Return where in the flat frame the pixels of the crops are, shape (n, pixels)."""
        rows = self.top[:, None] + torch.arange(self.size[0], device=self.top.device)
        columns = self.left[:, None] + torch.arange(self.size[1], device=self.top.device)
        return (rows[:, :, None] * self.shape[2] + columns[:, None, :]).flatten(1)


def exact_units(model: nn.Module, units: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which units a model reads from crops as exactly as from whole images.

    None of a model without `crop_reader`, as of a toy or a single encoder.
    """
    offers = cast(Any, model)
    if not hasattr(model, "crop_reader"):
        return np.zeros(len(units), bool)
    return np.asarray(offers.crops(units).exact)


def frame_shape(images: torch.Tensor | NDArray) -> tuple[int, int, int]:
    """Return channels, height and width of images (n, C, h, w)."""
    _, channels, height, width = images.shape
    return channels, height, width
