"""Training of one encoder, by the method that its configuration names."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pipeline.dataset import Dataset
from pipeline.device import pick_device, repeatable
from pipeline.errors import DataError
from pipeline.model.encoder import Encoder
from pipeline.registry import Registry

from .loop import Progress, Run, Schedule

trainers = Registry("training")


@dataclass
class TrainingResult:
    """What a training came to; the encoder holds the weights of the best epoch."""

    validation_correlation: float  # mean over units of the single-trial correlation
    epochs: int
    seconds: float  # wall time, all resumed runs together
    history: list[dict[str, float]]  # per epoch: epoch, loss, validation_correlation, ...


def train(
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
    """Train an encoder in place by the method its configuration names.

    The same seed gives the same weights on one class of device. The weights of the epoch with the
    best validation correlation are kept.

    Parameters
    ----------
    encoder : Encoder
        From `build_encoder` with the same data set.
    dataset : Dataset
        Without NaN (`Dataset.complete`); train and validation tier are used, test is not read.
    seed : int
        Names the order of trials and the sampled places.
    checkpoint : path, optional
        File written after every epoch; a training killed at any moment continues from it to the
        same weights.
    progress : function, optional
        Called as ``progress(epoch, info)`` after every epoch; info has `loss`,
        `validation_correlation`, `learning_rate`, `seconds`, `best`, `max_epochs`, `eta_s`.
    max_seconds : float, optional
        Wall time after which training ends with the best weights so far.
    max_epochs : int, optional
        Bound of the epochs below that of the configuration.
    device : str, optional
        Default: CUDA if there, else the CPU.

    Returns
    -------
    TrainingResult

    Raises
    ------
    DataError
        If the loss diverges, a value is NaN, a tier is empty, or the checkpoint is another
        training's.

    Examples
    --------
    >>> from pipeline.model.build import build_encoder
    >>> rng = np.random.default_rng(0)
    >>> images = rng.integers(0, 256, (12, 36, 64), np.uint8)
    >>> tiers = np.repeat(["train", "validation"], [8, 4])
    >>> data = Dataset(images, np.arange(12), np.arange(12), rng.random((12, 2)), tiers)
    >>> encoder = build_encoder({"core": {"channels": 4}}, data)
    >>> train(encoder, data, max_epochs=1, device="cpu").epochs
    1
    """
    check_finite(dataset)
    if dataset.n_units != encoder.n_units:
        raise ValueError(f"encoder has {encoder.n_units} units, the data set {dataset.n_units}")
    where = pick_device(device)
    encoder.to(where)
    run = Run(encoder, dataset, where, seed, checkpoint, progress, max_seconds, max_epochs)
    return conduct(run)


def conduct(run: Run) -> TrainingResult:
    """Do a training by the method that the configuration of its encoder names."""
    method = trainers.bind(run.encoder.config["training"])
    with repeatable(run.device):
        method(run)
    run.encoder.eval()
    return TrainingResult(run.state.best, run.state.epoch, run.state.seconds, run.state.history)


def check_finite(dataset: Dataset) -> None:
    """Raise DataError if a response, behavior or gaze is NaN."""
    for name in ("responses", "behavior", "pupil_center"):
        array = getattr(dataset, name)
        if array is not None and not np.isfinite(array).all():
            raise DataError(
                "not finite", field=name, remedy="drop such trials with Dataset.complete()"
            )


@trainers.register("annealed", default=True)
def annealed(
    run: Run,
    *,
    learning_rate: float = 0.007,
    warm_epochs: int = 1,
    epochs: int = 20,
    min_steps: int = 600,
    batch_size: int = 64,
    clip_norm: float | None = 5.0,
    weight_decay: float = 0.0,
    last_rate: float = 1.0,
    averaged: float = 0.25,
) -> None:
    """Adam for a known time, and the average of the late weights.

    A rate that falls to zero along a cosine (`last_rate` 0) comes to rest where the noise of
    single trials has been learned. Large steps do not, and their average is nearer to the middle.
    With `max_seconds` the cosine is fitted to the epochs that the time allows.

    Parameters
    ----------
    run : Run
        The training to do.
    learning_rate : float
        Highest rate.
    warm_epochs : int
        Epochs of a smaller rate before it.
    epochs, min_steps : int
        Number of epochs; more if they make fewer steps than this, in a short recording.
    batch_size : int
        Trials per step.
    clip_norm : float or None
        Bound of the gradient's norm.
    weight_decay : float
        Decoupled.
    last_rate : float
        Share of the highest rate that is left at the end; 1: it stays.
    averaged : float
        What is validated and kept is the average of the weights over this share of the steps so
        far, the latest (`WeightAverage`); 0: the weights themselves.
    """
    steps = math.ceil(len(run.tiers.train) / batch_size)
    run.fit(
        Schedule((learning_rate,), anneal=True, last=last_rate, warm_epochs=warm_epochs),
        batch_size=batch_size,
        max_epochs=max(epochs, math.ceil(min_steps / steps)),
        clip_norm=clip_norm,
        weight_decay=weight_decay,
        averaged=averaged,
    )


@trainers.register("plateau")
def plateau(
    run: Run,
    *,
    learning_rate: float = 0.005,
    factor: float = 0.3,
    decays: int = 3,
    patience: int = 4,
    tolerance: float = 1e-4,
    batch_size: int = 64,
    max_epochs: int = 100,
    clip_norm: float | None = 5.0,
    weight_decay: float = 0.0,
) -> None:
    """Adam; at every plateau of the validation correlation the rate falls, from the best weights.

    Parameters
    ----------
    run : Run
        The training to do.
    learning_rate, factor, decays : float, float, int
        First rate, what it is multiplied by, and how often.
    patience, tolerance : int, float
        A plateau is this many epochs without a rise of the correlation by more than this.
    batch_size, max_epochs : int
        Trials per step; bound of the epochs.
    clip_norm : float or None
        Bound of the gradient's norm.
    weight_decay : float
        Decoupled.
    """
    run.fit(
        Schedule(tuple(learning_rate * factor**i for i in range(decays + 1)), patience),
        batch_size=batch_size,
        max_epochs=max_epochs,
        tolerance=tolerance,
        clip_norm=clip_norm,
        weight_decay=weight_decay,
    )


@trainers.register("staged")
def staged(
    run: Run,
    *,
    learning_rates: Sequence[float] = (0.005, 0.001),
    patience: int = 10,
    tolerance: float = 1e-6,
    batch_size: int = 60,
    max_epochs: int = 500,
) -> None:
    """Adam in stages of given rates, as published (REFERENCE 2.8).

    Parameters
    ----------
    run : Run
        The training to do.
    learning_rates : list of float
        One stage each.
    patience, tolerance : int, float
        Epochs without a rise of the validation correlation that end a stage.
    batch_size, max_epochs : int
        Trials per step; bound of all epochs.
    """
    run.fit(
        Schedule(tuple(learning_rates), patience),
        batch_size=batch_size,
        max_epochs=max_epochs,
        tolerance=tolerance,
    )
