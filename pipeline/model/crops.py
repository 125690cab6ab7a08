"""The exact receptive-field crop: one feature vector from the pixels it depends on.

A point readout reads 2 x 2 features. Walking back through the blocks gives the window of the image
that these depend on. Convolving that window without padding gives the same features, provided that
whatever a window holds beyond the edge of an image or of a feature map is set to zero, as padding
sets it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from .crop_conv import first_block
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

    def _inside(self, level: int, units: torch.Tensor) -> list[torch.Tensor]:
        """Return rows (n, length) and columns that lie inside of the map at a level."""
        span = torch.arange(self.lengths[level], device=units.device)
        inside = []
        for axis in (0, 1):
            at = self.starts[level][axis][units][:, None] + span
            inside.append((at >= 0) & (at < self.sizes[level][axis]))
        return inside

    def forward(
        self,
        chain: list[ConvBlock],
        crops: torch.Tensor,
        units: torch.Tensor,
        top: torch.Tensor,
        left: torch.Tensor,
    ) -> torch.Tensor:
        """Return what each unit reads, shape (n, channels), from crops placed at (top, left)."""
        x = self._window(crops, units, top, left)
        for level, block in enumerate(chain):
            if level:
                rows, columns = self._inside(level, units)
                if not bool(rows.all() & columns.all()):
                    x = x * (rows[:, None, :, None] & columns[:, None, None, :])
            x = block(x, padding=0) if level else first_block(block, x)
        y, z = self.fraction[:, units]
        weight_y, weight_x = torch.stack([1 - y, y], 1), torch.stack([1 - z, z], 1)
        return torch.einsum("ncyx,ny,nx->nc", x, weight_y, weight_x)

    def _window(
        self, crops: torch.Tensor, units: torch.Tensor, top: torch.Tensor, left: torch.Tensor
    ) -> torch.Tensor:
        length = self.lengths[0]
        span = torch.arange(length, device=crops.device)
        index, known = [], self._inside(0, units)
        for axis, corner in enumerate((top, left)):
            at = self.starts[0][axis][units] - corner
            index.append((at[:, None] + span).clamp(0, crops.shape[2 + axis] - 1))
        rows, columns = index
        flat = (rows[:, :, None] * crops.shape[3] + columns[:, None, :]).flatten(1)
        window = crops.flatten(1).gather(1, flat).reshape(len(crops), 1, length, length)
        return window * (known[0][:, None, :, None] & known[1][:, None, None, :])


def _output_size(block: ConvBlock, n: int) -> int:
    return ((n + 2 * block.padding - block.kernel) // block.stride + 1) // block.pool
