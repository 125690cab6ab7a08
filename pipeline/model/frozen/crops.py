"""The exact receptive-field crop: a few feature vectors from the pixels they depend on.

A point readout reads 2 x 2 features, a square of 2 x 2 points 3 x 3. Walking back through the
blocks gives the window of the image that these depend on. Convolving that window without padding
gives the same features, provided that whatever a window holds beyond the edge of an image or of a
feature map is set to zero, as padding sets it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from pipeline.model.cores import ConvBlock
from pipeline.model.encoder import Encoder
from pipeline.model.readouts.point import PointReadout
from pipeline.model.readouts.together import Windows


class CropPlan(nn.Module):
    """Windows of every unit at the input of every block of one encoder.

    Attributes
    ----------
    start : long tensor, shape (2, units)
        First row and column of the window in the image; may lie outside of it.
    length : (int, int)
        Height and width of the window.
    """

    share_y: torch.Tensor
    share_x: torch.Tensor
    starts: torch.Tensor

    def __init__(
        self, chain: list[ConvBlock], shape: tuple[int, int], place: torch.Tensor, taps: int
    ) -> None:
        super().__init__()
        sizes = [shape]
        for block in chain:
            sizes.append((_output_size(block, sizes[-1][0]), _output_size(block, sizes[-1][1])))
        self.sizes = sizes
        read = Windows.around(place, sizes[-1], taps)
        self.register_buffer("share_y", read.share_y, False)
        self.register_buffer("share_x", read.share_x, False)
        start, length = read.first, taps + 1
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
        taps = encoder.readout.taps
        if min(encoder.feature_size) < taps + 1:
            return None
        place = encoder.readout.place.detach()[units]
        return cls(chain, encoder.input_shape, place if shift is None else place + shift, taps)

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
        inside: list[torch.Tensor] = []
        for level in range(1, len(self.sizes) - 1):
            span = torch.arange(self.lengths[level], device=units.device)
            rows_, columns_ = (
                (at >= 0) & (at < self.sizes[level][axis])
                for axis in (0, 1)
                for at in [self.starts[level][axis][units][:, None] + span]
            )
            mask = rows_.T[:, :, None, None] & columns_[None, :, :, None]
            inside.append(mask.to(self.share_y.dtype))
        first = self.starts[-1][:, units]
        read = Windows(first, self.share_y[:, :, units], self.share_x[:, :, units])
        return UnitWindows(index, inside, read)


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
    read : Windows
        What the readout reads of the last features.
    """

    index: torch.Tensor
    inside: list[torch.Tensor]
    read: Windows


def _output_size(block: ConvBlock, n: int) -> int:
    return ((n + 2 * block.padding - block.kernel) // block.stride + 1) // block.pool
