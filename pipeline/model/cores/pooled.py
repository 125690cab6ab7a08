"""A core of large first kernels, then a quarter of the pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch

from .base import ConvBlock, Core, chain_geometry, cores, group_sparsity, laplace_energy
from .contrast import LocalContrast


class PooledCore(Core):
    """A sequence of padded blocks; `contrast`, if any, has the geometry of the first of them."""

    def __init__(
        self,
        blocks: list[ConvBlock],
        gamma_input: float,
        gamma_hidden: float,
        contrast: LocalContrast | None = None,
    ) -> None:
        super().__init__()
        self.blocks, self.contrast = torch.nn.ModuleList(blocks), contrast
        self.gamma_input, self.gamma_hidden = gamma_input, gamma_hidden
        self.channels = blocks[-1].outputs
        self.stride, self.offset = chain_geometry(blocks)

    @property
    def chain(self) -> list[ConvBlock]:
        """The blocks, in order."""
        return cast(list[ConvBlock], list(self.blocks))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map (n, 1, h, w) to (n, channels, h / stride, w / stride)."""
        calm = None if self.contrast is None else self.contrast(images)
        for block in self.blocks:
            images = block(images, calm=calm)
        return images

    def regulariser(self) -> torch.Tensor:
        """Smoothness of the first kernels, group sparsity of the others."""
        first, *hidden = self.chain
        penalty = self.gamma_input * laplace_energy(first.conv.weight)
        for block in hidden:
            penalty = penalty + self.gamma_hidden * group_sparsity(block.conv.weight)
        return penalty


def random_gabors(n: int, kernel: int) -> torch.Tensor:
    """Draw Gabors of unit norm, (n, kernel, kernel), in quadrature pairs, from torch's generator.

    Wavelengths are spread from 4 px to a whole kernel, orientations evenly.
    """
    pairs = (n + 1) // 2
    index = torch.arange(pairs)
    spread = (index * 0.618034 + torch.rand(1)) % 1  # golden ratio: even in both at once
    wavelength = 4 * (kernel / 4) ** spread
    angle = torch.pi * (index + torch.rand(1)) / pairs
    sigma = (0.4 * wavelength).clamp_max(0.25 * kernel)
    axis = torch.arange(kernel) - (kernel - 1) / 2
    yy, xx = axis[:, None], axis[None, :]
    along = angle.cos()[:, None, None] * xx + angle.sin()[:, None, None] * yy
    envelope = torch.exp(-(xx**2 + yy**2) / (2 * sigma[:, None, None] ** 2))
    phase = 2 * torch.pi * (along / wavelength[:, None, None] + torch.rand(pairs)[:, None, None])
    gabors = torch.stack([envelope * phase.cos(), envelope * phase.sin()], dim=1).flatten(0, 1)
    envelope = envelope.repeat_interleave(2, dim=0)
    mean = gabors.sum((1, 2), keepdim=True) / envelope.sum((1, 2), keepdim=True)
    gabors = (gabors - envelope * mean)[:n]
    return gabors / gabors.square().sum((1, 2), keepdim=True).sqrt()


def blob_weights(outputs: int, inputs: int, kernel: int) -> torch.Tensor:
    """Draw weights (outputs, inputs, kernel, kernel): random mixtures, one blob over space."""
    axis = torch.arange(kernel) - (kernel - 1) / 2
    line = torch.exp(-(axis**2) / (2 * (kernel / 5) ** 2))
    blob = line[:, None] * line[None, :]
    blob = blob / blob.square().sum().sqrt()
    return torch.randn(outputs, inputs, 1, 1) * (1 / inputs) ** 0.5 * blob


@cores.register("pooled")
def pooled(
    *,
    channels: int = 32,
    input_kernel: int = 9,
    pool: int = 2,
    hidden_kernels: Sequence[int] = (5, 3),
    gabor_start: bool = False,
    gamma_input: float = 1.0,
    gamma_hidden: float = 0.0,
) -> PooledCore:
    """Build 9x9, average pool, 5x5, 3x3, padded, ELU and batch norm.

    Parameters
    ----------
    channels : int
        Of every layer.
    input_kernel, hidden_kernels : int, sequence of int
        Odd sizes (px of their input).
    pool : int
        Average pool after the first layer: its kernels are smooth, so little is lost and three
        quarters of the later work is saved.
    gabor_start : bool
        Start the first kernels from random Gabors and the hidden ones from the same smooth blob
        in every channel.
    gamma_input : float
        Weight of the mean squared Laplacian of the first kernels; smooth kernels make MEIs that
        real cells answer.
    gamma_hidden : float
        Weight of the group sparsity of the hidden kernels.
    """
    blocks = [ConvBlock(1, channels, input_kernel, pool=pool)]
    blocks += [ConvBlock(channels, channels, kernel) for kernel in hidden_kernels]
    if gabor_start:
        with torch.no_grad():
            blocks[0].conv.weight.copy_(random_gabors(channels, input_kernel)[:, None])
            for block in blocks[1:]:
                block.conv.weight.copy_(blob_weights(*block.conv.weight.shape[:3]))
    return PooledCore(blocks, gamma_input, gamma_hidden)
