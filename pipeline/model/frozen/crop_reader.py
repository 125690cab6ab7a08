"""Units of a frozen ensemble that read crops of the image, each its own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F

from .crop_chain import CropChain
from .encoder import FrozenEncoder

WINDOWS_AT_ONCE = 128  # on a CPU: what they need in all layers stays near the cache


class CropReader:
    """What every member says of unit i and crop i, for units chosen once and many crops.

    Parameters
    ----------
    members : sequence of FrozenEncoder
        All with a crop plan.
    chain : CropChain or None
        The members' cores, if it can do them.
    units : long tensor, shape (n,)
    corner : long tensor, shape (2, n)
        First row and column of each crop in the image.
    size : (int, int)
        Height and width of the crops.
    """

    def __init__(
        self,
        members: Sequence[FrozenEncoder],
        chain: CropChain | None,
        units: torch.Tensor,
        corner: torch.Tensor,
        size: tuple[int, int],
    ) -> None:
        self.members, self.chain, self.units, self.size = list(members), chain, units, size
        top, left = corner
        self.windows = [member.windows.windows_of(units, top, left, size) for member in members]
        self.weights, self.biases = [], []
        for member, windows in zip(self.members, self.windows, strict=True):
            readout, column = member.encoder.readout, member.units[units]
            features = readout.features.detach()[column]
            self.weights.append(windows.read.weigh(features).transpose(0, 1).contiguous())
            self.biases.append(readout.bias.detach()[column])
        if chain is None:
            return
        self.index = torch.stack([windows.index.T for windows in self.windows])
        self.stacked = torch.stack(self.weights)
        levels = zip(*(windows.inside for windows in self.windows), strict=True)
        self.inside = [torch.stack(masks) for masks in levels]
        self.touching = [(masks == 0).any(4).any(3).any(1).any(0) for masks in self.inside]

    def inside_of(self, part: slice) -> list[torch.Tensor | None]:
        """Return the masks of some of the units, None where no window leaves the feature map."""
        return [
            masks[:, :, part] if bool(touching[part].any()) else None
            for masks, touching in zip(self.inside, self.touching, strict=True)
        ]

    def __call__(self, crops: torch.Tensor) -> torch.Tensor:
        """Return responses, shape (members, n), to crops (n, 1, height, width)."""
        n, (height, width) = len(self.units), self.size
        if tuple(crops.shape) != (n, 1, height, width):
            shape = tuple(crops.shape)
            raise ValueError(f"crops must be {n} x 1 x {height} x {width}, got {shape}")
        outputs = (
            self._by_blocks(crops)
            if self.chain is None
            else _Outputs.apply(crops, self, self.chain)
        )
        return torch.stack(
            [
                member.rate(out + bias, self.units)
                for member, out, bias in zip(self.members, outputs, self.biases, strict=True)
            ]
        )

    def _by_blocks(self, crops: torch.Tensor) -> list[torch.Tensor]:
        """Return the readouts' outputs by the blocks of the cores as they are."""
        padded, outputs = F.pad(crops.flatten(1), (0, 1)), []
        for member, windows, weights in zip(self.members, self.windows, self.weights, strict=True):
            length = member.windows.lengths[0]
            x = padded.gather(1, windows.index).view(-1, 1, length, length)
            core, masks, calm = member.encoder.core, [None, *windows.inside], None
            if core.contrast is not None:
                steps = member.windows.lengths[-1]
                calm = core.contrast.of_crops(x.flatten(1).T, steps).T.view(-1, 1, steps, steps)
            for block, mask in zip(core.chain, masks, strict=True):
                x = x if mask is None else x * mask.permute(1, 3, 0, 2)
                x = block(x, padding=0, calm=calm)
            outputs.append((x * weights.permute(1, 3, 0, 2)).sum((1, 2, 3)))
        return outputs


class _Outputs(torch.autograd.Function):
    """Crops (n, 1, h, w) to the readouts' outputs (members, n); their slopes are made at once."""

    @staticmethod
    def forward(ctx, crops: torch.Tensor, reader: CropReader, chain: CropChain) -> torch.Tensor:
        members, window, n = reader.index.shape
        length = reader.members[0].windows.lengths[0]
        slope = ctx.needs_input_grad[0]
        outputs, slopes = [], []
        step = max(1, WINDOWS_AT_ONCE // members) if crops.device.type == "cpu" else max(n, 1)
        for part in (slice(start, start + step) for start in range(0, n, step)):
            index = reader.index[:, :, part]
            # the last pixel stands for all outside of the image
            padded = F.pad(crops[part].flatten(1).T, (0, 0, 0, 1)).expand(members, -1, -1)
            out, back = chain(
                padded.gather(1, index).view(members, length, length, 1, -1),
                reader.inside_of(part),
                reader.stacked[:, :, part],
                slope=slope,
            )
            outputs.append(out)
            if slope:
                blank = out.new_zeros(padded.shape)
                slopes.append(blank.scatter_(1, index, back.reshape(members, window, -1)))
        ctx.slopes, ctx.shape = slopes, crops.shape
        return torch.cat(outputs, 1) if outputs else crops.new_empty(members, 0)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        total, start = [], 0
        for slopes in ctx.slopes:
            share = gradient[:, None, start : start + slopes.shape[2]]
            total.append((share * slopes).sum(0)[:-1].T)
            start += slopes.shape[2]
        return torch.cat(total).view(ctx.shape), None, None
