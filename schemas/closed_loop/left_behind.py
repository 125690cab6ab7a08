"""Tasks that nobody waits for any more: the plans that asked for them were made without them."""

from __future__ import annotations

from typing import Any

from schemas import mei
from schemas.closed_loop.planning import Plan, PlanTask
from schemas.closed_loop.stability import OtherDayTask


def left_behind() -> dict[str, list[dict[str, Any]]]:
    """Return the keys of tasks that only plans ask for that were made without their results.

    A plan that is still to be made keeps its tasks, and so does whatever else asks for the same
    images: an analysis, a comparison with another day.

    Returns
    -------
    dict
        Keys by table that would compute them, such as `mei.Display`; empty if no plan was made
        without some of its stimuli.
    """
    out = (PlanTask.Display & Plan.proj()) - Plan.Source.proj()
    out = (out - mei.Display.proj()).to_dicts()
    if not out:
        return {}
    wanted = PlanTask.Display - Plan.proj()
    displays = (mei.DisplayTask.proj() & out) - wanted.proj()
    controls = _without(mei.ControlTask, displays, mei.DisplayTask)
    masks = _without(mei.MaskTask, controls, mei.ControlTask)
    masks = masks - mei.AnalysisTask.proj() - OtherDayTask.proj()
    ascents = _without(mei.MEITask, masks, mei.MaskTask)
    targets = _without(mei.TargetTask, ascents, mei.MEITask)
    return {
        "mei.Display": displays.to_dicts(),
        "mei.Control": controls.to_dicts(),
        "mei.Mask": masks.to_dicts(),
        "mei.MEI": ascents.to_dicts(),
        "mei.Targets": targets.to_dicts(),
    }


def _without(parent: Any, left: Any, child: Any) -> Any:
    """Return the tasks of which all that follows is left behind."""
    return (parent.proj() & left) - (child.proj() - left)
