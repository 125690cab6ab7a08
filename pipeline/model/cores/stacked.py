"""The core of Walker et al. (2019) and its linear twin."""

from __future__ import annotations

from typing import cast

import torch

from .base import ConvBlock, Core, cores, group_sparsity, laplace_energy


class GaussianLaplaceCore(Core):
    """Dense stack: every layer sees the outputs of those before, and all are the output."""

    weighting: torch.Tensor

    def __init__(
        self,
        channels: int,
        layers: int,
        input_kernel: int,
        hidden_kernel: int,
        skips: int,
        linear: bool,
        gamma_input: float,
        gamma_hidden: float,
        gauss_sigma: float,
        gauss_bias: float,
    ) -> None:
        super().__init__()
        self.skips, self.gamma_input, self.gamma_hidden = skips, gamma_input, gamma_hidden
        blocks = [ConvBlock(1, channels, input_kernel, padding=0, linear=linear)]
        for layer in range(1, layers):
            inputs = channels * min(skips, layer)
            blocks.append(ConvBlock(inputs, channels, hidden_kernel, linear=linear))
        self.blocks = torch.nn.ModuleList(blocks)
        self.channels = channels * layers
        self.offset = (input_kernel - 1) / 2
        axis = torch.linspace(-1, 1, input_kernel)
        radius2 = axis[:, None] ** 2 + axis[None, :] ** 2
        weighting = 1 - torch.exp(-radius2 / (2 * gauss_sigma**2)) + gauss_bias
        self.register_buffer("weighting", weighting, persistent=False)

    @property
    def layers(self) -> list[ConvBlock]:
        """The blocks, in order."""
        return cast(list[ConvBlock], list(self.blocks))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map (n, 1, h, w) to the concatenated layers (n, layers * channels, h - k + 1, ...)."""
        outputs: list[torch.Tensor] = []
        for block in self.blocks:
            inputs = torch.cat(outputs[-self.skips :], dim=1) if outputs else images
            outputs.append(block(inputs))
        return torch.cat(outputs, dim=1)

    def regulariser(self) -> torch.Tensor:
        """Return the Laplacian weighted to pin the rim, and group sparsity of hidden kernels."""
        first, *others = self.layers
        penalty = 0.5 * laplace_energy(first.conv.weight, self.weighting)
        penalty = self.gamma_input * penalty
        hidden = [group_sparsity(block.conv.weight) for block in others]
        if hidden:
            penalty = penalty + self.gamma_hidden * torch.stack(hidden).mean()
        return penalty


@cores.register("gaussian_laplace")
def gaussian_laplace(
    *,
    channels: int = 32,
    layers: int = 3,
    input_kernel: int = 15,
    hidden_kernel: int = 7,
    skips: int = 3,
    linear: bool = False,
    gamma_input: float = 50.0,
    gamma_hidden: float = 0.1,
    gauss_sigma: float = 0.5,
    gauss_bias: float = 0.0,
) -> GaussianLaplaceCore:
    """Build the published core: 15x15 unpadded, two padded 7x7, dense skips.

    Parameters
    ----------
    channels, layers : int
        Width of a layer, and their number.
    input_kernel, hidden_kernel : int
        Odd sizes (px).
    skips : int
        How many earlier layers a layer sees.
    linear : bool
        Leave the ELUs out: the published LN model.
    gamma_input, gamma_hidden : float
        Weights of the penalties.
    gauss_sigma, gauss_bias : float
        Of the Gaussian that frees the center of the first kernels from smoothness.

    References
    ----------
    Walker et al. (2019), doi:10.1038/s41593-019-0517-x; REFERENCE 2.8.
    """
    return GaussianLaplaceCore(
        channels,
        layers,
        input_kernel,
        hidden_kernel,
        skips,
        linear,
        gamma_input,
        gamma_hidden,
        gauss_sigma,
        gauss_bias,
    )
