"""What an analysis gets, and what it returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.mei.controls import ControlContext, control_kinds
from pipeline.mei.search import match_full, views
from pipeline.mei.view import frame_shape
from pipeline.model import Ensemble
from pipeline.registry import Registry

analyses = Registry("analysis")


@dataclass(frozen=True)
class AnalysisContext:
    """Neurons with their models and images.

    Attributes
    ----------
    stimuli : ControlContext
        Models at mean behavior and gaze, units, MEIs and masks, training images, norm, seed.
    start_images : array, shape (units, starts, h, w), or None
        The MEI from every start (gray levels).
    test_images : array, shape (images, h, w), or None
        Images of the test tier (gray levels) at the model's size; they report, nothing is chosen
        by them.
    test_responses : array, shape (images, units), or None
        Mean measured response of the units to them.
    ensemble : Ensemble or None
        The members of the CNN.
    """

    stimuli: ControlContext
    start_images: NDArray | None = None
    test_images: NDArray | None = None
    test_responses: NDArray | None = None
    ensemble: Ensemble | None = None

    @cached_property
    def mei(self) -> torch.Tensor:
        """MEIs, z-scored (units, 1, h, w), zero mean and of the common norm."""
        return match_full(self.stimuli.zscore(self.stimuli.mei_images), self.stimuli.length)

    @cached_property
    def rf(self) -> torch.Tensor:
        """Linear receptive fields as shown: MEIs of the LN ensemble, like `mei`."""
        images = control_kinds["rf"](self.stimuli).images
        return match_full(self.stimuli.zscore(images), self.stimuli.length)

    @cached_property
    def masks(self) -> torch.Tensor:
        """Masks (units, 1, h, w) in 0-1."""
        if self.stimuli.mei_masks is None:
            raise ValueError("this analysis needs the masks of the MEIs")
        masks = np.asarray(self.stimuli.mei_masks, np.float32)
        return torch.as_tensor(masks[:, None], device=self.stimuli.device)

    def natural(self, most: int) -> NDArray:
        """Return training images (n, h, w), at most so many, evenly from the whole pool."""
        pool = self.stimuli.natural
        if pool is None or not len(pool):
            raise ValueError("this analysis needs natural images")
        return pool[np.unique(np.linspace(0, len(pool) - 1, most).round().astype(int))]


@dataclass(frozen=True)
class Analysis:
    """Numbers of every unit, and arrays to draw."""

    units: dict[str, NDArray]  # quantity to (units,); NaN where it is not known
    arrays: dict[str, NDArray] = field(default_factory=dict)  # first axis the units, but for axes


def gradients(model, images: torch.Tensor, units: torch.Tensor) -> torch.Tensor:
    """Return the gradient of unit ``units[i]`` at image i: z-scored (n, C, h, w), whole frames."""
    out = torch.zeros_like(images)
    for index, view in views(model, units, frame_shape(images)):
        crops = view.cut(images[index]).detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(view.rates(crops).sum(), crops)
        out[index] = view.frame(gradient)
    return out


def correlation(a: torch.Tensor, b: torch.Tensor) -> NDArray[np.float64]:
    """Return Pearson correlations of images (n, ...) with images; NaN for one without contrast."""
    a, b = (x.flatten(1).double() for x in (a, b))
    a, b = (x - x.mean(1, keepdim=True) for x in (a, b))
    scale = (a.square().sum(1) * b.square().sum(1)).sqrt()
    return torch.where(scale > 1e-12, (a * b).sum(1) / scale, torch.nan).cpu().numpy()
