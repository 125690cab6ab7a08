"""Figures of a loop: every function takes arrays and returns a matplotlib Figure."""

from pipeline.plotting.analysis import ANALYSIS_FIGURES, predicted_activation_figure
from pipeline.plotting.behavior import behavior_figure, pupil_figure
from pipeline.plotting.checks import (
    audit_figure,
    confirmation_figure,
    power_figure,
    prediction_figure,
    selection_figure,
    sensitivity_figure,
)
from pipeline.plotting.closed_loop import comparison_figure, confusion_figure, matches_figure
from pipeline.plotting.imaging import (
    field_figure,
    motion_figure,
    summary_figure,
    traces_figure,
)
from pipeline.plotting.mei import (
    day_stability_figure,
    gallery_figure,
    sheet_figure,
    show_image,
)
from pipeline.plotting.model import oracle_figure
from pipeline.plotting.style import COLORS, save
from pipeline.plotting.timing import timing_figure

__all__ = [
    "ANALYSIS_FIGURES",
    "COLORS",
    "audit_figure",
    "behavior_figure",
    "comparison_figure",
    "confirmation_figure",
    "confusion_figure",
    "day_stability_figure",
    "field_figure",
    "gallery_figure",
    "matches_figure",
    "motion_figure",
    "oracle_figure",
    "power_figure",
    "predicted_activation_figure",
    "prediction_figure",
    "pupil_figure",
    "save",
    "selection_figure",
    "sensitivity_figure",
    "sheet_figure",
    "show_image",
    "summary_figure",
    "timing_figure",
    "traces_figure",
]
