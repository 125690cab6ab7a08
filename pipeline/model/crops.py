"""The exact receptive-field crop: one feature vector from the pixels it depends on.

A point readout reads 2 x 2 features. Walking back through the blocks gives the window of the image
that these depend on. Convolving that window without padding gives the same features, provided that
whatever a window holds beyond the edge of an image or of a feature map is set to zero, as padding
sets it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from .readouts.point import PointReadout

if TYPE_CHECKING:
    from .cores import ConvBlock
    from .encoder import Encoder


class CropPlan(nn.Module):
    """Windows of every unit at the input of every block of one encoder.

    Attributes
    ----------
    start : long tensor, shape (2, units)
        First row and column of the window in the image; may lie outside of it.
    length : (int, int)
        Height and width of the window.
    """

    def __init__(self, chain: list[ConvBlock], shape: tuple[int, int], place: torch.Tensor) -> None:
        super().__init__()
        sizes = [shape]
        for block in chain:
            sizes.append(tuple(_output_size(block, n) for n in sizes[-1]))
        self.sizes = sizes
        final = place.new_tensor(sizes[-1])
        # the readout's coordinate, clamped to the feature map as grid_sample's border does
        position = ((place.flip(1) + 1) / 2 * final - 0.5).clamp_min(0)
        position = torch.minimum(position, final - 1)
        first = torch.minimum(position.floor(), (final - 2).clamp_min(0))
        self.register_buffer("fraction", (position - first).T.contiguous(), False)
        start, length = first.long().T.contiguous(), 2
        starts, lengths = [start], [length]
        for block in reversed(chain):
            start, length = start * block.pool, length * block.pool
            start = start * block.stride - block.padding
            length = (length - 1) * block.stride + block.kernel
            starts.insert(0, start)
            lengths.insert(0, length)
        self.register_buffer("starts", torch.stack(starts), False)
        self.lengths = lengths

    @classmethod
    def of(
        cls, encoder: Encoder, shift: torch.Tensor | None, units: torch.Tensor
    ) -> CropPlan | None:
        """Return the plan of an encoder, or None if its units see the whole image."""
        chain = encoder.core.chain
        if chain is None or not isinstance(encoder.readout, PointReadout):
            return None
        if min(encoder.feature_size) < 2:
            return None
        place = encoder.readout.place.detach()[units]
        return cls(chain, encoder.input_shape, place if shift is None else place + shift)

    @property
    def start(self) -> torch.Tensor:
        """First row and column of each unit's window in the image, shape (2, units)."""
        return self.starts[0]

    @property
    def length(self) -> tuple[int, int]:
        """Height and width of the windows."""
        return self.lengths[0], self.lengths[0]

    def windows_of(
        self, units: torch.Tensor, top: torch.Tensor, left: torch.Tensor, size: tuple[int, int]
    ) -> UnitWindows:
        """Prepare the windows of units in crops of a size, placed at (top, left)."""
        pixels = []
        for axis, corner in enumerate((top, left)):
            span = torch.arange(self.lengths[0], device=units.device)
            at = self.starts[0][axis][units][:, None] + span
            known = (at >= 0) & (at < self.sizes[0][axis])
            pixels.append(torch.where(known, at - corner[:, None], -1))
        rows, columns = pixels[0][:, :, None], pixels[1][:, None, :]
        outside = (rows < 0) | (columns < 0)
        index = torch.where(outside, size[0] * size[1], rows * size[1] + columns).flatten(1)
        inside = []
        for level in range(1, len(self.sizes) - 1):
            span = torch.arange(self.lengths[level], device=units.device)
            known = []
            for axis in (0, 1):
                at = self.starts[level][axis][units][:, None] + span
                known.append((at >= 0) & (at < self.sizes[level][axis]))
            mask = known[0].T[:, :, None, None] & known[1][None, :, :, None]
            inside.append(mask.to(self.fraction.dtype))
        y, x = self.fraction[:, units]
        weight_y, weight_x = torch.stack([1 - y, y]), torch.stack([1 - x, x], 1)
        return UnitWindows(index, inside, weight_y[:, :, None, None] * weight_x[None, :, :, None])


@dataclass(frozen=True)
class UnitWindows:
    """Where n units look in their crops.

    Attributes
    ----------
    index : long tensor, shape (n, pixels)
        Of the window's pixels in the flat crop, one more than the last of it for zeros outside.
    inside : list of tensor
        1 where the window at the input of every block but the first lies in the feature map,
        else 0, shape (length, n, length, 1).
    read : tensor, shape (2, n, 2, 1)
        Weights of the last features.
    """

    index: torch.Tensor
    inside: list[torch.Tensor]
    read: torch.Tensor


def _output_size(block: ConvBlock, n: int) -> int:
    return ((n + 2 * block.padding - block.kernel) // block.stride + 1) // block.pool
