"""The wide kernels of a dense stack as products of spectra."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from pipeline.model.cores.stacked import GaussianLaplaceCore
from pipeline.model.encoder import Encoder
from pipeline.model.readouts.pyramid import PyramidReadout


class StackSpectra(nn.Module):
    """The folded layers of a dense stack; hidden ones as spectra of a map with zeros around.

    Parameters
    ----------
    core : GaussianLaplaceCore
        Folded and without gradients.
    shape : (int, int)
        Height and width of the image.
    """

    kernel: torch.Tensor
    back: torch.Tensor

    def __init__(self, core: GaussianLaplaceCore, shape: tuple[int, int]) -> None:
        super().__init__()
        layers = core.layers
        first = layers[0]
        self.skips, self.linear = core.skips, first.linear
        self.channels = first.conv.weight.shape[0]
        kernel = first.conv.weight.detach()
        self.shape = shape
        self.size = (shape[0] - kernel.shape[2] + 1, shape[1] - kernel.shape[3] + 1)
        reach = max((block.kernel // 2 for block in layers[1:]), default=0)
        self.spread = (_power_of_two(self.size[0] + reach), _power_of_two(self.size[1] + reach))
        self.register_buffer("kernel", kernel.clone(), False)
        self.register_buffer("back", torch.fft.rfft2(kernel[:, 0], s=shape), False)
        self.depth = len(layers)
        for layer, block in enumerate(layers):
            self.register_buffer(f"bias{layer}", block.bias.detach()[:, None, None], False)
            if layer:
                self.register_buffer(f"spectrum{layer}", self._spectrum(block.conv.weight), False)

    def _spectrum(self, weight: torch.Tensor) -> torch.Tensor:
        """Return spectra (frequencies, inputs, outputs) of kernels centered on 0."""
        half = weight.shape[2] // 2
        placed = weight.new_zeros(*weight.shape[:2], *self.spread)
        placed[..., : weight.shape[2], : weight.shape[3]] = weight.detach()
        spectrum = torch.fft.rfft2(placed.roll((-half, -half), (2, 3))).conj()
        return spectrum.flatten(2).permute(2, 1, 0).resolve_conj().contiguous()

    def _to_spectra(self, maps: torch.Tensor) -> torch.Tensor:
        """Return spectra (frequencies, n, channels) of maps (n, channels, h, w)."""
        return torch.fft.rfft2(maps, s=self.spread).flatten(2).permute(2, 0, 1).contiguous()

    def _to_maps(self, spectra: torch.Tensor) -> torch.Tensor:
        """Return the maps (n, channels, h, w) of spectra."""
        grid = spectra.permute(1, 2, 0).unflatten(2, (self.spread[0], -1))
        maps = torch.fft.irfft2(grid, s=self.spread)
        return maps[..., : self.size[0], : self.size[1]]

    def _bend(self, maps: torch.Tensor, layer: int) -> torch.Tensor:
        maps = maps + getattr(self, f"bias{layer}")
        return maps if self.linear else F.elu_(maps)

    def _unbend(self, gradient: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
        # the slope of ELU is 1 above 0 and ELU + 1 below
        return gradient if self.linear else maps.clamp(max=0).add_(1).mul_(gradient)

    def _sources(self, layer: int) -> range:
        return range(max(0, layer - self.skips), layer)

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Return the output of every layer, (n, channels, h, w), to images (n, 1, H, W)."""
        maps = [self._bend(F.conv2d(images, self.kernel), 0)]
        spectra = []
        for layer in range(1, self.depth):
            spectra.append(self._to_spectra(maps[-1]))
            seen = torch.cat([spectra[source] for source in self._sources(layer)], 2)
            product = torch.bmm(seen, getattr(self, f"spectrum{layer}"))
            maps.append(self._bend(self._to_maps(product), layer))
        return maps

    def backwards(self, gradients: list[torch.Tensor], maps: list[torch.Tensor]) -> torch.Tensor:
        """Return the gradient by the images of gradients by every layer's output."""
        width = self.channels
        pending: list[torch.Tensor | None] = [None] * self.depth
        for layer in reversed(range(1, self.depth)):
            total, above = gradients[layer], pending[layer]
            if above is not None:
                total = total + self._to_maps(above)
            spectra = self._to_spectra(self._unbend(total, maps[layer]))
            back = getattr(self, f"spectrum{layer}").mH
            share = torch.bmm(spectra, back)
            for place, source in enumerate(self._sources(layer)):
                part = share[:, :, place * width : (place + 1) * width]
                before = pending[source]
                pending[source] = part if before is None else before + part
        total, above = gradients[0], pending[0]
        if above is not None:
            total = total + self._to_maps(above)
        spread = torch.fft.rfft2(self._unbend(total, maps[0]), s=self.shape)
        return torch.fft.irfft2((spread * self.back).sum(1, keepdim=True), s=self.shape)


def _power_of_two(n: int) -> int:
    return 1 << (n - 1).bit_length()


def stack_spectra(encoder: Encoder) -> StackSpectra | None:
    """Return the fast form of an encoder's core, or None if core or readout is another."""
    core, readout = encoder.core, encoder.readout
    if not isinstance(core, GaussianLaplaceCore) or not isinstance(readout, PyramidReadout):
        return None
    return StackSpectra(core, encoder.input_shape)
