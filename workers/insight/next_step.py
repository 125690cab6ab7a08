"""What a person does next about a loop whose plan is made: the command."""

from __future__ import annotations

from collections import Counter
from typing import Any

from workers.queue.lease import Ledger
from workers.queue.order import TaskOrder


def next_steps(ledger: Ledger, plan: TaskOrder) -> list[dict[str, Any]]:
    """Return how far every loop is whose plan is made, and the command that comes next.

    Parameters
    ----------
    ledger : Ledger
        Job tables; its connection is waited for.
    plan : TaskOrder
        The pipeline; only that of `schemas` has loops.

    Returns
    -------
    list of dict
        `scan`, `plan_id`, `state` (a few words) and `next` (a command, or None while day 2 is
        computed), the newest plan last.
    """
    if plan.source != "schemas":
        return []
    return ledger.persist(_steps)


def _steps() -> list[dict[str, Any]]:
    from schemas import closed_loop, experiment

    made = closed_loop.PlanTask * closed_loop.Loop.proj("registered") & closed_loop.Plan.proj()
    rows = made.to_dicts(order_by=("registered", "plan_id"))
    plans = Counter(experiment.scan_name(row) for row in rows)
    packed = set(closed_loop.Package().to_arrays("plan_id").tolist())
    shown = set(closed_loop.Presentation().to_arrays("plan_id").tolist())
    waiting = closed_loop.Presentation - closed_loop.Outcome.proj()
    unscored = set(waiting.to_arrays("plan_id").tolist())
    found = []
    for row in rows:
        plan, scan = row["plan_id"], experiment.scan_name(row)
        if plan in unscored:
            state, command = "day 2 is being scored", None
        elif plan in shown:
            state, command = "scored", f"inception report FOLDER --scan {scan}"
        elif plan in packed:
            state, command = "its package is written; show it, then", "inception ingest DAY2"
        else:
            which = f" --plan {plan}" if plans[scan] > 1 else ""
            state, command = "planned", f"inception package {scan} FOLDER{which}"
        found.append({"scan": scan, "plan_id": plan, "state": state, "next": command})
    return found
