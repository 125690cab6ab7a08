"""Trained encoders on disk: one safetensors file, no pickle."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from pipeline.errors import DataError

from .config import SECTIONS, Config, complete_config
from .encoder import Encoder
from .training.checkpoint import save_atomically

FORMAT = "inception-encoder/1"
_BUILT = ("core", "readout", "shifter", "modulator")  # sections that say what an encoder computes
_STATISTICS = ("behavior_mean", "behavior_sd", "pupil_mean", "pupil_sd", "response_scale")


def save_encoder(encoder: Encoder, path: str | os.PathLike) -> None:
    """Write weights, and configuration and statistics in the file's metadata.

    Examples
    --------
    >>> import tempfile
    >>> from pipeline.dataset import Dataset
    >>> from pipeline.model.build import build_encoder
    >>> images = np.random.default_rng(0).integers(0, 256, (6, 36, 64), np.uint8)
    >>> tiers = np.repeat(["train", "validation"], 3)
    >>> data = Dataset(images, np.arange(6), np.arange(6), np.ones((6, 2)), tiers)
    >>> encoder = build_encoder({"core": {"channels": 4}}, data)
    >>> with tempfile.NamedTemporaryFile(suffix=".safetensors") as file:
    ...     save_encoder(encoder, file.name)
    ...     found = load_encoder(file.name)
    >>> found.model_hash == encoder.model_hash
    True
    """
    description = {
        "format": FORMAT,
        "config": encoder.config,
        "input_shape": list(encoder.input_shape),
        "image_mean": encoder.image_mean,
        "image_sd": encoder.image_sd,
        "unit_ids": encoder.unit_ids.tolist(),
    }
    save_atomically(encoder.state_dict(), Path(path), {"encoder": json.dumps(description)})


def load_encoder(path: str | os.PathLike, device: str | torch.device = "cpu") -> Encoder:
    """Read an encoder written by `save_encoder`, ready to predict.

    Raises
    ------
    DataError
        If the file is missing, damaged, something else, or of a version of this program whose
        encoders had other parameters: a default of today would change what it computes. How an
        encoder was trained changes nothing of what it computes now, and may be of any version.

    Examples
    --------
    >>> load_encoder("nowhere.safetensors")
    Traceback (most recent call last):
    pipeline.errors.DataError: nowhere.safetensors: ...
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise DataError(
            "not a readable encoder", file=path, found=error, expected="a safetensors file"
        ) from error
    about = _description(metadata.get("encoder", "{}"), path)
    statistics = {name: weights[name].numpy() for name in _STATISTICS if name in weights}
    statistics |= {name: float(about[name]) for name in ("image_mean", "image_sd")}
    config = _complete(about["config"], path)
    try:
        encoder = Encoder(
            config, statistics, tuple(about["input_shape"]), np.asarray(about["unit_ids"])
        )
    except DataError:
        raise
    except Exception as error:  # whatever a part makes of values that are none of its own
        raise DataError(
            "encoder cannot be built",
            file=path,
            field="config",
            found=f"{type(error).__name__}: {str(error)[:200]}",
            expected="what save_encoder writes",
        ) from error
    _fill(encoder, weights, path)
    return encoder.eval().to(device)


def _description(text: str, path: str | os.PathLike) -> dict[str, Any]:
    """Return what a file says of its encoder, each entry of the kind that it must be."""
    try:
        about = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(
            "not an encoder", file=path, field="encoder", found=str(error)[:100], expected="JSON"
        ) from error
    found = about.get("format") if isinstance(about, dict) else type(about).__name__
    if found != FORMAT:
        raise DataError("not an encoder", file=path, found=str(found)[:100], expected=FORMAT)
    shape, ids = about.get("input_shape"), about.get("unit_ids")
    config, numbers = about.get("config"), (about.get("image_mean"), about.get("image_sd"))
    right = {
        "config": isinstance(config, dict) and all(isinstance(p, dict) for p in config.values()),
        "input_shape": isinstance(shape, list)
        and len(shape) == 2
        and all(type(size) is int and 0 < size < 10_000 for size in shape),
        "unit_ids": isinstance(ids, list)
        and bool(ids)
        and all(type(one) in (int, float, str) for one in ids),
        "image_mean": type(numbers[0]) in (int, float) and np.isfinite(numbers[0]),
        "image_sd": type(numbers[1]) in (int, float) and 0 < numbers[1] < np.inf,
    }
    for name, good in right.items():
        if not good:
            raise DataError(
                "is not what an encoder needs",
                file=path,
                field=name,
                found=repr(about.get(name))[:80],
                remedy="save it again with save_encoder",
            )
    return about


def _complete(config: Config, path: str | os.PathLike) -> Config:
    """Return a stored configuration if its parts name every parameter there is, and no other."""
    built = {section: config[section] for section in _BUILT if section in config}
    for section, registry in ((section, SECTIONS[section]) for section in _BUILT):
        name = built.get(section, {}).get("name")
        if isinstance(name, str) and name not in registry:
            raise DataError(
                f"{registry.kind} {name!r} is not known here",
                file=path,
                field=f"config.{section}.name",
                found=f"none of {sorted(registry)}",
                remedy="import the module that registers it, or name the module in "
                "INCEPTION_PLUGINS",
            )
    try:
        whole = {section: complete_config(built)[section] for section in _BUILT}
        lacking = sorted(_leaves(whole) - _leaves(built))
        found = f"without {lacking}" if lacking else None
    except ValueError as error:  # a part or parameter that there is not
        found = str(error)
    if found is not None:
        raise DataError(
            "encoder of another version",
            file=path,
            field="config",
            found=found,
            expected="every parameter of this version's parts",
            remedy="train again, or use the version that wrote it",
        )
    return config


def _leaves(config: Config) -> set[str]:
    return {f"{section}.{name}" for section, part in config.items() for name in part}


def _fill(encoder: Encoder, weights: dict[str, torch.Tensor], path: str | os.PathLike) -> None:
    """Load weights that are the encoder's, all of them finite."""
    wanted = {name: tuple(value.shape) for name, value in encoder.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in weights.items()}
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            raise DataError(
                "weights of another architecture",
                file=path,
                field=name,
                found=found.get(name),
                expected=wanted.get(name),
            )
        if not torch.isfinite(weights[name].float()).all():
            raise DataError(
                "weights are not finite",
                file=path,
                field=name,
                found="NaN or inf",
                expected="finite numbers",
                remedy="train again",
            )
    encoder.load_state_dict(weights)
