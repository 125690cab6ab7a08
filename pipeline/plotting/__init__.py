"""Figures of a loop: every function takes arrays and returns a matplotlib Figure."""

from pipeline.plotting.closed_loop import comparison_figure, confusion_figure, matches_figure
from pipeline.plotting.imaging import field_figure, traces_figure
from pipeline.plotting.mei import gallery_figure, show_image
from pipeline.plotting.model import oracle_figure
from pipeline.plotting.style import COLORS, save
from pipeline.plotting.timing import timing_figure

__all__ = [
    "COLORS",
    "comparison_figure",
    "confusion_figure",
    "field_figure",
    "gallery_figure",
    "matches_figure",
    "oracle_figure",
    "save",
    "show_image",
    "timing_figure",
    "traces_figure",
]
