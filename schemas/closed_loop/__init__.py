"""Back to the same cells: recipe, loop, plan, presentation, matching, audit and verdict.

One database schema in modules by question; this package has every table's name.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

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
from schemas.closed_loop.loop import Loop, Recipe
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
from schemas.recipe import RECIPES, default_recipe

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
    "UnitMatch",
    "default_recipe",
    "matched_pairs",
    "register_loop",
    "register_other_day",
    "schema",
    "without_pairs",
]


def register_loop(
    scan_key: Mapping[str, Any],
    recipe: str | Mapping[str, Any] | None = None,
    *,
    targets: int = 150,
    minutes: float = 60.0,
    deadline: datetime.datetime | str | None = None,
) -> dict[str, Any]:
    """Decide to close the loop on a scan: insert every task up to the plan, in one transaction.

    Parameters
    ----------
    scan_key : mapping
        `animal_id, session, scan_idx`.
    recipe : str or mapping, optional
        Name in `RECIPES`, hash or name of a recipe in the table, or what differs from the default.
    targets : int
        Most neurons to make stimuli for.
    minutes : float
        Time for the presentation on day 2 (min).
    deadline : datetime or ISO text, optional
        When the package is needed.

    Returns
    -------
    dict
        Key of the loop and its `plan_id`. Registering the same loop again changes nothing; every
        task is a row that can be edited before its result is computed.

    Raises
    ------
    DataError
        If there is no such scan.
    ValueError
        If the recipe, or a method or parameter in it, does not exist.
    """
    from schemas.registration import register  # it imports this module

    return register(scan_key, recipe, targets=targets, minutes=minutes, deadline=deadline)


def register_other_day(
    scan_key: Mapping[str, Any],
    source_key: Mapping[str, Any],
    *,
    seeds: Sequence[int] | None = None,
) -> dict[str, Any]:
    """Decide to train a model on another day's natural images, for the MEIs of the same cells.

    See `schemas.other_day.register_other_day`.
    """
    from schemas import other_day  # it imports this module

    return other_day.register_other_day(scan_key, source_key, seeds=seeds)
