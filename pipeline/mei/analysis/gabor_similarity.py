"""How much of an MEI is a Gabor."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import nn

from pipeline.mei.controls import control_kinds
from pipeline.mei.search import own_responses

from .base import Analysis, AnalysisContext, analyses


class _Templates(nn.Module):
    """Units that respond by their similarity to one image each."""

    filters: torch.Tensor

    def __init__(self, images: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("filters", nn.functional.normalize(images.flatten(1), dim=1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return nn.functional.normalize(images.flatten(1), dim=1) @ self.filters.T

    def forward_units(self, images: torch.Tensor, units: torch.Tensor) -> torch.Tensor:
        flat = nn.functional.normalize(images.flatten(1), dim=1)
        return (flat * self.filters[units]).sum(1)


@analyses.register("gabor_similarity")
def gabor_similarity(context: AnalysisContext) -> Analysis:
    """Fit a Gabor to every MEI, and compare it with the most exciting Gabor (Fig. 2).

    Both come from the published bank and a continuous ascent, see the kind `gabor`; the fit
    climbs similarity instead of response.

    Parameters
    ----------
    context : AnalysisContext

    Returns
    -------
    Analysis
        `fit_r`: correlation of the MEI with the Gabor fitted to it; `fit_response`,
        `best_response`: response to fitted and most exciting Gabor over that to the MEI;
        `wavelength_px`, `sigma_px`, `orientation_deg` of the fit. Array `fits` (units, h, w).
    """
    stimuli = context.stimuli
    templates = replace(stimuli, cnn=_Templates(context.mei), units=np.arange(len(stimuli.units)))
    fit = control_kinds["gabor"](templates)
    best = control_kinds["gabor"](stimuli).activations
    mei = own_responses(stimuli.cnn, context.mei, stimuli.pick())
    fitted = own_responses(stimuli.cnn, stimuli.zscore(fit.images), stimuli.pick())
    level = np.where(mei > 0, mei, np.nan)
    names = ("wavelength_px", "sigma_px", "orientation_deg")
    return Analysis(
        {
            "fit_r": np.asarray(fit.activations, float),
            "fit_response": fitted / level,
            "best_response": best / level,
            **{name: np.array([info[name] for info in fit.info]) for name in names},
        },
        {"fits": fit.images, "meis": np.asarray(stimuli.mei_images, np.float32)},
    )
