"""Training of one encoder: deterministic, resumable, bounded in time."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pipeline.dataset import Dataset
from pipeline.device import pick_device
from pipeline.errors import DataError
from pipeline.registry import Registry
from pipeline.rng import torch_generator

from .checkpoint import dataset_fingerprint, read_checkpoint, write_checkpoint
from .encoder import Encoder, model_images
from .losses import losses

trainers = Registry("training")

Progress = Callable[[int, dict[str, Any]], None]
EVALUATION_BATCH = 256


@dataclass
class TrainingResult:
    """What a training came to; the encoder holds the weights of the best epoch."""

    validation_correlation: float  # mean over units of the single-trial correlation
    epochs: int
    seconds: float  # wall time, all resumed runs together
    history: list[dict[str, float]]  # per epoch: epoch, loss, validation_correlation, ...


class Tiers:
    """Train and validation tier as tensors on the device; every unique image is held once."""

    def __init__(self, encoder: Encoder, dataset: Dataset, device: torch.device) -> None:
        grey = torch.as_tensor(model_images(dataset, encoder.input_shape))
        self.images = ((grey - encoder.image_mean) / encoder.image_sd)[:, None].to(device)
        self.index = torch.as_tensor(dataset.image_index).to(device)
        scaled = dataset.responses / encoder.response_scale.cpu().numpy()
        self.responses = torch.as_tensor(scaled.astype(np.float32)).to(device)
        n = dataset.n_trials
        self.behavior = encoder.zscore_state("behavior", dataset.behavior, n)
        self.pupil = encoder.zscore_state("pupil", dataset.pupil_center, n)
        self.train = torch.as_tensor(dataset.trials("train"))
        self.validation = torch.as_tensor(dataset.trials("validation"))
        if not len(self.validation):
            raise DataError(
                "no validation trials", field="tiers", remedy="label some images validation"
            )

    def inputs(self, trials: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return images, behaviour and gaze of trials."""
        state = (None if x is None else x[trials] for x in (self.behavior, self.pupil))
        return (self.images[self.index[trials]], *state)

    @torch.no_grad()
    def validation_correlation(self, encoder: Encoder) -> float:
        """Return the mean over units of the single-trial correlation; constant units count 0."""
        encoder.eval()
        parts = [encoder(*self.inputs(p)) for p in self.validation.split(EVALUATION_BATCH)]
        predicted = torch.cat(parts).double()
        response = self.responses[self.validation].double()
        predicted, response = predicted - predicted.mean(0), response - response.mean(0)
        norm = (predicted.square().sum(0) * response.square().sum(0)).sqrt()
        r = torch.where(norm > 1e-9, (predicted * response).sum(0) / norm, 0.0)
        return float(r.mean())


