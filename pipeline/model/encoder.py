"""The encoder: core, readout, shifter and modulator, with the statistics of its training data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import nn
from torch.nn import functional as F

from pipeline.dataset import Dataset
from pipeline.device import evaluating
from pipeline.errors import DataError
from pipeline.parameters import check_indices
from pipeline.registry import config_hash
from pipeline.stimulus.images import to_model
from pipeline.stimulus.sizes import same_aspect

from .cores import Core, PlainCore, cores
from .modulators import modulators
from .readouts import readouts
from .shifters import move_images, shifters

HEIGHTS_PX = (36, 40, 32, 34, 38, 44, 48)  # of the model's image, the first that fits its width
TOLERANCE = 0.01 - 1e-9  # of its aspect ratio: one off by exactly 1 % is refused
PREDICT_BATCH = 256


def model_shape(image_shape: tuple[int, int]) -> tuple[int, int]:
    """Return the model's (height, width) for images of a shape: 36 high, even, same aspect.

    Raises
    ------
    DataError
        If no such size has the aspect ratio to 1 %.
    """
    found = same_aspect(image_shape, HEIGHTS_PX, tolerance=TOLERANCE, multiple=2, least_columns=8)
    if found is None:
        raise DataError(
            "images of this shape cannot be brought to the model's size",
            field="images",
            found=" x ".join(map(str, image_shape)),
            remedy="crop them to an aspect ratio such as 16:9 or 4:3",
        )
    return found


def model_images(dataset: Dataset, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Return the unique images of a data set at the model's size (gray levels)."""
    return to_model(dataset.images, shape)


