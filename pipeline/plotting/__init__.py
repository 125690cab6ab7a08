"""Figures of a loop: every function takes arrays and returns a matplotlib Figure."""

from pipeline.plotting.analysis import ANALYSIS_FIGURES, predicted_activation_figure
from pipeline.plotting.analysis_images import linearised_sheets
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
    show_image,
)
from pipeline.plotting.model import held_out_responses_figure, oracle_figure
from pipeline.plotting.scheme import scheme_figure
from pipeline.plotting.sheets import neurons_a_sheet, sheet_figure, stimuli_sheet_figure
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
    "held_out_responses_figure",
    "linearised_sheets",
    "matches_figure",
    "motion_figure",
    "neurons_a_sheet",
    "oracle_figure",
    "power_figure",
    "predicted_activation_figure",
    "prediction_figure",
    "pupil_figure",
    "save",
    "scheme_figure",
    "selection_figure",
    "sensitivity_figure",
    "sheet_figure",
    "show_image",
    "stimuli_sheet_figure",
    "summary_figure",
    "timing_figure",
    "traces_figure",
]
