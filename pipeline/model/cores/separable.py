"""A depth-separable core as in the SENSORIUM baseline."""

from __future__ import annotations

from .base import ConvBlock, cores
from .pooled import PooledCore


@cores.register("separable")
def separable(
    *,
    channels: int = 64,
    layers: int = 4,
    input_kernel: int = 9,
    hidden_kernel: int = 7,
    pool: int = 1,
    gamma_input: float = 6.3831,
) -> PooledCore:
    """Build a full first layer and depth-separable hidden ones.

    Parameters
    ----------
    channels, layers : int
        Width and depth.
    input_kernel, hidden_kernel : int
        Odd sizes (px of their input).
    pool : int
        Average pool after the first layer.
    gamma_input : float
        Weight of the mean squared Laplacian of the first kernels.

    References
    ----------
    Willeke et al. (2022), arXiv:2206.08666
    """
    blocks = [ConvBlock(1, channels, input_kernel, pool=pool)]
    blocks += [
        ConvBlock(channels, channels, hidden_kernel, separable=True) for _ in range(layers - 1)
    ]
    return PooledCore(blocks, gamma_input, 0.0)
