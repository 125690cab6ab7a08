"""The linear filter in a CNN, and whether it is that of the LN model."""

from __future__ import annotations

import numpy as np
import torch

from pipeline.mei.search import match_full

from .base import Analysis, AnalysisContext, analyses, correlation, gradients


@analyses.register("linearised", revision=2)
def linearised(context: AnalysisContext, *, n_images: int = 100) -> Analysis:
    """Compare the CNN's gradients with the RF of the LN model (S10).

    The gradient at mean gray is the CNN's linear part there; averaged over natural images it is
    the linear part where the neuron works.

    Parameters
    ----------
    context : AnalysisContext
    n_images : int
        Natural images to average over, at the norm of the MEI.

    Returns
    -------
    Analysis
        `grey_r`, `natural_r`: correlation of either with the RF. Arrays `grey`, `natural`, `rf`
        (units, h, w): z-scored, of one norm.
    """
    stimuli = context.stimuli
    units = stimuli.pick()
    blank = torch.zeros_like(context.mei)
    found = {"grey": gradients(stimuli.cnn, blank, units)}
    total = torch.zeros_like(context.mei)
    for image in match_full(stimuli.zscore(context.natural(n_images)), stimuli.length):
        total += gradients(stimuli.cnn, image.expand(len(units), -1, -1, -1), units)
    found["natural"] = total
    columns = {f"{name}_r": correlation(image, context.rf) for name, image in found.items()}
    found["rf"] = context.rf
    arrays = {
        name: match_full(image, stimuli.length)[:, 0].cpu().numpy().astype(np.float32)
        for name, image in found.items()
    }
    return Analysis(columns, arrays)
