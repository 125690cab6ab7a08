"""The linear core of the LN model: one bank of large filters."""

from __future__ import annotations

from .base import ConvBlock, cores
from .pooled import PooledCore


@cores.register("linear")
def linear(
    *, channels: int = 48, kernel: int = 17, stride: int = 2, gamma_input: float = 1.0
) -> PooledCore:
    """Build one linear convolution with batch norm: any receptive field of the default core's size.

    A product of linear layers is one filter, so the twin needs one layer; the readout mixes its
    channels.

    Parameters
    ----------
    channels : int
        Filters that the receptive fields of all units are mixed from.
    kernel : int
        Odd size (px).
    stride : int
        Distance of the features (px); the readout interpolates between them.
    gamma_input : float
        Weight of the mean squared Laplacian of the filters.
    """
    return PooledCore([ConvBlock(1, channels, kernel, stride=stride, linear=True)], gamma_input, 0)
