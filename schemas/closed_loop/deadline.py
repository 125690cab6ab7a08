"""What a plan is made of at its deadline: the stimuli that are ready, and what is left out."""

from __future__ import annotations

from typing import Any

import datajoint as dj

from schemas import mei
from schemas.clock import now_sql
from schemas.closed_loop.loop import Loop


def overdue() -> Any:
    """Return the loops whose deadline has come, by the clock of the database server."""
    return Loop & f"deadline_utc <= {now_sql(Loop().connection)}"


def showable(asked: Any) -> Any:
    """Return the `plan_id` of plans that two displayed images could be shown of.

    An image counts if it is as wanted and its unit's MEI is displayed, too.

    Parameters
    ----------
    asked : query
        Displays by plan, rows of `PlanTask.Display`.
    """
    images = asked * mei.Display.Image.proj("image_hash", "kind", "ok") & {"ok": True}
    meis = images & {"kind": "mei", "variant": 0}
    of_targets = dj.U("plan_id", "dataset_hash", "unit_index") & meis
    counted = dj.U("plan_id").aggr(images & of_targets, n_showable="COUNT(DISTINCT image_hash)")
    return counted & "n_showable >= 2"
