"""Ensembles from data in one call."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from pipeline.dataset import Dataset
from pipeline.model.build import build_encoder
from pipeline.model.encoder import Encoder
from pipeline.model.ensemble import Ensemble

from .methods import train

Config = Mapping[str, Mapping[str, Any]]


def train_ensemble(
    dataset: Dataset,
    seeds: Iterable[int] = (0, 1, 2, 3),
    *,
    config: Config | Sequence[Config] | None = None,
    checkpoints: str | os.PathLike | None = None,
    progress: Callable[[int, int, dict[str, Any]], None] | None = None,
    max_epochs: int | None = None,
    max_seconds: float | None = None,
    device: str | torch.device | None = None,
) -> Ensemble:
    """Build and train encoders that differ by their seed, and return their mean.

    Parameters
    ----------
    dataset : Dataset
        Without NaN (`Dataset.complete`); train and validation tier are used, test is not read.
    seeds : iterable of int
        One member each: its initial weights, the order of trials and the sampled places.
    config : dict, or sequence of dict, optional
        Configuration of all members, or of each seed's; default `default_config`.
    checkpoints : path, optional
        Folder with one file a member, written after every epoch; the same call goes on from them.
    progress : function, optional
        Called as ``progress(member, epoch, info)`` after every epoch; see `train`.
    max_epochs, max_seconds : int, float, optional
        Bounds of each member's training; see `train`.
    device : str, optional
        Default: CUDA if there, else the CPU.

    Returns
    -------
    Ensemble
        With equal shares; `fit_shares` finds those of members of several kinds.

    Raises
    ------
    ValueError
        If there is no seed, a seed is no whole number or there twice, or seeds and configurations
        differ in number.
    DataError
        See `train`.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> images = rng.integers(0, 256, (12, 36, 64), np.uint8)
    >>> tiers = np.repeat(["train", "validation"], [8, 4])
    >>> data = Dataset(images, np.arange(12), np.arange(12), rng.random((12, 2)), tiers)
    >>> small = {"core": {"channels": 4}}
    >>> ensemble = train_ensemble(data, seeds=range(2), config=small, max_epochs=1, device="cpu")
    >>> ensemble.predict(images[:3]).shape
    (3, 2)
    """
    chosen = list(seeds)
    if not chosen or any(isinstance(s, bool) or int(s) != s for s in chosen):
        raise ValueError(f"seeds must be one whole number a member, got {chosen}")
    chosen = [int(seed) for seed in chosen]
    several = config is not None and not isinstance(config, Mapping)
    configs: list[Any] = list(config) if several else [config] * len(chosen)  # type: ignore[arg-type]
    if len(configs) != len(chosen):
        raise ValueError(f"{len(chosen)} seeds, but {len(configs)} configurations")
    if not several and len(set(chosen)) < len(chosen):
        raise ValueError(f"a seed twice gives the same member twice, got {chosen}")
    folder = None if checkpoints is None else Path(checkpoints)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    members: list[Encoder] = []
    for number, (seed, one) in enumerate(zip(chosen, configs, strict=True)):
        encoder = build_encoder(one, dataset, seed)
        train(
            encoder,
            dataset,
            seed=seed,
            checkpoint=None if folder is None else folder / _file(encoder, seed),
            progress=None if progress is None else _of_member(progress, number),
            max_epochs=max_epochs,
            max_seconds=max_seconds,
            device=device,
        )
        members.append(encoder)
    return Ensemble(members)


def _file(encoder: Encoder, seed: int) -> str:
    return f"{encoder.model_hash}-{seed}.safetensors"


def _of_member(
    progress: Callable[[int, int, dict[str, Any]], None], number: int
) -> Callable[[int, dict[str, Any]], None]:
    return lambda epoch, info: progress(number, epoch, info)