class Encoder(nn.Module):
    """A neural predictive model of all units of one data set.

    Parameters
    ----------
    config : dict
        Complete configuration (`complete_config`).
    statistics : dict of arrays
        `image_mean, image_sd` (of the images at the model's size), `response_scale` (units),
        and `behavior_mean, behavior_sd, pupil_mean, pupil_sd` or None.
    input_shape : (int, int)
        Height and width of the images it sees.
    unit_ids : int array, shape (units,)

    Attributes
    ----------
    image_mean, image_sd : float
        Gray levels; z-scored images are ``(grey - image_mean) / image_sd``.
    """

    behavior_mean: torch.Tensor
    behavior_sd: torch.Tensor
    pupil_mean: torch.Tensor
    pupil_sd: torch.Tensor
    response_scale: torch.Tensor

    def __init__(
        self,
        config: Mapping[str, Mapping[str, Any]],
        statistics: Mapping[str, Any],
        input_shape: tuple[int, int],
        unit_ids: NDArray,
    ) -> None:
        super().__init__()
        self.config = {section: dict(values) for section, values in config.items()}
        self.input_shape = (int(input_shape[0]), int(input_shape[1]))
        self.unit_ids = np.asarray(unit_ids)
        self.n_units = len(self.unit_ids)
        self.image_mean = float(statistics["image_mean"])
        self.image_sd = float(statistics["image_sd"])
        for name in ("behavior", "pupil"):
            for moment in ("mean", "sd"):
                value = statistics.get(f"{name}_{moment}")
                tensor = None if value is None else torch.as_tensor(np.asarray(value, np.float32))
                self.register_buffer(f"{name}_{moment}", tensor)
        scale = torch.as_tensor(np.asarray(statistics["response_scale"], np.float32))
        self.register_buffer("response_scale", scale)

        def build(section: str, registry, *data):
            return registry.build(self.config[section], *data)

        # a quarter faster on a CPU than channels first
        made = build("core", cores)
        core: Any = made if isinstance(made, Core) else PlainCore(made, self.input_shape)
        self.core = core.to(memory_format=torch.channels_last)
        size = self.core.output_size(self.input_shape)
        self.feature_size = size
        self.readout = build("readout", readouts, self.core.channels, size, self.n_units)
        self.shifter = None if self.pupil_mean is None else build("shifter", shifters)
        self.modulator = None
        if self.behavior_mean is not None:
            columns = len(self.behavior_mean)
            self.modulator = build("modulator", modulators, columns, self.n_units)

    @property
    def model_hash(self) -> str:
        """Hash of the configuration."""
        return config_hash(self.config)

    def forward(
        self,
        images: torch.Tensor,
        behavior: torch.Tensor | None = None,
        pupil: torch.Tensor | None = None,
        noise: Callable[..., torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Return normalized rates (n, units); all inputs z-scored, None is the mean.

        Parameters
        ----------
        images : tensor, shape (n, 1, h, w)
        behavior : tensor, shape (n, columns), optional
        pupil : tensor, shape (n, 2), optional
        noise : function, optional
            Normal numbers of a given shape, for the sampled places of training.
        """
        n = len(images)
        shift = None
        if self.shifter is not None:
            shift = self.shifter(images.new_zeros(n, 2) if pupil is None else pupil)
            if self.shifter.moves_images:
                images, shift = images if pupil is None else move_images(images, shift), None
        features = self.core(images)
        if features.requires_grad:
            # batch norm is 15 times slower if its gradient is laid out another way
            features.register_hook(lambda g: g.contiguous(memory_format=torch.channels_last))
        out = self.readout(features, shift, noise)
        gain = None
        if self.modulator is not None:
            columns = len(self.behavior_mean)
            gain = self.modulator(images.new_zeros(1, columns) if behavior is None else behavior)
        return self.rate(out, gain)

    def rate(self, out: torch.Tensor, gain: torch.Tensor | None) -> torch.Tensor:
        """Return the rate of a readout's output and a gain, or gain and offset: ELU + 1."""
        if gain is None or self.modulator is None:
            return F.elu(out) + 1
        if self.modulator.offsets:
            gain, offset = gain.unbind(-1)
            out = out + offset
        if self.modulator.after:
            return (F.elu(out) + 1) * gain
        return F.elu(out * gain) + 1

    def regulariser(self) -> torch.Tensor:
        """Return the sum of all penalties."""
        penalty = self.core.regulariser() + self.readout.regulariser()
        return penalty if self.shifter is None else penalty + self.shifter.regulariser()

    def zscore_images(self, images: NDArray) -> torch.Tensor:
        """Return gray levels of any size of the right aspect as z-scored (n, 1, h, w)."""
        images = np.asarray(images)
        if images.ndim == 4 and images.shape[1] == 1:
            images = images[:, 0]
        if images.ndim == 2:
            images = images[None]
        grey = to_model(images, self.input_shape)
        z = (torch.as_tensor(grey) - self.image_mean) / self.image_sd
        return z[:, None].to(self.response_scale.device)

    def zscore_state(self, name: str, value: NDArray | None, n: int) -> torch.Tensor | None:
        """Z-score raw `behavior` or `pupil` (n, columns) or (columns,); None stays None."""
        mean, sd = getattr(self, f"{name}_mean"), getattr(self, f"{name}_sd")
        if value is None or mean is None:
            return None
        given = np.asarray(value, np.float64)
        if given.shape not in ((len(mean),), (n, len(mean))):
            expected = f"({n}, {len(mean)}) or ({len(mean)},)"
            raise ValueError(f"{name} must be {expected}, got {given.shape}")
        if not np.isfinite(given).all():
            raise ValueError(f"{name} is not finite; drop such trials, or give None for the mean")
        raw = torch.as_tensor(np.broadcast_to(given, (n, len(mean))).copy())
        return ((raw - mean.double().cpu()) / sd.double().cpu()).float().to(mean.device)

    @torch.no_grad()
    def predict(
        self,
        images: NDArray,
        behavior: NDArray | None = None,
        pupil_center: NDArray | None = None,
        units: ArrayLike | None = None,
    ) -> NDArray[np.float32]:
        """Return the expected response, shape (n, units), in the units of the data set.

        Parameters
        ----------
        images : array, shape (n, H, W)
            Gray levels, any size of the right aspect ratio.
        behavior, pupil_center : array, shape (n, columns) or (columns,), optional
            Raw values, as in the data set; None is the training mean.
        units : int array or mask, optional
            Which units (positions in `unit_ids`); default all.

        Raises
        ------
        ValueError
            If a unit does not exist.
        """
        images = np.asarray(images)
        images = images[None] if images.ndim == 2 else images
        n = len(images)
        states = {
            "behavior": self.zscore_state("behavior", behavior, n),
            "pupil": self.zscore_state("pupil", pupil_center, n),
        }
        result = np.empty((n, self.n_units), np.float32)
        with evaluating(self):
            for start in range(0, n, PREDICT_BATCH):
                part = slice(start, start + PREDICT_BATCH)
                state = {k: None if v is None else v[part] for k, v in states.items()}
                rate = self(self.zscore_images(images[part]), **state)
                result[part] = (rate * self.response_scale).cpu().numpy()
        return result if units is None else result[:, check_indices(units, self.n_units)]

    @torch.no_grad()
    def readout_px(self) -> NDArray[np.float64]:
        """Return where each unit reads at mean gaze, (y, x) in model pixels, shape (units, 2)."""
        if self.readout.place is None:
            raise ValueError(f"readout {self.config['readout']['name']!r} has no places")
        place = self.readout.place
        if self.shifter is not None and not self.shifter.moves_images:
            place = place + self.shifter(place.new_zeros(1, 2))
        size = place.new_tensor([self.feature_size[1], self.feature_size[0]])
        feature = (place + 1) / 2 * size - 0.5
        pixels = feature * self.core.stride + self.core.offset
        return pixels.flip(1).double().cpu().numpy()
