"""A core trained elsewhere on a new scan: only readout, shifter and modulator are trained.

The overnight case: a new scan has few images and few hours, the core has seen other scans. Since
the core stays as it is, its features of every image are computed once and every step trains on
them, which makes an epoch several times cheaper.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import nn

from pipeline.dataset import Dataset
from pipeline.device import pick_device
from pipeline.model.build import build_encoder
from pipeline.model.config import Config, complete_config
from pipeline.model.encoder import Encoder

from .loop import EVALUATION_BATCH, Progress, Run, Tiers
from .methods import TrainingResult, check_finite, conduct, trainers

FEATURES_GB = 4.0  # most memory for features; beyond it they are computed in every step


def transfer_core(
    source: Encoder,
    dataset: Dataset,
    seed: int = 0,
    config: Mapping[str, Mapping[str, Any]] | None = None,
) -> Encoder:
    """Build an encoder for another data set on a trained core, whose weights stay as they are.

    Parameters
    ----------
    source : Encoder
        Trained on other scans.
    dataset : Dataset
        The new scan.
    seed : int
        Names the initial weights of the new parts.
    config : dict, optional
        Configuration with the same core; default that of the source.

    Raises
    ------
    ValueError
        If the core of the configuration, or the size of its images, is another.

    Examples
    --------
    >>> import numpy as np
    >>> images = np.random.default_rng(0).integers(0, 256, (6, 36, 64), np.uint8)
    >>> tiers = np.repeat(["train", "validation"], 3)
    >>> old, new = (
    ...     Dataset(images, np.arange(6), np.arange(6), np.ones((6, n)), tiers) for n in (2, 5)
    ... )
    >>> source = build_encoder({"core": {"channels": 4}}, old)
    >>> encoder = transfer_core(source, new)
    >>> encoder.n_units, any(weight.requires_grad for weight in encoder.core.parameters())
    (5, False)
    """
    config = source.config if config is None else complete_config(config)
    if config["core"] != source.config["core"]:
        raise ValueError(f"the source's core is {source.config['core']}, not {config['core']}")
    encoder = build_encoder(_held(config), dataset, seed)
    if encoder.input_shape != source.input_shape:
        raise ValueError(f"core sees {source.input_shape}, the data set {encoder.input_shape}")
    encoder.core.load_state_dict(source.core.state_dict())
    encoder.core.requires_grad_(False)
    return encoder


def transfer_config(config: Mapping[str, Mapping[str, Any]], core: str) -> Config:
    """Return a configuration whose core is taken from elsewhere.

    Parameters
    ----------
    config : dict
        Of an encoder; its `training` is how readout, shifter and modulator are trained.
    core : str
        Names the trained core, so that another core has another hash.

    Examples
    --------
    >>> config = transfer_config(complete_config(), core="0123456789abcdef")
    >>> config["training"]["name"], config["training"]["core"]
    ('transfer', '0123456789abcdef')
    """
    return _borrowing(_held(complete_config(config)), "transfer", {"core": core})


def _held(config: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Mapping[str, Any]]:
    """Let gaze shift places, since features can only be held of images that stay."""
    shifter = config["shifter"]
    if shifter["name"] != "affine_image":
        return config
    return {**config, "shifter": {**shifter, "name": "affine"}}


def joint_config(config: Mapping[str, Mapping[str, Any]], group: str) -> Config:
    """Return a configuration that is trained on a group of data sets together.

    Parameters
    ----------
    config : dict
        Of an encoder.
    group : str
        Names the group, so that another group has another hash.

    Examples
    --------
    >>> config = joint_config(complete_config(), group="two mice")
    >>> config["training"]["name"], config["training"]["group"]
    ('joint', 'two mice')
    """
    return _borrowing(config, "joint", {"group": group})


def _borrowing(config: Mapping[str, Mapping[str, Any]], name: str, whose: dict) -> Config:
    full = complete_config(config)
    params = dict(full["training"])
    method = params.pop("name")
    training = {"name": name, **whose, "method": method, "params": params}
    return complete_config({**full, "training": training})


@trainers.register("transfer")
def transfer(run: Run, *, core: str, method: str, params: Mapping[str, Any]) -> None:
    """Train all but the core, which `train_readout` took from elsewhere.

    Parameters
    ----------
    run : Run
        The training to do.
    core : str
        Names the trained core.
    method, params : str, dict
        Way of training and its complete parameters.
    """
    trainers.build({"name": method, **params}, run)


@trainers.register("joint")
def joint(run: Run, *, group: str, method: str, params: Mapping[str, Any]) -> None:
    """Train together with the other data sets of a group (`train_jointly`).

    Parameters
    ----------
    run : Run
        The training to do.
    group : str
        Names the group.
    method, params : str, dict
        Way of training and its complete parameters.
    """
    trainers.build({"name": method, **params}, run)


def train_readout(
    encoder: Encoder,
    dataset: Dataset,
    *,
    seed: int = 0,
    checkpoint: str | os.PathLike | None = None,
    progress: Progress | None = None,
    max_seconds: float | None = None,
    max_epochs: int | None = None,
    device: str | torch.device | None = None,
) -> TrainingResult:
    """Train readout, shifter and modulator in place on the features of a core that stays.

    Parameters
    ----------
    encoder : Encoder
        From `transfer_core` with the same data set.
    dataset, seed, checkpoint, progress, max_seconds, max_epochs, device
        As for `train`, to whose result on a frozen core this is equal but for rounding.

    Raises
    ------
    ValueError
        If the core is not frozen.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> images = rng.integers(0, 256, (12, 36, 64), np.uint8)
    >>> tiers = np.repeat(["train", "validation"], [8, 4])
    >>> data = Dataset(images, np.arange(12), np.arange(12), rng.random((12, 2)), tiers)
    >>> encoder = transfer_core(build_encoder({"core": {"channels": 4}}, data), data)
    >>> train_readout(encoder, data, max_epochs=1, device="cpu").epochs
    1
    """
    if any(parameter.requires_grad for parameter in encoder.core.parameters()):
        raise ValueError("the core would be trained; build the encoder with transfer_core")
    check_finite(dataset)
    where = pick_device(device)
    encoder.to(where)
    core = encoder.core
    height, width = encoder.feature_size
    size_gb = len(dataset.images) * core.channels * height * width * 4 / 1e9
    held = _HeldFeatures(core) if size_gb <= FEATURES_GB else core
    try:
        encoder.core = held
        run = _FeatureRun(
            encoder, dataset, where, seed, checkpoint, progress, max_seconds, max_epochs
        )
        return conduct(run)
    finally:
        encoder.core = core


class _HeldFeatures(nn.Module):
    """Stands in for a core whose features are given: passes them on."""

    def __init__(self, core: nn.Module) -> None:
        super().__init__()
        self.__dict__["core"] = core  # no part of the weights that are trained and kept

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features

    def regulariser(self) -> float:
        return 0.0


class _FeatureRun(Run):
    """Training on features; the encoder's core has been replaced where they are held."""

    @torch.no_grad()
    def _hold(self, dataset: Dataset) -> Tiers:
        tiers = Tiers(self.encoder, dataset, self.device)
        if isinstance(self.encoder.core, _HeldFeatures):
            core = cast(nn.Module, self.encoder.core.core).eval()
            tiers.images = torch.cat([core(part) for part in tiers.images.split(EVALUATION_BATCH)])
        return tiers
