"""One encoder of a frozen ensemble: its gain and shift are fixed, its batch norms folded."""

from __future__ import annotations

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pipeline.model.cores import ConvBlock
from pipeline.model.encoder import Encoder
from pipeline.model.shifters import move_images

from .crops import CropPlan
from .spectra import stack_spectra

# Standardized gazes (x, y) of mean 0 and variance 1, and their weights: a rule of the third order.
GAZES = tuple((3**0.5 * x, 3**0.5 * y) for x, y in ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)))
GAZE_WEIGHTS = (1 / 3, 1 / 6, 1 / 6, 1 / 6, 1 / 6)


def _moves(encoder: Encoder, pupil_center: NDArray | None) -> NDArray[np.float32] | None:
    """Return by how much (x, y; pixels) each of `GAZES` displaces fields from where they are."""
    if encoder.shifter is None:
        return None
    rest = encoder.zscore_state("pupil", pupil_center, 1)
    gazes = encoder.response_scale.new_tensor([(0.0, 0.0), *GAZES])
    with torch.no_grad():
        still, *moved = encoder.shifter(gazes if rest is None else gazes + rest)
    height, width = encoder.input_shape
    shifts = torch.stack([shift - still for shift in moved]).cpu().numpy()
    return shifts * np.array([width / 2, height / 2], np.float32)


class FrozenEncoder(nn.Module):
    """One encoder with its gain and shift fixed and its batch norms folded."""

    shift: torch.Tensor
    move: torch.Tensor
    gain: torch.Tensor
    units: torch.Tensor
    scale: torch.Tensor

    def __init__(
        self,
        encoder: Encoder,
        behavior: NDArray | None,
        pupil_center: NDArray | None,
        units: torch.Tensor,
    ) -> None:
        super().__init__()
        encoder = copy.deepcopy(encoder).eval().requires_grad_(False)
        zero = encoder.response_scale.new_zeros
        shift, move, gain = None, None, None
        with torch.no_grad():
            if encoder.shifter is not None:
                z = encoder.zscore_state("pupil", pupil_center, 1)
                if not encoder.shifter.moves_images:
                    shift = encoder.shifter(zero(1, 2) if z is None else z)
                elif z is not None:
                    move = encoder.shifter(z)
            if encoder.modulator is not None:
                z = encoder.zscore_state("behavior", behavior, 1)
                columns = len(encoder.behavior_mean)
                gain = encoder.modulator(zero(1, columns) if z is None else z)[0, units]
        for block in encoder.core.modules():
            if isinstance(block, ConvBlock):
                block.fold()
        self.encoder = encoder
        self.gaze_moves = _moves(encoder, pupil_center)
        self.register_buffer("shift", shift)
        self.register_buffer("move", move)
        self.register_buffer("gain", gain)
        self.register_buffer("units", units)
        self.register_buffer("scale", encoder.response_scale[units])
        # a moved image is another image: no part of it can be computed alone
        self.crop_plan = CropPlan.of(encoder, shift, units) if move is None else None
        self.spectra = stack_spectra(encoder) if move is None else None

    @property
    def windows(self) -> CropPlan:
        """The crop plan of a member that has one."""
        if self.crop_plan is None:
            raise ValueError("a member without a crop plan reads whole images only")
        return self.crop_plan

    def _features(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        if self.move is not None:
            images = move_images(images, self.move.expand(len(images), 2))
        shift = None if self.shift is None else self.shift.expand(len(images), 2)
        return self.encoder.core(images), shift

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the responses of all chosen units, shape (n, units)."""
        features, shift = self._features(images)
        out = self.encoder.readout(features, shift)[:, self.units]
        return self.encoder.rate(out, self.gain) * self.scale

    def forward_units(self, images: torch.Tensor, units: torch.Tensor) -> torch.Tensor:
        """Return the response of unit ``units[i]`` to image i, shape (n,)."""
        features, shift = self._features(images)
        return self.rate(
            self.encoder.readout.forward_units(features, self.units[units], shift), units
        )

    def rate(self, out: torch.Tensor, units: torch.Tensor) -> torch.Tensor:
        """Return the responses of units to the readout's outputs, one of each."""
        gain = None if self.gain is None else self.gain[units]
        return self.encoder.rate(out, gain) * self.scale[units]