@dataclass
class State:
    """All that changes from epoch to epoch besides weights and optimiser."""

    epoch: int = 0
    stage: int = 0
    stale: int = 0  # epochs since the best of this stage
    best: float = -math.inf
    best_epoch: int = 0
    seconds: float = 0.0
    done: bool = False
    history: list[dict[str, float]] = field(default_factory=list)


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
    """
    for name in ("responses", "behavior", "pupil_center"):
        array = getattr(dataset, name)
        if array is not None and not np.isfinite(array).all():
            raise DataError(
                "not finite", field=name, remedy="drop such trials with Dataset.complete()"
            )
    if dataset.n_units != encoder.n_units:
        raise ValueError(f"encoder has {encoder.n_units} units, the data set {dataset.n_units}")
    params = dict(encoder.config["training"])
    method = trainers[params.pop("name")]
    where = pick_device(device)
    encoder.to(where)
    run = _Run(encoder, dataset, where, seed, checkpoint, progress, max_seconds, max_epochs)
    method(run, **params)
    encoder.eval()
    return TrainingResult(run.state.best, run.state.epoch, run.state.seconds, run.state.history)


class _Run:
    """One training: the loop over epochs that all schedules share."""

    def __init__(
        self,
        encoder: Encoder,
        dataset: Dataset,
        device: torch.device,
        seed: int,
        checkpoint: str | os.PathLike | None,
        progress: Progress | None,
        max_seconds: float | None,
        max_epochs: int | None,
    ) -> None:
        self.encoder, self.device, self.seed = encoder, device, seed
        self.tiers = Tiers(encoder, dataset, device)
        self.progress, self.max_seconds, self.max_epochs = progress, max_seconds, max_epochs
        loss = dict(encoder.config["loss"])
        self.loss = losses[loss.pop("name")](**loss)
        self.checkpoint = None if checkpoint is None else Path(checkpoint)
        self.state = State()
        self.best_weights = _copy(encoder)
        self.identity = {
            "model_hash": encoder.model_hash,
            "dataset": dataset_fingerprint(dataset),
            "seed": seed,
        }

    def fit(
        self,
        rates: list[float],
        *,
        batch_size: int,
        max_epochs: int,
        patience: int,
        tolerance: float,
        clip_norm: float | None,
        weight_decay: float,
    ) -> None:
        """Run one stage per learning rate; each starts from the best weights so far."""
        parameters = [p for p in self.encoder.parameters() if p.requires_grad]
        limit = min(max_epochs, self.max_epochs or max_epochs)
        state, optimizer = self.state, None
        if self.checkpoint is not None and self.checkpoint.exists():
            optimizer = self._optimizer(parameters, rates[0], weight_decay)
            self.state = state = read_checkpoint(
                self.checkpoint, self.identity, self.encoder, self.best_weights, optimizer
            )
        began = time.monotonic() - state.seconds
        while not state.done:
            if optimizer is None:
                optimizer = self._optimizer(parameters, rates[state.stage], weight_decay)
            for group in optimizer.param_groups:
                group["lr"] = rates[state.stage]
            loss = self._epoch(optimizer, parameters, batch_size, clip_norm)
            value = self.tiers.validation_correlation(self.encoder)
            state.epoch += 1
            state.seconds = time.monotonic() - began
            if value > state.best + tolerance:
                state.best, state.best_epoch, state.stale = value, state.epoch, 0
                self.best_weights = _copy(self.encoder)
            else:
                state.stale += 1
            state.history.append(
                {
                    "epoch": state.epoch,
                    "loss": loss,
                    "validation_correlation": value,
                    "learning_rate": rates[state.stage],
                    "seconds": state.seconds,
                }
            )
            if state.stale >= patience:
                state.stage += 1
                state.stale = 0
                _restore(self.encoder, self.best_weights)
                optimizer = None
            late = self.max_seconds is not None and state.seconds >= self.max_seconds
            state.done = late or state.stage >= len(rates) or state.epoch >= limit
            if self.checkpoint is not None:
                fresh = optimizer or self._optimizer(parameters, rates[0], weight_decay)
                write_checkpoint(
                    self.checkpoint, self.identity, state, self.encoder, self.best_weights, fresh
                )
            if self.progress is not None:
                each = state.seconds / state.epoch
                info = {
                    **state.history[-1],
                    "best": state.best,
                    "max_epochs": limit,
                    "eta_s": 0.0 if state.done else each * (limit - state.epoch),
                }
                self.progress(state.epoch, info)
        _restore(self.encoder, self.best_weights)

    def _optimizer(
        self, parameters: list[nn.Parameter], rate: float, weight_decay: float
    ) -> torch.optim.Optimizer:
        return torch.optim.AdamW(parameters, lr=rate, weight_decay=weight_decay)

    def _epoch(
        self,
        optimizer: torch.optim.Optimizer,
        parameters: list[nn.Parameter],
        batch_size: int,
        clip_norm: float | None,
    ) -> float:
        encoder, tiers, epoch = self.encoder, self.tiers, self.state.epoch
        encoder.train()
        if not any(p.requires_grad for p in encoder.core.parameters()):
            encoder.core.eval()  # a transferred core keeps its batch statistics too
        order = torch.randperm(
            len(tiers.train), generator=torch_generator(self.seed, "order", epoch)
        )
        source = torch_generator(self.seed, "places", epoch)

        def noise(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, generator=source).to(self.device)

        total = torch.zeros((), device=self.device)
        batches = [b for b in order.split(batch_size) if len(b) > min(8, len(order) - 1)]
        for batch in batches:
            trials = tiers.train[batch].to(self.device)
            rate = encoder(*tiers.inputs(trials), noise=noise)
            data = self.loss(rate, tiers.responses[trials])
            optimizer.zero_grad(set_to_none=True)
            (data + encoder.regulariser()).backward()
            if clip_norm is not None:
                nn.utils.clip_grad_norm_(parameters, clip_norm)
            optimizer.step()
            total += data.detach()
        mean = float(total) / len(batches)
        if not math.isfinite(mean):
            raise DataError(
                "training diverged",
                field="loss",
                found=f"{mean} in epoch {epoch + 1}",
                remedy="lower learning_rate, or look for outliers in the responses",
            )
        return mean


def _copy(encoder: Encoder) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in encoder.state_dict().items()}


def _restore(encoder: Encoder, weights: dict[str, torch.Tensor]) -> None:
    encoder.load_state_dict(weights)


@trainers.register("plateau", default=True)
def plateau(
    run: _Run,
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
    run : _Run
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
    rates = [learning_rate * factor**i for i in range(decays + 1)]
    run.fit(
        rates,
        batch_size=batch_size,
        max_epochs=max_epochs,
        patience=patience,
        tolerance=tolerance,
        clip_norm=clip_norm,
        weight_decay=weight_decay,
    )


@trainers.register("staged")
def staged(
    run: _Run,
    *,
    learning_rates: list[float] = (0.005, 0.001),
    patience: int = 10,
    tolerance: float = 1e-6,
    batch_size: int = 60,
    max_epochs: int = 500,
) -> None:
    """Adam in stages of given rates, as published (REFERENCE 2.8).

    Parameters
    ----------
    run : _Run
        The training to do.
    learning_rates : list of float
        One stage each.
    patience, tolerance : int, float
        Epochs without a rise of the validation correlation that end a stage.
    batch_size, max_epochs : int
        Trials per step; bound of all epochs.
    """
    run.fit(
        list(learning_rates),
        batch_size=batch_size,
        max_epochs=max_epochs,
        patience=patience,
        tolerance=tolerance,
        clip_norm=None,
        weight_decay=0.0,
    )
