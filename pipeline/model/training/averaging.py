"""The mean of the weights along the end of a training: what the noise of its batches left out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


class WeightAverage:
    """A moving average of a module's weights and running statistics, longer with every step.

    Every batch pushes the weights along its own noise. Their mean over many steps is nearer to
    where all batches agree, as a smaller step would bring them, without the time that this takes.

    Parameters
    ----------
    module : Module
    over : float
        Share of the steps done so far, the latest, that the average is about.

    References
    ----------
    Polyak and Juditsky (1992), SIAM Journal on Control and Optimization 30, 838-855.
    Shamir and Zhang (2013), ICML, PMLR 28(1), 71-79: the average that needs no known end.
    """

    def __init__(self, module: nn.Module, over: float) -> None:
        if not 0 < over <= 1:
            raise ValueError(f"an average over more than 0 and at most 1 of the steps, got {over}")
        self.module, self.over = module, over
        self.mean = {name: tensor.detach().clone() for name, tensor in self._now().items()}
        self.steps = 0

    def _now(self) -> dict[str, torch.Tensor]:
        """Return what is averaged; weights that several members share, once."""
        named = self.module.state_dict().items()
        once = {t.data_ptr(): (name, t) for name, t in named if t.dtype.is_floating_point}
        return dict(once.values())

    @torch.no_grad()
    def update(self) -> None:
        """Take the weights of a step in."""
        share = 1 / (1 + self.over * self.steps)
        self.steps += 1
        torch._foreach_lerp_(list(self.mean.values()), list(self._now().values()), share)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within the context, the module has the mean weights."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, tensor in self._now().items():
            kept = tensor.clone()
            tensor.copy_(self.mean[name])
            self.mean[name].copy_(kept)
