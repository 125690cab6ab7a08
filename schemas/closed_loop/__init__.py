"""Back to the same cells: recipe, loop, plan, presentation, matching, audit and verdict.

One database schema in modules by question; this package has every table's name.
"""

from __future__ import annotations

from schemas.closed_loop.binding import schema
from schemas.closed_loop.checks import (
    ArousalControl,
    CellMatchOracleCorrelation,
    Drift,
    PooledOutcome,
    Prediction,
    Sensitivity,
)
from schemas.closed_loop.frozen import AnalysisPlan, Package, PlanPower
from schemas.closed_loop.left_behind import left_behind
from schemas.closed_loop.loop import Loop, Recipe, StoppedLoop
from schemas.closed_loop.matching import MatchMethod, MatchTask, UnitMatch
from schemas.closed_loop.planning import Plan, PlanMethod, PlanTask
from schemas.closed_loop.presentation import Audit, Presentation
from schemas.closed_loop.stability import MEIDayStability, OtherDayTask
from schemas.closed_loop.stacks import (
    CombinedMatch,
    Stack,
    StackMatch,
    matched_pairs,
    without_pairs,
)
from schemas.closed_loop.verdict import (
    Comparison,
    Confusion,
    Outcome,
    OutcomeMethod,
    Population,
)
from schemas.decisions.recipe import RECIPES, default_recipe

__all__ = [
    "RECIPES",
    "AnalysisPlan",
    "ArousalControl",
    "Audit",
    "CellMatchOracleCorrelation",
    "CombinedMatch",
    "Comparison",
    "Confusion",
    "Drift",
    "Loop",
    "MEIDayStability",
    "MatchMethod",
    "MatchTask",
    "OtherDayTask",
    "Outcome",
    "OutcomeMethod",
    "Package",
    "Plan",
    "PlanMethod",
    "PlanPower",
    "PlanTask",
    "PooledOutcome",
    "Population",
    "Prediction",
    "Presentation",
    "Recipe",
    "Sensitivity",
    "Stack",
    "StackMatch",
    "StoppedLoop",
    "UnitMatch",
    "default_recipe",
    "left_behind",
    "matched_pairs",
    "schema",
    "without_pairs",
]
