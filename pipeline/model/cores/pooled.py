"""The recommended core: large first kernels, then a quarter of the pixels."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .base import ConvBlock, Core, chain_geometry, cores, group_sparsity, laplace_energy


class PooledCore(Core):
    """A sequence of padded blocks, the first of them average-pooled."""

    def __init__(self, blocks: list[ConvBlock], gamma_input: float, gamma_hidden: float) -> None:
        super().__init__()
        self.blocks = torch.nn.ModuleList(blocks)
        self.gamma_input, self.gamma_hidden = gamma_input, gamma_hidden
        self.channels = blocks[-1].norm.num_features
        self.stride, self.offset = chain_geometry(blocks)

    @property
    def chain(self) -> list[ConvBlock]:
        """The blocks, in order."""
        return list(self.blocks)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map (n, 1, h, w) to (n, channels, h / stride, w / stride)."""
        for block in self.blocks:
            images = block(images)
        return images

    def regulariser(self) -> torch.Tensor:
        """Smoothness of the first kernels, group sparsity of the others."""
        penalty = self.gamma_input * laplace_energy(self.blocks[0].conv.weight)
        for block in self.blocks[1:]:
            penalty = penalty + self.gamma_hidden * group_sparsity(block.conv.weight)
        return penalty


@cores.register("pooled", default=True)
def pooled(
    *,
    channels: int = 32,
    input_kernel: int = 9,
    pool: int = 2,
    hidden_kernels: Sequence[int] = (5, 3),
    gamma_input: float = 1.0,
    gamma_hidden: float = 0.0,
) -> PooledCore:
    """Build the recommended core: 9x9, average pool, 5x5, 3x3, padded, ELU and batch norm.

    Parameters
    ----------
    channels : int
        Of every layer.
    input_kernel, hidden_kernels : int, sequence of int
        Odd sizes (px of their input).
    pool : int
        Average pool after the first layer: its kernels are smooth, so little is lost and three
        quarters of the later work is saved.
    gamma_input : float
        Weight of the mean squared Laplacian of the first kernels; smooth kernels make MEIs that
        real cells answer.
    gamma_hidden : float
        Weight of the group sparsity of the hidden kernels.
    """
    blocks = [ConvBlock(1, channels, input_kernel, pool=pool)]
    blocks += [ConvBlock(channels, channels, kernel) for kernel in hidden_kernels]
    return PooledCore(blocks, gamma_input, gamma_hidden)
