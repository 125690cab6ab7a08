"""MEI and RF taken as linear filters: which predicts measured responses."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from .base import Analysis, AnalysisContext, analyses


@analyses.register("linear_filter", revision=2)
def linear_filter(context: AnalysisContext) -> Analysis:
    """Rank-correlate filter times test image with the mean measured response (S9).

    An RF should do better: an MEI is what excites most, not what predicts most.

    Parameters
    ----------
    context : AnalysisContext
        With test images and responses.

    Returns
    -------
    Analysis
        `mei_rho`, `rf_rho`: Spearman correlation over test images; NaN below three images.
    """
    if context.test_images is None or context.test_responses is None:
        raise ValueError("'linear_filter' needs test images and the responses to them")
    images = context.stimuli.zscore(context.test_images).flatten(1)
    columns = {}
    for name, filters in (("mei", context.mei), ("rf", context.rf)):
        drive = (images @ filters.flatten(1).T).cpu().numpy()
        columns[f"{name}_rho"] = _spearman(drive, np.asarray(context.test_responses, float))
    return Analysis(columns)


def _spearman(a: NDArray, b: NDArray) -> NDArray[np.float64]:
    """Return the rank correlation of every column; images without a response are left out."""
    out = np.full(a.shape[1], np.nan)
    for unit in range(a.shape[1]):
        known = np.isfinite(b[:, unit])
        x, y = rankdata(a[known, unit]), rankdata(b[known, unit])
        if known.sum() >= 3 and np.ptp(x) > 0 and np.ptp(y) > 0:
            out[unit] = np.corrcoef(x, y)[0, 1]
    return out
