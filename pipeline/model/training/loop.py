"""The loop over epochs that all ways of training share: deterministic, resumable, bounded."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pipeline.dataset import Dataset
from pipeline.errors import DataError
from pipeline.model.encoder import Encoder, model_images
from pipeline.rng import torch_generator

from .averaging import WeightAverage
from .checkpoint import (
    DamagedCheckpointError,
    dataset_fingerprint,
    read_checkpoint,
    write_checkpoint,
)
from .losses import losses
from .state import State

Progress = Callable[[int, dict[str, Any]], None]
EVALUATION_BATCH = 256
log = logging.getLogger("inception.model")


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

    def inputs(self, trials: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Return images, behavior and gaze of trials."""
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


def shuffled(
    encoder: Encoder, tiers: Tiers, batch_size: int, seed: int, *labels: object
) -> list[tuple[Encoder, Tiers, torch.Tensor]]:
    """Split the training trials into batches in an order that seed and labels name."""
    n = len(tiers.train)
    order = torch.randperm(n, generator=torch_generator(seed, *labels))
    batches = [b for b in order.split(batch_size) if len(b) > min(8, n - 1)]
    return [(encoder, tiers, tiers.train[batch]) for batch in batches]


@dataclass(frozen=True)
class Schedule:
    """Learning rates of a training: stages that end at plateaus, or one that is annealed."""

    rates: tuple[float, ...]  # of the stages
    patience: float = math.inf  # epochs without a new best that end a stage
    anneal: bool = False  # fall along a cosine, over all epochs
    last: float = 0.0  # to this share of the rate
    warm_epochs: int = 0

    @property
    def stages(self) -> int:
        """Number of stages."""
        return len(self.rates)

    def rate(self, state: State, epochs: int) -> float:
        """Return the learning rate of the next epoch, of so many in all."""
        rate = self.rates[state.stage]
        if state.epoch < self.warm_epochs:
            return rate * (state.epoch + 1) / (self.warm_epochs + 1)
        if not self.anneal:
            return rate
        done = (state.epoch - self.warm_epochs) / max(epochs - self.warm_epochs, 1)
        fallen = 0.5 * (1 - math.cos(math.pi * min(done, 1.0)))
        return rate * (1 - (1 - self.last) * fallen)


