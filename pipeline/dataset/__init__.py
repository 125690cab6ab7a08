"""From a scan's activity and behavior to one training set, its tiers and its reliability."""

from .behavior import TrialBehavior, behavior_windows
from .data import Dataset, Statistics
from .files import load
from .filters import UnitTable, unit_filters
from .groups import reconcile
from .reliability import reliability_methods
from .tiers import assign_tiers
from .windows import response_windows

__all__ = [
    "Dataset",
    "Statistics",
    "TrialBehavior",
    "UnitTable",
    "assign_tiers",
    "behavior_windows",
    "load",
    "reconcile",
    "reliability_methods",
    "response_windows",
    "unit_filters",
]
