"""Sequences of blocks on many small windows, as matrix products, with their gradient.

A general convolution and autograd lose most of their time around windows of a few hundred pixels.
Here the members of an ensemble go together, and features lie as (members, height, windows, width,
channels), so that the rows which a row of a kernel meets are one matrix without copying. Pixels, of
one channel, lie as (members, height, width, channels, windows).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional as F

from pipeline.model.cores import ConvBlock
from pipeline.model.cores.contrast import LocalContrast

Kept = tuple[Any, ...]  # what a block keeps of its way there for the way back

COPY_COST = 40  # multiplications that take the time of copying one number to and fro


class CropChain(nn.Module):
    """The folded blocks of the cores of several members on windows without padding.

    Parameters
    ----------
    chains : list of list of ConvBlock
        One a member, alike but for the weights; see `possible`.
    lengths : list of int
        Height and width of the window at the input of every block, and at the end.
    contrast : LocalContrast, optional
        What controls the last block, the same for every member.
    """

    def __init__(
        self,
        chains: list[list[ConvBlock]],
        lengths: list[int],
        contrast: LocalContrast | None = None,
    ) -> None:
        super().__init__()
        self.contrast, self.steps = contrast, lengths[-1]
        self.blocks = nn.ModuleList(
            self._kind(level, blocks[0])(blocks, lengths[level])
            for level, blocks in enumerate(zip(*chains, strict=True))
        )

    @staticmethod
    def _kind(level: int, block: ConvBlock) -> type[_Block]:
        if block.strength is not None:
            return _ControlledRows
        return _Rows if level and block.stride == 1 else _Tiles

    @staticmethod
    def possible(
        chains: list[list[ConvBlock]], contrasts: Sequence[LocalContrast | None] = (None,)
    ) -> bool:
        """Whether all blocks are full kernels, folded, without gradient, and members alike.

        Only the last one may be controlled by contrast, at a stride of 1.
        """
        plain = all(
            block.mix is None
            and block.conv.groups == 1
            and isinstance(block.norm, nn.Identity)
            and not block.conv.weight.requires_grad
            for chain in chains
            for block in chain
        )
        alike = {
            tuple((b.conv.weight.shape, b.stride, b.pool, b.padding, b.linear) for b in chain)
            for chain in chains
        }
        settings = {contrast and contrast.settings for contrast in contrasts}
        controlled = {
            (level - len(chain), block.stride)
            for chain in chains
            for level, block in enumerate(chain)
            if block.strength is not None
        }
        expected = set() if contrasts[0] is None else {(-1, 1)}
        return plain and len(alike) == len(settings) == 1 and controlled == expected

    def forward(
        self,
        windows: torch.Tensor,
        inside: list[torch.Tensor | None],
        weights: torch.Tensor,
        *,
        slope: bool,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return weighted sums of the last features, and their gradient.

        Parameters
        ----------
        windows : tensor, shape (members, height, width, channels, n)
        inside : list of tensor or None
            For the input of every block but the first, 0 where a window lies outside of the
            feature map, shape (members, height, n, width, 1); None if no window does.
        weights : tensor, shape (members, height', n, width', channels')
            Of the last features.
        slope : bool
            Whether the gradient is wanted.

        Returns
        -------
        sums : tensor, shape (members, n)
        gradient : tensor, shape of `windows`, or None
        """
        calm, seen = self._calm(windows, slope)
        x, slopes = windows, []
        blocks = cast(list[_Block], list(self.blocks))
        for level, block in enumerate(blocks):
            mask = inside[level - 1] if level else None
            if mask is not None:
                x = x * mask
            if level and isinstance(block, _Tiles):
                x = x.permute(0, 1, 3, 4, 2)
            bend, x = block(x, calm)
            slopes.append(bend)
        sums = (x * weights).sum((1, 3, 4))
        if not slope:
            return sums, None
        gradient, of_calm = weights, None
        for level, block in reversed(list(enumerate(blocks))):
            gradient, of_gain = block.backwards(gradient, slopes[level])
            of_calm = of_calm if of_gain is None else of_gain
            if level and isinstance(block, _Tiles):
                gradient = gradient.permute(0, 1, 4, 2, 3)
            mask = inside[level - 1] if level else None
            if mask is not None:
                gradient = gradient * mask
        if calm is not None and seen is not None:
            gradient = gradient + torch.autograd.grad(calm, seen, of_calm)[0]
        return sums, gradient

    def _calm(
        self, windows: torch.Tensor, slope: bool
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Return the gain that controls the last block, and the windows that it depends on.

        Its shape is (members, steps, n, steps, 1).
        """
        if self.contrast is None:
            return None, None
        with torch.enable_grad():
            seen = windows.detach().requires_grad_(slope)
            gain = self.contrast.of_crops(seen.flatten(1, 3), self.steps)
            return gain.unflatten(1, (self.steps, self.steps)).transpose(2, 3)[..., None], seen


class _Block(nn.Module):
    """Common to both ways of doing a block; `size` is the length of its input window."""

    def __init__(self, blocks: tuple[ConvBlock, ...], size: int) -> None:
        super().__init__()
        first = blocks[0]
        self.kernel, self.stride, self.pool = first.kernel, first.stride, first.pool
        self.linear, (self.outputs, self.inputs) = first.linear, first.conv.weight.shape[:2]
        self.size, self.length = size, (size - self.kernel) // self.stride + 1

    def forward(
        self, x: torch.Tensor, calm: torch.Tensor | None = None
    ) -> tuple[Kept, torch.Tensor]:
        """Map the windows to what the way back needs, and the features."""
        raise NotImplementedError

    def backwards(
        self, gradient: torch.Tensor, kept: Kept
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Map the gradient by the outputs to those by the inputs and by the gain, if it has one."""
        raise NotImplementedError

    def _finish(self, out: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor]:
        """Return slope and value of the nonlinearity, the latter pooled.

        Of and to (members, length, n, length, outputs); ELU by exp takes half the time of elu.
        """
        slope = None
        if not self.linear:
            slope = out.clamp(max=0).exp_()
            out = out.clamp_(min=0).add_(slope).sub_(1)
        if self.pool == 1:
            return slope, out
        kept = self.length // self.pool
        tiles = out[:, : kept * self.pool, :, : kept * self.pool]
        tiles = tiles.unflatten(3, (kept, self.pool)).unflatten(1, (kept, self.pool))
        return slope, tiles.mean((2, 5))

    def _unfinish(self, gradient: torch.Tensor, slope: torch.Tensor | None) -> torch.Tensor:
        """Return the gradient before pool and nonlinearity."""
        if self.pool > 1:
            pool = self.pool
            gradient = gradient.repeat_interleave(pool, 1).repeat_interleave(pool, 3) / pool**2
            left = self.length - gradient.shape[1]
            if left:
                gradient = F.pad(gradient, (0, 0, 0, left, 0, 0, 0, left))
        return gradient.contiguous() if slope is None else gradient * slope


def _kernels(blocks: tuple[ConvBlock, ...]) -> torch.Tensor:
    """Return kernels, shape (members, k, k, inputs, outputs)."""
    return torch.stack([block.conv.weight.detach().permute(2, 3, 1, 0) for block in blocks])


def _biases(blocks: tuple[ConvBlock, ...], times: int = 1) -> torch.Tensor:
    """Return biases, shape (members, 1, times * outputs)."""
    return torch.stack([block.bias.detach().repeat(times) for block in blocks])[:, None]


class _Tiles(_Block):
    """Every tile of outputs in a row as one product with all the pixels it sees.

    Windows are the last axis of its input, (members, size, size, inputs, n): pixels are copied in
    runs of them.
    """

    matrix: torch.Tensor
    bias: torch.Tensor

    def __init__(self, blocks: tuple[ConvBlock, ...], size: int) -> None:
        super().__init__(blocks, size)
        self.tile = min(range(1, 9), key=self._cost)
        self.tiles = -(-self.length // self.tile)
        self.span = self.kernel + (self.tile - 1) * self.stride
        kernels = _kernels(blocks)
        shape = (len(blocks), self.kernel, self.span, self.inputs, self.tile, self.outputs)
        matrix = kernels.new_zeros(shape)
        for place in range(self.tile):
            first = place * self.stride
            matrix[:, :, first : first + self.kernel, :, place] = kernels
        self.register_buffer("matrix", matrix.flatten(4, 5).flatten(1, 3), False)
        self.register_buffer("bias", _biases(blocks, self.tile), False)

    def _cost(self, tile: int) -> int:
        """Return multiplications and copies of a row of outputs."""
        seen = self.kernel * (self.kernel + (tile - 1) * self.stride) * self.inputs
        return -(-self.length // tile) * seen * (tile * self.outputs + COPY_COST)

    def forward(
        self, x: torch.Tensor, calm: torch.Tensor | None = None
    ) -> tuple[Kept, torch.Tensor]:
        """Map the windows to the slopes of the nonlinearity and the features."""
        members, n, step = x.shape[0], x.shape[4], self.tile * self.stride
        beyond = (self.tiles - 1) * step + self.span - self.size
        if beyond > 0:
            x = F.pad(x, (0, 0, 0, 0, 0, beyond))
        seen = x.unfold(1, self.kernel, self.stride).unfold(2, self.span, step)
        # (members, kernel, span, inputs, rows, tiles, n)
        seen = seen[:, :, : self.tiles].permute(0, 5, 6, 3, 1, 2, 4)
        seen = seen.reshape(members, self.matrix.shape[1], -1)
        out = torch.baddbmm(self.bias, seen.transpose(1, 2), self.matrix)
        out = out.view(members, self.length, self.tiles, n, self.tile, self.outputs)
        out = out.transpose(2, 3).reshape(members, self.length, n, -1, self.outputs)
        if self.tiles * self.tile != self.length:
            out = out[:, :, :, : self.length].contiguous()
        slope, out = self._finish(out)
        return (slope,), out

    def backwards(self, gradient: torch.Tensor, kept: Kept) -> tuple[torch.Tensor, None]:
        """Map the gradient by the outputs to that by the inputs."""
        gradient = self._unfinish(gradient, kept[0])
        members, n = gradient.shape[0], gradient.shape[2]
        missing = self.tiles * self.tile - self.length
        if missing:
            gradient = F.pad(gradient, (0, 0, 0, missing))
        tiled = gradient.unflatten(3, (self.tiles, self.tile)).transpose(2, 3)
        tiled = tiled.reshape(members, -1, self.tile * self.outputs)
        seen = self.matrix @ tiled.transpose(1, 2)
        seen = seen.view(members, self.kernel, self.span, self.inputs, self.length, self.tiles, n)
        width = max(self.size, (self.tiles - 1) * self.tile * self.stride + self.span)
        out = gradient.new_zeros(members, self.size, width, self.inputs, n)
        last = (self.length - 1) * self.stride + 1
        for tile in range(self.tiles):
            left = tile * self.tile * self.stride
            for row in range(self.kernel):
                part = out[:, row : row + last : self.stride, left : left + self.span]
                part += seen[:, row, :, :, :, tile].permute(0, 3, 1, 2, 4)
        return out[:, :, : self.size], None


class _Rows(_Block):
    """Every row of the kernels as one product: only neighbors in a row are laid side by side."""

    rows: torch.Tensor
    back: torch.Tensor
    bias: torch.Tensor

    def __init__(self, blocks: tuple[ConvBlock, ...], size: int) -> None:
        super().__init__(blocks, size)
        rows = _kernels(blocks).flatten(2, 3).transpose(0, 1).contiguous()
        self.register_buffer("rows", rows, False)  # (k, members, k * inputs, outputs)
        self.register_buffer("back", rows.transpose(2, 3).contiguous(), False)
        self.register_buffer("bias", _biases(blocks), False)

    def forward(
        self, x: torch.Tensor, calm: torch.Tensor | None = None
    ) -> tuple[Kept, torch.Tensor]:
        """Map (members, size, n, size, inputs) to slopes and features."""
        slope, out = self._finish(self._sums(x, self.bias))
        return (slope,), out

    def _sums(self, x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        members, n, length = x.shape[0], x.shape[2], self.length
        x = x.contiguous()
        shape = (members, self.size, n, length, self.kernel * self.inputs)
        beside = x.as_strided(shape, (*x.stride()[:3], self.inputs, 1)).contiguous()
        out = torch.baddbmm(bias, beside[:, :length].flatten(1, 3), self.rows[0])
        for row in range(1, self.kernel):
            out.baddbmm_(beside[:, row : row + length].flatten(1, 3), self.rows[row])
        return out.view(members, length, n, length, self.outputs)

    def backwards(
        self, gradient: torch.Tensor, kept: Kept
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Map the gradient by the outputs to that by the inputs."""
        return self._spread(self._unfinish(gradient, kept[0])), None

    def _spread(self, gradient: torch.Tensor) -> torch.Tensor:
        members, n, length = gradient.shape[0], gradient.shape[2], self.length
        flat = gradient.reshape(members, -1, self.outputs)
        shape = (members, self.size, n, length, self.kernel, self.inputs)
        beside = gradient.new_empty(shape)
        beside[:, length:] = 0  # what comes first overwrites the rest
        for row in range(self.kernel):
            part = beside[:, row : row + length].flatten(4, 5).flatten(1, 3)
            part.baddbmm_(flat, self.back[row], beta=min(row, 1))
        out = gradient.new_empty(members, self.size, n, self.size, self.inputs)
        out[:, :, :, :length] = beside[..., 0, :]
        out[:, :, :, length:] = 0
        for column in range(1, self.kernel):
            out[:, :, :, column : column + length] += beside[..., column, :]
        return out


class _ControlledRows(_Rows):
    """Rows whose sums are scaled by the contrast, every channel at its strength."""

    strength: torch.Tensor
    none: torch.Tensor

    def __init__(self, blocks: tuple[ConvBlock, ...], size: int) -> None:
        super().__init__(blocks, size)
        strengths = [block.strength for block in blocks if block.strength is not None]
        strength = torch.stack([strength.detach() for strength in strengths])
        self.register_buffer("strength", strength[:, None, None, None], False)
        self.register_buffer("none", torch.zeros_like(self.bias), False)

    def forward(
        self, x: torch.Tensor, calm: torch.Tensor | None = None
    ) -> tuple[Kept, torch.Tensor]:
        """Map as `_Rows`, under a gain (members, length, n, length, 1); keep what it scales."""
        if calm is None:
            raise ValueError("a controlled block needs the contrast")
        sums = self._sums(x, self.none)
        scale = 1 + calm.detach() * self.strength
        slope, out = self._finish(torch.addcmul(self.bias[:, None, None], sums, scale))
        return (slope, sums, scale), out

    def backwards(self, gradient: torch.Tensor, kept: Kept) -> tuple[torch.Tensor, torch.Tensor]:
        """Map the gradient by the outputs to those by the inputs and by the gain."""
        slope, sums, scale = kept
        gradient = self._unfinish(gradient, slope)
        of_calm = (gradient * sums * self.strength).sum(4, keepdim=True)
        return self._spread((gradient * scale).contiguous()), of_calm
