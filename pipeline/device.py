"""The one place where CPU or CUDA is chosen."""

from __future__ import annotations

import os

import torch


def pick_device(prefer: str | torch.device | None = None) -> torch.device:
    """Return the device to compute on: `prefer`, else INCEPTION_DEVICE, else CUDA if there.

    Raises
    ------
    ValueError
        If CUDA is asked for on a machine without it.
    """
    name = prefer or os.environ.get("INCEPTION_DEVICE")
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device {name!r} asked for, but torch sees no CUDA; use 'cpu'")
    return device
