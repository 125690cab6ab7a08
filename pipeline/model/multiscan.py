"""One core for several data sets: every scan has its own readout, shifter and modulator."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from pipeline.dataset import Dataset
from pipeline.dataset.groups import reconcile
from pipeline.device import pick_device
from pipeline.rng import derive_seed, generator

from .build import build_encoder
from .encoder import Encoder
from .training.loop import Progress, Run, Tiers, shuffled
from .training.methods import TrainingResult, check_finite, conduct


class JointEncoder(nn.Module):
    """Encoders of several data sets that hold the same core.

    Each of `members` is a whole `Encoder`: it predicts, is saved and joins an ensemble as one that
    was trained alone.

    Parameters
    ----------
    encoders : sequence of Encoder
        Of one configuration and image shape; all get the core of the first.
    """

    def __init__(self, encoders: Sequence[Encoder]) -> None:
        super().__init__()
        first = encoders[0]
        for member in encoders[1:]:
            if member.config != first.config or member.input_shape != first.input_shape:
                raise ValueError("members of a joint encoder must share configuration and shape")
            member.core = first.core
        self.members = nn.ModuleList(encoders)  # its name is in stored weights

    @property
    def encoders(self) -> list[Encoder]:
        """The members, in the order of their data sets."""
        return cast(list[Encoder], list(self.members))

    @property
    def core(self) -> nn.Module:
        """The core that all members share."""
        return self.encoders[0].core

    @property
    def config(self) -> dict[str, dict[str, Any]]:
        """Configuration of every member."""
        return self.encoders[0].config

    @property
    def model_hash(self) -> str:
        """Hash of the configuration."""
        return self.encoders[0].model_hash


def build_joint_encoder(
    config: Mapping[str, Mapping[str, Any]] | None, datasets: Sequence[Dataset], seed: int = 0
) -> JointEncoder:
    """Build untrained encoders of several data sets on one core.

    Parameters
    ----------
    config : dict or None
        Configuration, completed from the defaults.
    datasets : sequence of Dataset
        Images of one size. Statistics are of each one's own train tier.
    seed : int
        Names the initial weights.

    Examples
    --------
    >>> images = np.random.default_rng(0).integers(0, 256, (6, 36, 64), np.uint8)
    >>> tiers = np.repeat(["train", "validation"], 3)
    >>> ids = np.arange(6)
    >>> scans = [Dataset(images, ids, ids, np.ones((6, n)), tiers) for n in (2, 5)]
    >>> joint = build_joint_encoder({"core": {"channels": 4}}, scans)
    >>> [encoder.n_units for encoder in joint.encoders]
    [2, 5]
    """
    if not datasets:
        raise ValueError("a joint encoder needs at least one data set")
    seeds = [seed, *(derive_seed(seed, "member", index) for index in range(1, len(datasets)))]
    pairs = zip(datasets, seeds, strict=True)
    return JointEncoder([build_encoder(config, data, own) for data, own in pairs])


def train_jointly(
    encoder: JointEncoder,
    datasets: Sequence[Dataset],
    *,
    seed: int = 0,
    checkpoint: str | os.PathLike | None = None,
    progress: Progress | None = None,
    max_seconds: float | None = None,
    max_epochs: int | None = None,
    device: str | torch.device | None = None,
) -> TrainingResult:
    """Train a joint encoder in place by the method that its configuration names.

    An epoch visits every training trial of every data set once, in batches of one data set in
    random order, so that memory holds each data set once and nothing is padded. Trials whose image
    tests or validates elsewhere are left out (`pipeline.dataset.groups.reconcile`).

    Parameters
    ----------
    encoder : JointEncoder
        From `build_joint_encoder` with the same data sets.
    datasets : sequence of Dataset
        Without NaN (`Dataset.complete`).
    seed, checkpoint, progress, max_seconds, max_epochs, device
        As for `train`.

    Returns
    -------
    TrainingResult
        Its `validation_correlation` is the mean over the units of all data sets.

    Examples
    --------
    >>> rng, ids = np.random.default_rng(0), np.arange(12)
    >>> images = rng.integers(0, 256, (12, 36, 64), np.uint8)
    >>> tiers = np.repeat(["train", "validation"], [8, 4])
    >>> scans = [Dataset(images, ids, ids, rng.random((12, n)), tiers) for n in (2, 3)]
    >>> joint = build_joint_encoder({"core": {"channels": 4}}, scans)
    >>> train_jointly(joint, scans, max_epochs=1, device="cpu").epochs
    1
    """
    if len(datasets) != len(encoder.members):
        raise ValueError(f"{len(encoder.members)} members, {len(datasets)} data sets")
    for member, data in zip(encoder.encoders, datasets, strict=True):
        check_finite(data)
        if data.n_units != member.n_units:
            raise ValueError(f"a member has {member.n_units} units, its data set {data.n_units}")
    where = pick_device(device)
    encoder.to(where)
    legal, _ = reconcile(datasets)
    run = JointRun(encoder, legal, where, seed, checkpoint, progress, max_seconds, max_epochs)
    return conduct(run)


class JointTiers:
    """The tiers of several data sets."""

    def __init__(self, members: Iterable[Tiers]) -> None:
        self.members = list(members)
        self.train = torch.cat([tiers.train for tiers in self.members])

    def validation_correlation(self, encoder: JointEncoder) -> float:
        """Return the mean over all units of the single-trial correlation."""
        pairs = list(zip(encoder.encoders, self.members, strict=True))
        units = np.array([member.n_units for member, _ in pairs])
        values = np.array([tiers.validation_correlation(member) for member, tiers in pairs])
        return float((units * values).sum() / units.sum())


class JointRun(Run):
    """Training of several data sets: the steps of an epoch are of one data set each."""

    def _hold(self, datasets: Sequence[Dataset]) -> JointTiers:
        pairs = zip(self.encoder.encoders, datasets, strict=True)
        return JointTiers(Tiers(member, data, self.device) for member, data in pairs)

    def _batches(self, batch_size: int) -> list[tuple[Encoder, Tiers, torch.Tensor]]:
        epoch = self.state.epoch
        pairs = zip(self.encoder.encoders, self.tiers.members, strict=True)
        steps = [
            step
            for index, (member, tiers) in enumerate(pairs)
            for step in shuffled(member, tiers, batch_size, self.seed, "order", epoch, index)
        ]
        order = generator(self.seed, "steps", epoch).permutation(len(steps))
        return [steps[index] for index in order]