class Run:
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
        self.tiers = self._hold(dataset)
        self.progress, self.max_seconds, self.max_epochs = progress, max_seconds, max_epochs
        self.loss = losses.build(encoder.config["loss"])
        self.checkpoint = None if checkpoint is None else Path(checkpoint)
        self.state = State()
        self.best_weights = _copy(encoder)
        self.identity = {
            "model_hash": encoder.model_hash,
            "dataset": dataset_fingerprint(dataset),
            "seed": seed,
        }

    def _hold(self, dataset: Dataset) -> Tiers:
        """Bring the data to the device."""
        return Tiers(self.encoder, dataset, self.device)

    def fit(
        self,
        schedule: Schedule,
        *,
        batch_size: int,
        max_epochs: int,
        tolerance: float = 0.0,
        clip_norm: float | None = None,
        weight_decay: float = 0.0,
        averaged: float = 0.0,
    ) -> None:
        """Run epochs until the schedule ends; a new stage starts from the best weights so far.

        With `averaged` above 0, what is validated and kept is the average of the weights over that
        share of the steps so far.
        """
        parameters = [p for p in self.encoder.parameters() if p.requires_grad]
        limit = min(max_epochs, self.max_epochs or max_epochs)
        state, optimizer = self.state, _adam(parameters, weight_decay)
        average = WeightAverage(self.encoder, averaged) if averaged else None
        if self.checkpoint is not None and self.checkpoint.exists():
            self.state = state = self._resume(self.checkpoint, optimizer, average)
            state.done = state.done and not state.goes_on(limit, self.max_seconds)
        began = time.monotonic() - state.seconds
        while not state.done:
            horizon = self._epochs_in_time(limit)
            rate = schedule.rate(state, horizon)
            for group in optimizer.param_groups:
                group["lr"] = rate
            loss = self._epoch(optimizer, parameters, batch_size, clip_norm, average)
            with average.applied() if average else nullcontext():
                value = self.tiers.validation_correlation(self.encoder)
                state.epoch += 1
                state.seconds = time.monotonic() - began
                if value > state.best + tolerance:
                    state.best, state.best_epoch, state.stale = value, state.epoch, 0
                    self.best_weights = _copy(self.encoder)
                else:
                    state.stale += 1
            row = {"epoch": state.epoch, "loss": loss, "validation_correlation": value}
            row |= {"learning_rate": rate, "seconds": state.seconds}
            state.history.append(row)
            if state.stale >= schedule.patience:
                state.stage, state.stale = state.stage + 1, 0
                _restore(self.encoder, self.best_weights)
                optimizer = _adam(parameters, weight_decay)
            late = self.max_seconds is not None and state.seconds >= self.max_seconds
            if state.stage >= schedule.stages:
                state.ended, state.bound = "plateau", state.epoch
            elif late or limit > state.epoch >= horizon:
                state.ended, state.bound = "time", float(self.max_seconds or 0)
            elif state.epoch >= horizon:
                state.ended, state.bound = "epochs", limit
            else:
                state.ended = ""
            state.done = bool(state.ended)
            if self.checkpoint is not None:
                write_checkpoint(
                    self.checkpoint,
                    self.identity,
                    state,
                    self.encoder,
                    self.best_weights,
                    optimizer,
                    average,
                )
            if self.progress is not None:
                left = 0.0 if state.done else state.seconds / state.epoch * (horizon - state.epoch)
                info = {**row, "best": state.best, "max_epochs": horizon, "eta_s": left}
                self.progress(state.epoch, info)
        _restore(self.encoder, self.best_weights)

    def _resume(
        self, path: Path, optimizer: torch.optim.Optimizer, average: WeightAverage | None
    ) -> State:
        """Go on from a checkpoint; one that is damaged is put aside, and the training starts anew.

        A checkpoint saves time, and holds nothing that cannot be computed again.
        """
        try:
            return read_checkpoint(
                path, self.identity, self.encoder, self.best_weights, optimizer, average
            )
        except DamagedCheckpointError as error:
            aside = path.with_name(f"{path.name}.damaged")
            path.replace(aside)
            log.warning("%s; put aside as %s, the training starts anew", error, aside.name)
            return self.state

    def _epochs_in_time(self, limit: int) -> int:
        """Epochs that the deadline allows, so that a schedule ends with it and not before."""
        state = self.state
        if self.max_seconds is None or not state.epoch:
            return limit
        fit = int(self.max_seconds / (state.seconds / state.epoch))
        return max(min(limit, fit), state.epoch + 1)

    def _batches(self, batch_size: int) -> list[tuple[Encoder, Tiers, torch.Tensor]]:
        """Return the steps of the next epoch: an encoder, its data, and the trials to learn from.

        Trials are numbers; data are read batch by batch and never copied.
        """
        return shuffled(self.encoder, self.tiers, batch_size, self.seed, "order", self.state.epoch)

    def _epoch(
        self,
        optimizer: torch.optim.Optimizer,
        parameters: list[nn.Parameter],
        batch_size: int,
        clip_norm: float | None,
        average: WeightAverage | None,
    ) -> float:
        epoch = self.state.epoch
        self.encoder.train()
        if not any(p.requires_grad for p in self.encoder.core.parameters()):
            self.encoder.core.eval()  # a transferred core keeps its batch statistics too
        source = torch_generator(self.seed, "places", epoch)

        def noise(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, generator=source).to(self.device)

        total = 0.0
        batches = self._batches(batch_size)
        for encoder, tiers, batch in batches:
            trials = batch.to(self.device)
            rate = encoder(*tiers.inputs(trials), noise=noise)
            data = self.loss(rate, tiers.responses[trials])
            value = float(data.detach())
            if not math.isfinite(value):  # before it reaches the places: they must stay numbers
                raise DataError(
                    "training diverged",
                    field="loss",
                    found=f"{value} in epoch {epoch + 1}",
                    remedy="lower learning_rate, or look for outliers in the responses",
                )
            optimizer.zero_grad(set_to_none=True)
            (data + encoder.regulariser()).backward()
            if clip_norm is not None:
                nn.utils.clip_grad_norm_(parameters, clip_norm)
            optimizer.step()
            if average is not None:
                average.update()
            total += value
        return total / len(batches)


def _adam(parameters: list[nn.Parameter], weight_decay: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, weight_decay=weight_decay, fused=True)


def _copy(encoder: Encoder) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in encoder.state_dict().items()}


def _restore(encoder: Encoder, weights: dict[str, torch.Tensor]) -> None:
    encoder.load_state_dict(weights)
