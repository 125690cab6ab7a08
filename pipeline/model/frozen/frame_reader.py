"""Units of a frozen ensemble that read whole images, each its own, where no crop is exact.

A pyramid readout sees the whole image. But it is linear in the features: what unit u reads is a
sum over levels of a fixed stencil of the feature map, computed once. And the wide kernels of a
dense stack are products of spectra.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pipeline.model.readouts.base import sample
from pipeline.model.readouts.pyramid import PyramidReadout

from .encoder import FrozenEncoder
from .spectra import StackSpectra

FRAMES_AT_ONCE = 16  # on a CPU: enough for the products, few enough for the cache


def stencils(readout: PyramidReadout, grid: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Return what a pyramid readout weighs the feature map by, shape (n, levels, h * w).

    Parameters
    ----------
    readout : PyramidReadout
    grid : tensor, shape (n, 1, 2)
        Where each of n units reads.
    size : (int, int)
        Height and width of the features.
    """
    with torch.enable_grad():
        blank = grid.new_zeros(len(grid), 1, *size).requires_grad_(True)
        levels = [sample(level, grid).sum() for level in readout.levels(blank)]
        rows = [torch.autograd.grad(level, blank, retain_graph=True)[0] for level in levels]
    return torch.stack(rows, 1).flatten(2)


class FrameReader:
    """What every member says of unit i and image i, for units chosen once and many images.

    Parameters
    ----------
    members : sequence of FrozenEncoder
        All with spectra.
    units : long tensor, shape (n,)
    """

    def __init__(self, members: Sequence[FrozenEncoder], units: torch.Tensor) -> None:
        self.members, self.units = list(members), units
        self.spectra: list[StackSpectra] = []
        self.stencils: list[torch.Tensor] = []
        self.weights: list[torch.Tensor] = []
        self.biases: list[torch.Tensor] = []
        for member in self.members:
            readout, column = member.encoder.readout, member.units[units]
            grid = readout.place.detach()[column].clamp(-1, 1)
            grid = (grid if member.shift is None else grid + member.shift)[:, None, :]
            spectra = member.spectra
            if spectra is None:
                raise ValueError("a frame reader needs members with spectra")
            self.spectra.append(spectra)
            self.stencils.append(stencils(readout, grid, spectra.size))
            weights = readout.features.detach()[column]
            self.weights.append(weights.unflatten(1, (readout.scale_n + 1, -1)))
            self.biases.append(readout.bias.detach()[column])

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Return responses, shape (members, n), to images (n, 1, H, W)."""
        outputs = _Outputs.apply(images, self)
        return torch.stack(
            [
                member.rate(out + bias, self.units)
                for member, out, bias in zip(self.members, outputs, self.biases, strict=True)
            ]
        )


class _Outputs(torch.autograd.Function):
    """Images (n, 1, H, W) to the readouts' outputs (members, n); their slopes are made at once."""

    @staticmethod
    def forward(ctx, images: torch.Tensor, reader: FrameReader) -> torch.Tensor:
        n, slope = len(images), ctx.needs_input_grad[0]
        step = FRAMES_AT_ONCE if images.device.type == "cpu" else max(n, 1)
        outputs = images.new_empty(len(reader.members), n)
        slopes = images.new_empty(len(reader.members), *images.shape) if slope else None
        for part in (slice(start, start + step) for start in range(0, n, step)):
            for index, spectra in enumerate(reader.spectra):
                stencil, weights = reader.stencils[index][part], reader.weights[index][part]
                # (n, levels, channels) x (n, levels, pixels): one map of weights a channel
                by_map = torch.bmm(weights.transpose(1, 2), stencil)
                by_map = by_map.unflatten(2, spectra.size)
                gradients = list(by_map.split(spectra.channels, 1))
                maps = spectra(images[part])
                outputs[index, part] = sum(
                    (a * b).sum((1, 2, 3)) for a, b in zip(maps, gradients, strict=True)
                )
                if slopes is not None:
                    slopes[index, part] = spectra.backwards(gradients, maps)
        ctx.slopes = slopes
        return outputs

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return (gradient[..., None, None, None] * ctx.slopes).sum(0), None
