"""The convolutional network behind `network`: its layers, and what it is told about a recording."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from .indicators import autocovariance

CHANNELS = 32
TAPS = 7  # free weights, one per frame, around the frame at hand
DEEP_TAPS = 5
KNOTS_S = (0.02, 0.045, 0.08, 0.13, 0.2, 0.3, 0.45, 0.7, 1.1)
BEFORE_S, AFTER_S = 0.7, 1.1  # knots in the past and in the future of a spike
LAGS_S = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
LEVELS = (0.05, 0.25, 0.5, 0.75, 0.9, 0.97, 0.99, 0.998)
SLOPES = (0.01, 0.1, 0.9, 0.97, 0.99, 0.998)


def describe(
    normal: NDArray, fps: float, rise_s: float | None = None, decay_s: float | None = None
) -> NDArray[np.float32]:
    """Return what the network is told about every unit, (units, features).

    Frame rate, autocovariance, quantiles of level and slope, and kinetics if they are given: from
    these it learns to guess amplitude, kinetics and firing of the unit, as it must to know what one
    action potential looks like.
    """
    units, frames = normal.shape
    given = np.zeros((units, 4))
    for column, value in enumerate((rise_s, decay_s)):
        if value is not None:
            given[:, 2 * column] = 1.0
            given[:, 2 * column + 1] = np.log(np.asarray(value) / (0.03, 0.4)[column])
    lag = np.maximum(np.asarray(LAGS_S) * fps, 1.0)
    low = lag.astype(int)
    part = lag - low
    covariance = autocovariance(normal, [0, 1, *low, *(low + 1)])
    below, above = covariance[:, 2 : 2 + len(lag)], covariance[:, 2 + len(lag) :]
    decays = below * (1 - part) + above * part
    first = np.maximum(covariance[:, 1:2], 0.05)
    slope = np.zeros((units, 1)) if frames < 2 else np.diff(normal, axis=1)
    if slope.shape[1] > 1:
        slope = (slope[:, 1:] + slope[:, :-1]) / 2
    lift = np.mean(np.maximum(slope, 0) ** 3, axis=1) - np.mean(np.maximum(-slope, 0) ** 3, axis=1)
    columns = [
        np.full((units, 1), np.log(fps / 15)),
        np.arcsinh(covariance[:, :2]) / 2,
        np.clip(decays / first, -1, 2),
        np.arcsinh(np.quantile(normal, LEVELS, axis=1).T) / 2,
        np.arcsinh(np.quantile(slope, SLOPES, axis=1).T) / 2,
        np.cbrt(lift)[:, None] / 3,
        given,
    ]
    # beyond what was trained, the nearest that was
    return np.clip(np.concatenate(columns, axis=1), -4, 4).astype(np.float32)


FEATURES = 1 + 2 + len(LAGS_S) + len(LEVELS) + len(SLOPES) + 1 + 4


def hats(fps: float) -> NDArray[np.float32]:
    """Return a basis of kernels, (functions, taps): hats over knots in seconds, seen by frames.

    Row j averages the trace around its knot. The same weights on this basis are the same kernel
    in time at any frame rate.
    """
    past = [-k for k in reversed(KNOTS_S) if k <= BEFORE_S]
    knots = np.array([*past, 0.0, *(k for k in KNOTS_S if k <= AFTER_S)])
    edges = np.concatenate([[2 * knots[0] - knots[1]], knots, [2 * knots[-1] - knots[-2]]])
    reach = max(TAPS // 2, int(np.ceil(max(-edges[0], edges[-1]) * fps)))
    fine = np.arange(edges[0], edges[-1], 0.0005)
    tap = np.rint(fine * fps).astype(int) + reach
    out = np.zeros((len(knots), 2 * reach + 1))
    for j in range(len(knots)):
        hat = np.interp(fine, edges[j : j + 3], [0.0, 1.0, 0.0], left=0.0, right=0.0)
        np.add.at(out[j], tap, hat / hat.sum())
    return out.astype(np.float32)


class SpikeNetwork(nn.Module):
    """Three convolutions, modulated by the description of the unit.

    The first layer's kernels are functions of time in seconds, plus free taps in frames; the
    description scales and shifts every channel of every layer. A mixture of the first layer's
    channels, chosen by the description, goes straight to the answer: a linear filter made for the
    unit, which is all that a trace almost without noise needs.
    """

    def __init__(self) -> None:
        super().__init__()
        self.basis_weight = nn.Parameter(torch.empty(CHANNELS, 2, len(hats(30.0))))
        self.tap_weight = nn.Parameter(torch.empty(CHANNELS, 2, TAPS))
        nn.init.normal_(self.basis_weight, std=0.25)
        nn.init.normal_(self.tap_weight, std=0.15)
        self.second = nn.Conv1d(CHANNELS, CHANNELS, DEEP_TAPS, padding=DEEP_TAPS // 2)
        self.third = nn.Conv1d(CHANNELS, CHANNELS, DEEP_TAPS, padding=DEEP_TAPS // 2)
        self.out = nn.Conv1d(CHANNELS, 2, 1)
        self.told = nn.Sequential(nn.Linear(FEATURES, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU())
        self.modulate = nn.Linear(64, 7 * CHANNELS + 4)
        nn.init.normal_(self.modulate.weight, std=0.02)
        nn.init.zeros_(self.modulate.bias)

    def kernel(self, fps: float) -> torch.Tensor:
        """Return the first layer's kernel at a frame rate, (channels, 2, taps)."""
        basis = torch.from_numpy(hats(fps)).to(self.basis_weight)
        kernel = self.basis_weight @ basis
        pad = (kernel.shape[-1] - TAPS) // 2
        return kernel + functional.pad(self.tap_weight, (pad, pad))

    def forward(
        self, normal: torch.Tensor, description: torch.Tensor, fps: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return spikes per frame and the trace without noise, both (units, frames).

        Parameters
        ----------
        normal : Tensor, shape (units, frames)
            Trace in units of its noise.
        description : Tensor, shape (units, features)
            Made by `describe`.
        fps : float
        """
        told = self.modulate(self.told(description))
        scale, shift, mix = told[:, :-4].reshape(-1, 7, CHANNELS, 1).split((3, 3, 1), dim=1)
        last = told[:, -4:, None]
        # the logarithm keeps noise and bursts in one range; the linear part keeps bursts in order
        size = self.size_of(description)
        inputs = torch.stack([torch.asinh(normal), (normal / size).clamp(-5, 30)], dim=1)
        kernel = self.kernel(fps)
        filtered = functional.conv1d(inputs, kernel, padding=kernel.shape[-1] // 2)
        hidden = functional.relu(filtered * (1 + scale[:, 0]) + shift[:, 0])
        for index, layer in ((1, self.second), (2, self.third)):
            change = layer(hidden) * (1 + scale[:, index]) + shift[:, index]
            hidden = functional.relu(hidden + change)
        answer = self.out(hidden)
        linear = (filtered * mix[:, 0]).sum(dim=1)
        rate = functional.softplus((answer[:, 0] + linear) * torch.exp(last[:, 0]) + last[:, 1] - 2)
        clean = answer[:, 1] * size * (1 + last[:, 2]) + last[:, 3]
        return rate, clean

    @staticmethod
    def size_of(description: torch.Tensor) -> torch.Tensor:
        """Return the height of large transients, (units, 1), from the described quantiles."""
        first = 3 + len(LAGS_S)
        quantile = torch.sinh(2 * description[:, first : first + len(LEVELS)])
        return (quantile[:, -2] - quantile[:, 2]).clamp(min=3.0)[:, None]
