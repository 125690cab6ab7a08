"""Analyses of target neurons in the model: ``f(AnalysisContext, *, ...) -> Analysis``.

Every analysis is one file that returns numbers for every unit and arrays to draw;
`pipeline.plotting.analysis` has a figure of the same name for each.
"""

from . import (  # noqa: F401  registers the analyses
    gabor_similarity,
    gradient_spectrum,
    gratings,
    held_out,
    linear_filter,
    linearised,
    natural_patches,
    spectrum_difference,
    stability,
    tuning,
)
from .base import Analysis, AnalysisContext, analyses

__all__ = ["Analysis", "AnalysisContext", "analyses"]
