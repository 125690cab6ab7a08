"""Cores that begin with a bank of large strided filters: the recommended one, and simpler ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .base import ConvBlock, cores
from .contrast import LocalContrast
from .pooled import PooledCore, blob_weights, random_gabors


@cores.register("deep", default=True)
def deep(
    *,
    channels: int = 48,
    input_kernel: int = 13,
    input_padding: int = 4,
    stride: int = 2,
    widen: float = 1.333,
    hidden_kernels: Sequence[int] = (3, 3),
    narrow: float = 0.5,
    contrast_sigma_px: float = 3.0,
    contrast_floor: float = 0.3,
    gabor_start: bool = True,
    gamma_input: float = 1.0,
    gamma_hidden: float = 0.0,
) -> PooledCore:
    """Build the recommended core: `divisive` with a narrow hidden layer before the wide one.

    Corners, curves and crossings are combinations of combinations of oriented filters, and larger
    than what one hidden layer sees (with the readout `square`, 4 px more for each). A layer of few
    channels pays for the second one.

    Parameters
    ----------
    channels, input_kernel, input_padding, stride, widen, hidden_kernels
        As for `strided`; `widen` tells the channels of the last hidden layer.
    narrow : float
        How many times as many channels as the last hidden layer the hidden ones before it have.
    contrast_sigma_px, contrast_floor
        As for `divisive`.
    gabor_start, gamma_input, gamma_hidden
        As for `strided`.

    Examples
    --------
    >>> [block.conv.out_channels for block in deep(channels=6).blocks]
    [6, 4, 8]
    """
    blocks = _blocks(
        channels,
        input_kernel,
        input_padding,
        stride,
        widen,
        hidden_kernels,
        gabor_start,
        True,
        narrow,
    )
    contrast = LocalContrast(input_kernel, stride, input_padding, contrast_sigma_px, contrast_floor)
    return PooledCore(blocks, gamma_input, gamma_hidden, contrast)


@cores.register("divisive")
def divisive(
    *,
    channels: int = 48,
    input_kernel: int = 13,
    input_padding: int = 4,
    stride: int = 2,
    widen: float = 1.333,
    hidden_kernels: Sequence[int] = (3,),
    contrast_sigma_px: float = 3.0,
    contrast_floor: float = 0.3,
    gabor_start: bool = True,
    gamma_input: float = 1.0,
    gamma_hidden: float = 0.0,
) -> PooledCore:
    """Build `strided`, its last channels divided by the local contrast.

    How strongly is learned for every channel, and half of them start undivided. Cells that
    normalize are common, and layers of weighted sums need many channels to divide.

    Parameters
    ----------
    channels, input_kernel, input_padding, stride, widen, hidden_kernels
        As for `strided`.
    contrast_sigma_px, contrast_floor : float
        As for `LocalContrast`.
    gabor_start, gamma_input, gamma_hidden
        As for `strided`.
    """
    blocks = _blocks(
        channels, input_kernel, input_padding, stride, widen, hidden_kernels, gabor_start, True
    )
    contrast = LocalContrast(input_kernel, stride, input_padding, contrast_sigma_px, contrast_floor)
    return PooledCore(blocks, gamma_input, gamma_hidden, contrast)


@cores.register("strided")
def strided(
    *,
    channels: int = 32,
    input_kernel: int = 13,
    input_padding: int = 4,
    stride: int = 2,
    widen: float = 2.0,
    hidden_kernels: Sequence[int] = (3,),
    gabor_start: bool = True,
    gamma_input: float = 1.0,
    gamma_hidden: float = 0.0,
) -> PooledCore:
    """Build 13x13 of stride 2, then 3x3, ELU and batch norm.

    Nothing is computed at full resolution, as `pooled` does, so that its wider hidden layer costs
    no more; its kernels are small, since a recording cannot teach 5x5 ones. The readout that
    belongs to it, `square`, is a third layer of its own for every unit; a second shared 3x3 before
    it (``hidden_kernels=(3, 3), widen=1.5``) predicts a little better and costs a quarter more.

    Parameters
    ----------
    channels : int
        Of the first layer.
    widen : float
        How many times as many the hidden layers have.
    input_kernel, hidden_kernels : int, sequence of int
        Odd sizes (px of their input).
    input_padding : int
        Zeros around the image, fewer than would keep its size: a sixth of the features, which
        would look mostly at zeros, is not computed.
    stride : int
        Of the first layer: its kernels are smooth, so little is lost between the pixels.
    gabor_start : bool
        Start the first kernels from random Gabors and the hidden ones from the same smooth blob
        in every channel, so that a short recording need not teach what V1 looks like.
    gamma_input : float
        Weight of the mean squared Laplacian of the first kernels; smooth kernels make MEIs that
        real cells answer.
    gamma_hidden : float
        Weight of the group sparsity of the hidden kernels.
    """
    blocks = _blocks(
        channels, input_kernel, input_padding, stride, widen, hidden_kernels, gabor_start, False
    )
    return PooledCore(blocks, gamma_input, gamma_hidden)


def _blocks(
    channels: int,
    input_kernel: int,
    padding: int,
    stride: int,
    widen: float,
    hidden_kernels: Sequence[int],
    gabor_start: bool,
    controlled: bool,
    narrow: float = 1.0,
) -> list[ConvBlock]:
    """Return the blocks, the last of them controlled by contrast if asked."""
    wide = round(widen * channels)
    before = max(1, round(narrow * wide))
    widths = [channels, *[before] * (len(hidden_kernels) - 1), wide][: len(hidden_kernels) + 1]
    last = len(hidden_kernels) if controlled else -1
    first = ConvBlock(
        1, channels, input_kernel, stride=stride, padding=padding, controlled=last == 0
    )
    blocks = [first]
    for level, kernel in enumerate(hidden_kernels, start=1):
        inputs, outputs = widths[level - 1], widths[level]
        blocks.append(ConvBlock(inputs, outputs, kernel, controlled=level == last))
    if gabor_start:
        with torch.no_grad():
            blocks[0].conv.weight.copy_(random_gabors(channels, input_kernel)[:, None])
            for block in blocks[1:]:
                block.conv.weight.copy_(blob_weights(*block.conv.weight.shape[:3]))
    return blocks
