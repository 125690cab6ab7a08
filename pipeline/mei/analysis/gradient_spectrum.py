"""In how many directions of image space a response changes."""

from __future__ import annotations

import numpy as np
import torch

from pipeline.mei.search import match_full

from .base import Analysis, AnalysisContext, analyses, gradients


@analyses.register("gradient_spectrum")
def gradient_spectrum(
    context: AnalysisContext, *, n_images: int = 100, n_values: int = 10
) -> Analysis:
    """Eigenvalues of the covariance of gradients over natural images, CNN and LN (S3).

    A linear-nonlinear neuron has one direction only, whatever its nonlinearity. The covariance
    is about zero: the mean gradient is a direction too.

    Parameters
    ----------
    context : AnalysisContext
    n_images : int
        Natural images, at the norm of the MEI.
    n_values : int
        Eigenvalues to keep, each divided by the largest.

    Returns
    -------
    Analysis
        `cnn_dimensions`, `ln_dimensions`: participation ratio, sum^2 over sum of squares of the
        eigenvalues. Arrays `cnn`, `ln` (units, n_values).
    """
    stimuli = context.stimuli
    images = match_full(stimuli.zscore(context.natural(n_images)), stimuli.length)
    n_values = min(n_values, len(images))
    columns, arrays = {}, {}
    for name, model in (("cnn", stimuli.cnn), ("ln", stimuli.ln)):
        ratio, spectra = np.full(len(stimuli.units), np.nan), []
        for row, unit in enumerate(stimuli.pick()):
            at = gradients(model, images, unit.repeat(len(images))).flatten(1).double()
            values = torch.linalg.svdvals(at).square().cpu().numpy()
            total = (values**2).sum()
            ratio[row] = values.sum() ** 2 / total if total > 0 else np.nan
            spectra.append(values[:n_values] / max(values[0], 1e-30))
        columns[f"{name}_dimensions"] = ratio
        arrays[name] = np.array(spectra, np.float32).reshape(-1, n_values)
    return Analysis(columns, arrays)
