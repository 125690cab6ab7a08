"""Whether another start leads to the same image."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from pipeline.mei.search import own_responses

from .base import Analysis, AnalysisContext, analyses


@analyses.register("stability")
def stability(context: AnalysisContext, *, inside: float = 0.5) -> Analysis:
    """Compare the MEIs from all starts (supplementary figures S1a and S5 of Walker et al.).

    Parameters
    ----------
    context : AnalysisContext
        With at least two `start_images`.
    inside : float
        Pixels count where the mask is at least this.

    Returns
    -------
    Analysis
        `median_r`, `lowest_r`: pairwise Pearson correlations inside the mask;
        `activation_ratio`: lowest over highest. Arrays `images` (units, starts, h, w) and
        `activations` (units, starts).
    """
    images = context.start_images
    if images is None or images.shape[1] < 2:
        raise ValueError("stability needs MEIs from at least two starts")
    n, starts = images.shape[:2]
    stimuli = context.stimuli
    z = stimuli.zscore(images.reshape(n * starts, *images.shape[2:]))
    units = stimuli.pick().repeat_interleave(starts)
    rates = own_responses(stimuli.cnn, z, units).reshape(n, starts)
    median, lowest = np.full((2, n), np.nan)
    for row, mask in enumerate(context.masks[:, 0].cpu().numpy() >= inside):
        if mask.sum() > 2:
            pixels = images[row][:, mask]
            r = np.corrcoef(pixels)
            pairs = [r[i, j] for i, j in combinations(range(starts), 2)]
            median[row], lowest[row] = np.median(pairs), np.min(pairs)
    ratio = rates.min(1) / np.where(rates.max(1) > 0, rates.max(1), np.nan)
    return Analysis(
        {"median_r": median, "lowest_r": lowest, "activation_ratio": ratio},
        {"images": np.asarray(images, np.float32), "activations": rates},
    )
