"""Evaluation of a module that belongs to somebody else: its modes come back as they were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


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
