"""Correlation surfaces on CUDA, where it is there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch


def cuda_device() -> torch.device | None:
    """Return the CUDA device to compute on, or None for the CPU.

    A machine without a driver is told so without importing torch, which takes seconds.
    """
    asked = os.environ.get("INCEPTION_DEVICE", "").startswith("cuda")
    if not asked and not Path("/dev/nvidiactl").exists():
        return None
    from pipeline.device import pick_device

    device = pick_device()
    return device if device.type == "cuda" else None


class Correlates(Protocol):
    """What a surface needs to know of a `Correlator`."""

    shape: tuple[int, int]
    window: NDArray
    filter: NDArray
    reach: NDArray


class DeviceSurface:
    """The arithmetic of `Correlator.surface` in torch: the same to 1e-4 of the peak.

    Parameters
    ----------
    correlator : Correlator
    device : torch.device
    """

    def __init__(self, correlator: Correlates, device: torch.device) -> None:
        import torch

        self.device, self.shape = device, correlator.shape
        self.window = torch.from_numpy(correlator.window).to(device)
        self.filter = torch.from_numpy(correlator.filter).to(device)
        self.reach = torch.from_numpy(correlator.reach).to(device)

    def __call__(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return surfaces (frames, lags y, lags x) of a batch."""
        import torch

        height, width = self.shape
        batch = torch.from_numpy(np.ascontiguousarray(frames, np.float32)).to(self.device)
        batch = (batch - batch.mean(dim=(1, 2), keepdim=True)) * self.window
        spectrum = torch.fft.rfft2(batch) * self.filter
        rows = torch.fft.ifft(spectrum, dim=1)[:, self.reach % height]
        return torch.fft.irfft(rows, n=width, dim=2)[:, :, self.reach % width].cpu().numpy()
