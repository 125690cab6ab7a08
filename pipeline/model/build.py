"""An untrained encoder for a data set: sizes, statistics and first guesses from its train tier."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from pipeline.dataset import Dataset
from pipeline.errors import DataError
from pipeline.rng import derive_seed

from .config import complete_config
from .encoder import Encoder, model_images, model_shape
from .places import receptive_field_places


def build_encoder(
    config: Mapping[str, Mapping[str, Any]] | None, dataset: Dataset, seed: int = 0
) -> Encoder:
    """Build an untrained encoder for a data set.

    Parameters
    ----------
    config : dict or None
        Configuration, completed from the defaults.
    dataset : Dataset
        Gives units, image shape and statistics; its train tier gives first guesses of the
        receptive fields' places where the readout wants them.
    seed : int
        Names the initial weights.

    Examples
    --------
    >>> images = np.random.default_rng(0).integers(0, 256, (6, 36, 64), np.uint8)
    >>> tiers = np.repeat(["train", "validation"], 3)
    >>> data = Dataset(images, np.arange(6), np.arange(6), np.ones((6, 2)), tiers)
    >>> encoder = build_encoder({"core": {"channels": 4}}, data)
    >>> encoder.predict(images[:3]).shape
    (3, 2)
    """
    config = complete_config(config)
    shape = model_shape(dataset.shape)
    train = dataset.trials("train")
    stats = dataset.stats
    small = model_images(dataset, shape)
    shown = small[dataset.image_index[train]]
    sd = float(shown.std(dtype=np.float64))
    statistics: dict[str, Any] = {
        "image_mean": float(shown.mean(dtype=np.float64)),
        "image_sd": sd if sd > 0 else 1.0,
        "response_scale": stats.response_scale,
        "behavior_mean": stats.behavior_mean,
        "behavior_sd": stats.behavior_sd,
        "pupil_mean": stats.pupil_mean,
        "pupil_sd": stats.pupil_sd,
    }
    for name in ("behavior", "pupil"):
        mean = statistics[f"{name}_mean"]
        if mean is not None and not np.isfinite(mean).all():
            raise DataError(
                "training trials without a value",
                field=name,
                remedy="drop them with Dataset.complete()",
            )
    if not np.isfinite(stats.response_mean).all():
        raise DataError(
            "training trials without a response",
            field="responses",
            remedy="drop them with Dataset.complete()",
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "encoder"))
        encoder = Encoder(config, statistics, shape, dataset.unit_ids)
    mean = stats.normalize_responses(stats.response_mean)
    with torch.no_grad():
        # ELU(b) + 1 = mean: above 1 it is linear, below a logarithm
        low = np.log(np.clip(mean, 0.05, 1))
        encoder.readout.bias.copy_(torch.as_tensor(np.where(mean > 1, mean - 1, low)))
        encoder.readout.set_cortex(dataset.um_xyz)
        if config["readout"].get("init_places", False):
            z = (shown - statistics["image_mean"]) / statistics["image_sd"]
            pixels = receptive_field_places(z, dataset.responses[train])
            feature = (pixels[:, ::-1] - encoder.core.offset) / encoder.core.stride
            size = np.array([encoder.feature_size[1], encoder.feature_size[0]])
            place = np.clip((feature + 0.5) / size * 2 - 1, -0.97, 0.97)
            encoder.readout.start_at(torch.as_tensor(place.astype(np.float32)))
    return encoder
