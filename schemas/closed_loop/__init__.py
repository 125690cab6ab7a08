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
from schemas.closed_loop.left_behind import left_behind
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
    "UnitMatch",
    "default_recipe",
    "left_behind",
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
    targets: int | None = None,
    minutes: float | None = None,
    deadline: datetime.datetime | str | None = None,
    again: bool = False,
) -> dict[str, Any]:
    """Decide to close the loop on a scan: insert every task up to the plan, in one transaction.

    Parameters
    ----------
    scan_key : mapping
        `animal_id, session, scan_idx`.
    recipe : str or mapping, optional
        Name in `RECIPES`, hash or name of a recipe in the table, or what differs from the default.
        Not given, it is that of the scan's newest loop, or the default.
    targets : int, optional
        Most neurons to make stimuli for; those of the registered loop, or 150.
    minutes : float, optional
        Time for the presentation on day 2 (min); those of the registered loop, or 60.
    deadline : datetime or ISO text, optional
        When the package is needed: the plan is then made of the stimuli that are ready. Without an
        offset from UTC it is local time of this machine.
    again : bool
        Make another loop and plan, of a recipe that states these numbers; what both share is not
        computed twice. The deadline is that of the loop before, if it is to come.

    Returns
    -------
    dict
        Key of the loop and its `plan_id`. Registering the same loop again changes nothing but the
        deadline, if another one is given; every task is a row that can be edited before its result
        is computed.

    Raises
    ------
    DataError
        If there is no such scan, the loop has other numbers, the deadline is past, or it is to be
        moved though the plan is made.
    ValueError
        If the recipe, or a method or parameter in it, does not exist.
    """
    from schemas.decisions.tasks import register  # it imports this module

    return register(
        scan_key, recipe, targets=targets, minutes=minutes, deadline=deadline, again=again
    )


def register_other_day(
    scan_key: Mapping[str, Any],
    source_key: Mapping[str, Any],
    *,
    seeds: Sequence[int] | None = None,
) -> dict[str, Any]:
    """Decide to train a model on another day's natural images, for the MEIs of the same cells.

    See `schemas.decisions.other_day.register_other_day`.
    """
    from schemas.decisions import other_day  # it imports this module

    return other_day.register_other_day(scan_key, source_key, seeds=seeds)
