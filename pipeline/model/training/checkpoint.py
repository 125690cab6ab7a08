"""Checkpoints of a training in one safetensors file: weights, best weights, optimizer, state."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from pipeline.dataset import Dataset
from pipeline.errors import DataError
from pipeline.files import written_whole
from pipeline.model.encoder import Encoder

from .averaging import WeightAverage
from .state import State


class DamagedCheckpointError(DataError):
    """A checkpoint is not what was written: the training starts anew."""


def dataset_fingerprint(dataset: Dataset | Sequence[Dataset]) -> str:
    """Return a hash of what a training sees of a data set, or of several."""
    digest = hashlib.sha256()
    if not isinstance(dataset, Dataset):
        digest.update("".join(dataset_fingerprint(member) for member in dataset).encode())
        return digest.hexdigest()[:16]
    for name in ("images", "image_index", "responses", "behavior", "pupil_center"):
        array = getattr(dataset, name)
        digest.update(f"{name}{None if array is None else array.shape}".encode())
        if array is not None:
            digest.update(np.ascontiguousarray(array).data.cast("B"))
    digest.update("".join(tier[0:2] for tier in dataset.tiers).encode())
    return digest.hexdigest()[:16]


def save_atomically(tensors: dict[str, torch.Tensor], path: Path, metadata: dict[str, str]) -> None:
    """Write a safetensors file that is there whole or not at all, whatever dies."""
    shared = set()
    plain = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        if tensor.data_ptr() in shared:  # a core of several members: the format wants copies
            tensor = tensor.clone()
        shared.add(tensor.data_ptr())
        plain[name] = tensor
    with written_whole(path) as partial:
        save_file(plain, partial, metadata)


def write_checkpoint(
    path: Path,
    identity: dict[str, Any],
    state: State,
    encoder: Encoder,
    best: dict[str, torch.Tensor],
    optimizer: torch.optim.Optimizer,
    average: WeightAverage | None,
) -> None:
    """Write all that the next epoch depends on."""
    tensors = {f"now.{name}": tensor for name, tensor in encoder.state_dict().items()}
    tensors |= {f"best.{name}": tensor for name, tensor in best.items()}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"adam.{index}.{name}": tensor for name, tensor in moments.items()}
    metadata = {"identity": json.dumps(identity), "state": json.dumps(asdict(state))}
    if average is not None:
        tensors |= {f"mean.{name}": tensor for name, tensor in average.mean.items()}
        metadata["averaged"] = str(average.steps)
    metadata["digest"] = _digest(tensors, metadata)
    save_atomically(tensors, path, metadata)


def read_checkpoint(
    path: Path,
    identity: dict[str, Any],
    encoder: Encoder,
    best: dict[str, torch.Tensor],
    optimizer: torch.optim.Optimizer,
    average: WeightAverage | None,
) -> State:
    """Load a checkpoint into encoder, best weights, optimizer and average; return the state.

    Raises
    ------
    DamagedCheckpointError
        If the file is not what was written; encoder, weights and optimizer are as before.
    DataError
        If it is of another model, data set or seed.
    """
    tensors, metadata = _read_whole(path)
    found = json.loads(metadata.get("identity", "{}"))
    if found != identity:
        raise DataError(
            "checkpoint of another training",
            file=path,
            found=found,
            expected=identity,
            remedy="delete it, or give another path",
        )
    groups: dict[str, dict[str, torch.Tensor]] = {"now": {}, "best": {}, "adam": {}, "mean": {}}
    for name, tensor in tensors.items():
        group, rest = name.split(".", 1)
        groups[group][rest] = tensor
    encoder.load_state_dict(groups["now"])
    for name, tensor in groups["best"].items():
        best[name].copy_(tensor)
    if average is not None:
        average.steps = int(metadata["averaged"])
        for name, tensor in groups["mean"].items():
            average.mean[name].copy_(tensor)
    moments: dict[int, dict[str, torch.Tensor]] = {}
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    for name, tensor in groups["adam"].items():
        number, moment = name.split(".", 1)
        weight = weights[index := int(number)]
        if tensor.shape == weight.shape:  # the fused step walks through both in the weight's layout
            tensor = torch.empty_like(weight).copy_(tensor)
        moments.setdefault(index, {})[moment] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
    return State(**json.loads(metadata["state"]))


def _read_whole(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Return tensors and metadata of a checkpoint, after a check of its digest."""
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise DamagedCheckpointError(
            "the checkpoint cannot be read", file=path, found=str(error)[:200]
        ) from error
    expected = metadata.pop("digest", None)
    if (found := _digest(tensors, metadata)) != expected:
        raise DamagedCheckpointError(
            "the checkpoint is damaged", file=path, found=found, expected=expected or "a digest"
        )
    return tensors, metadata


def _digest(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> str:
    """Return a digest of all that a checkpoint holds."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps(metadata, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        plain = tensor.detach().cpu().contiguous()
        digest.update(f"{name}{tuple(plain.shape)}{plain.dtype}".encode())
        digest.update(plain.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
