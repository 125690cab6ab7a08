"""The one place where CPU or CUDA is chosen."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

# read when cuBLAS starts: its products then are the same every time
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def pick_device(prefer: str | torch.device | None = None) -> torch.device:
    """Return the device to compute on: `prefer`, else INCEPTION_DEVICE, else CUDA if there.

    CUDA is told to compute float32 in full, by the same convolutions every time: what it finds is
    what a CPU finds up to rounding, for a seventh of a training step (docs/models.md).

    Raises
    ------
    ValueError
        If CUDA is asked for on a machine without it.
    """
    name = prefer or os.environ.get("INCEPTION_DEVICE")
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise ValueError(f"device {name!r} asked for, but torch sees no CUDA; use 'cpu'")
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.deterministic = True
    return device


@contextmanager
def repeatable(device: torch.device) -> Iterator[None]:
    """Within the context, CUDA adds in the same order every time, wherever it can.

    A CPU does so anyway. Only a readout that resamples its features (`pyramid`) then differs by
    rounding from run to run, and torch warns of it.
    """
    if device.type != "cuda":
        yield
        return
    enabled = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    switches: Any = torch.utils.deterministic  # its stub lacks the attribute
    fill = switches.fill_uninitialized_memory
    with warnings.catch_warnings():
        # it names the gradient of the images, which nothing asks for
        warnings.filterwarnings("ignore", "grid_sampler_2d_backward_cuda")
        torch.use_deterministic_algorithms(True, warn_only=True)
        switches.fill_uninitialized_memory = False
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
            switches.fill_uninitialized_memory = fill


@contextmanager
def evaluating(*modules: nn.Module) -> Iterator[None]:
    """Put modules into `eval` mode, and every submodule back into its own mode at the end.

    Examples
    --------
    >>> net = nn.Sequential(nn.BatchNorm2d(1), nn.Dropout())
    >>> _ = net[0].eval()
    >>> with evaluating(net):
    ...     net[1].training
    False
    >>> [part.training for part in net]
    [False, True]
    """
    before = [(part, part.training) for module in modules for part in module.modules()]
    for module in modules:
        module.eval()
    try:
        yield
    finally:
        for part, training in before:
            part.training = training
