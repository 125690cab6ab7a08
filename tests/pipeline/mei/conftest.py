"""Neurons of known best images."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

MEAN, SD = 110.0, 55.0


def gabor_filters(n, shape=(24, 32), seed=0):
    """Zero-mean Gabors of norm 1, drawn here and not by the code under test."""
    rng = np.random.default_rng(seed)
    yy, xx = np.mgrid[: shape[0], : shape[1]]
    out = []
    for _ in range(n):
        y, x = rng.uniform(8, shape[0] - 8), rng.uniform(8, shape[1] - 8)
        angle, phase, wave = rng.uniform(0, np.pi), rng.uniform(0, 2 * np.pi), rng.uniform(6, 9)
        across = (xx - x) * np.cos(angle) + (yy - y) * np.sin(angle)
        envelope = np.exp(-((yy - y) ** 2 + (xx - x) ** 2) / (2 * 2.5**2))
        image = envelope * np.cos(2 * np.pi * across / wave + phase)
        image -= envelope * image.sum() / envelope.sum()
        out.append(image / np.linalg.norm(image))
    return np.array(out, np.float32)


class Linear(nn.Module):
    """Rectified (or softplus) linear units: the best image of a norm is the filter."""

    def __init__(self, filters, threshold=0.0, rectified=False):
        super().__init__()
        self.register_buffer("filters", torch.as_tensor(filters).flatten(1))
        self.threshold, self.rectified = threshold, rectified

    def forward(self, images):
        drive = images.flatten(1) @ self.filters.T - self.threshold
        return torch.relu(drive) if self.rectified else nn.functional.softplus(drive)


def zscored(images):
    return (np.asarray(images) - MEAN) / SD


class Energy(nn.Module):
    """Complex cells: any phase of the pair of filters is best."""

    def __init__(self, even, odd):
        super().__init__()
        self.register_buffer("even", torch.as_tensor(even).flatten(1))
        self.register_buffer("odd", torch.as_tensor(odd).flatten(1))

    def forward(self, images):
        flat = images.flatten(1)
        return ((flat @ self.even.T) ** 2 + (flat @ self.odd.T) ** 2 + 1e-6).sqrt()


class Ensemble(nn.Module):
    """A model that has members, as trained ensembles do."""

    def __init__(self, *models):
        super().__init__()
        self.models = nn.ModuleList(models)

    def forward(self, images):
        return torch.stack([model(images) for model in self.models]).mean(0)

    def members(self, images, units):
        return torch.stack([m(images).gather(1, units[:, None])[:, 0] for m in self.models])


@pytest.fixture(scope="session")
def toys():
    return SimpleNamespace(
        MEAN=MEAN,
        SD=SD,
        gabor_filters=gabor_filters,
        Linear=Linear,
        Energy=Energy,
        Ensemble=Ensemble,
        zscored=zscored,
    )
