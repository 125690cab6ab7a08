"""Where in the image the receptive fields of a trained encoder are."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.model.encoder import Encoder
from pipeline.rng import torch_generator

from .model import FrozenModel

PAIRS_AT_ONCE = 1024


def pink_noise(n: int, shape: tuple[int, int], seed: int = 0) -> torch.Tensor:
    """Draw images (n, 1, h, w) of mean 0 and sd 1 whose amplitude falls as 1 / f."""
    white = torch.randn(n, 1, *shape, generator=torch_generator(seed, "pink noise"))
    fy, fx = torch.fft.fftfreq(shape[0])[:, None], torch.fft.rfftfreq(shape[1])[None, :]
    falloff = 1 / (fy.square() + fx.square()).sqrt().clamp_min(1 / max(shape))
    pink = torch.fft.irfft2(torch.fft.rfft2(white) * falloff, s=shape)
    pink = pink - pink.mean((2, 3), keepdim=True)
    return pink / pink.std((2, 3), keepdim=True)


def field_centers_px(encoder: Encoder, *, n_images: int = 16, seed: int = 0) -> NDArray[np.float64]:
    """Find the center of what each unit answers to: the centroid of its gradient's amplitude.

    The point that a unit reads is not it: features need not be centered on their pixel, and by how
    much they are off differs from channel to channel.

    Parameters
    ----------
    encoder : Encoder
        A unit whose receptive field is no crop of the image is where it reads (`readout_px`).
    n_images : int
        Images of pink noise over which the squared gradient is averaged.
    seed : int
        Names them.

    Returns
    -------
    array, shape (units, 2)
        (y, x) in model pixels.

    Examples
    --------
    >>> from pipeline.dataset import Dataset
    >>> from pipeline.model.build import build_encoder
    >>> images = np.random.default_rng(0).integers(0, 256, (6, 36, 64), np.uint8)
    >>> tiers = np.repeat(["train", "validation"], 3)
    >>> data = Dataset(images, np.arange(6), np.arange(6), np.ones((6, 2)), tiers)
    >>> field_centers_px(build_encoder({"core": {"channels": 4}}, data)).shape
    (2, 2)
    """
    frozen = FrozenModel([encoder])
    places = frozen.crops()
    height, width = places.height, places.width
    device = encoder.response_scale.device
    noise = pink_noise(n_images, encoder.input_shape, seed).to(device)
    axes = [np.arange(height), np.arange(width)]
    centers = encoder.readout_px()
    chunk = max(1, PAIRS_AT_ONCE // n_images)
    exact = np.flatnonzero(places.exact)
    for units in (exact[i : i + chunk] for i in range(0, len(exact), chunk)):
        corners = np.stack([places.top[units], places.left[units]], axis=1)
        crops = torch.cat([noise[:, :, y : y + height, x : x + width] for y, x in corners])
        crops.requires_grad_(True)
        pairs = torch.as_tensor(units, device=device).repeat_interleave(n_images)
        with torch.enable_grad():
            rates = frozen.forward_crops(crops, pairs)
            (gradient,) = torch.autograd.grad(rates.sum(), crops)
        power = gradient.square().reshape(len(units), n_images, height, width).mean(1)
        weight = power.sqrt().double().cpu().numpy()
        total = weight.sum((1, 2))
        seen = total > 0
        for axis, other in ((0, 2), (1, 1)):
            along = weight.sum(other) @ axes[axis] / np.where(seen, total, 1)
            centers[units[seen], axis] = (corners[:, axis] + along)[seen]
    return centers
