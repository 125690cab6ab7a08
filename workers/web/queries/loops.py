"""Loops as they stand: how far, what is in the way, when the package is ready; workers; errors."""

from __future__ import annotations

import datetime
from typing import Any

from pipeline.errors import DataError
from schemas import closed_loop, experiment, imaging
from schemas.clock import to_local
from workers.insight import forecast, status
from workers.insight.remaining import progress
from workers.queue import jobs, tables
from workers.queue.lease import Ledger
from workers.queue.order import TaskOrder

LOOP_KEY = ("animal_id", "session", "scan_idx", "recipe_hash")
MOST_ERRORS = 50  # on one page


def loop_row(key: dict[str, Any]) -> dict[str, Any]:
    """Return the row of a loop, or raise DataError."""
    rows = (closed_loop.Loop & {name: key[name] for name in LOOP_KEY}).to_dicts()
    if not rows:
        raise DataError("no such loop", field="loop", found=f"{experiment.scan_name(key)} {key!r}")
    return rows[0]


def all_loops(ledger: Ledger, plan: TaskOrder) -> list[dict[str, Any]]:
    """Return every loop, the newest first.

    Returns
    -------
    list of dict
        The row of `Loop`; `scan`, `name` (of the recipe, or its hash), `plans` (ids), `state` (one
        of `computing, stuck, ready, shown, scored`) and `ahead`, its forecast while it is computed.
    """
    ahead = {loop["plan_id"]: loop for loop in ahead_of(ledger, plan)["loops"]}
    tasks: dict[tuple, list[str]] = {}
    for row in closed_loop.PlanTask.proj(*LOOP_KEY).to_dicts(order_by="plan_id"):
        tasks.setdefault(tuple(row[name] for name in LOOP_KEY), []).append(row["plan_id"])
    made = set(closed_loop.Plan.to_arrays("plan_id").tolist())
    shown = set(closed_loop.Presentation.to_arrays("plan_id").tolist())
    scored = {
        row["plan_id"] for row in (closed_loop.Outcome.proj() * closed_loop.Presentation).to_dicts()
    }
    loops = (closed_loop.Loop * closed_loop.Recipe.proj("recipe_name")).to_dicts(
        order_by=("registered DESC", "recipe_hash")
    )
    for loop in loops:
        plans = tasks.get(tuple(loop[name] for name in LOOP_KEY), [])
        open_ = [ahead[plan_id] for plan_id in plans if plan_id in ahead]
        loop |= {
            "scan": experiment.scan_name(loop),
            "name": loop["recipe_name"] or loop["recipe_hash"],
            "plans": plans,
            "ahead": open_[0] if open_ else None,
            "state": _state(set(plans), made, shown, scored, open_),
            "deadline": loop["deadline_utc"] and to_local(loop["deadline_utc"]),
        }
    return loops


def _state(
    plans: set[str], made: set[str], shown: set[str], scored: set[str], open_: list[dict[str, Any]]
) -> str:
    if plans & scored:
        return "scored"
    if plans & shown:
        return "shown"
    if plans & made:
        return "ready"
    return "stuck" if any(loop["stuck"] for loop in open_) else "computing"


def ahead_of(ledger: Ledger, plan: TaskOrder) -> dict[str, Any]:
    """Return the forecast of all loops that have no package yet."""
    return forecast.forecast(ledger, plan, status.workers(ledger))


def queue(ledger: Ledger, plan: TaskOrder) -> dict[str, Any]:
    """Return how the queue stands: short queries, however long it is.

    Returns
    -------
    dict
        `pending, running, error, ignore`: jobs; `workers`: those alive; `slots`; `under_way`: jobs
        that run, with `elapsed_s` and `left_s`; `queue_s`: until what is due is done.
    """
    counts = {
        state: int(n)
        for state, n in ledger.rows(
            f"SELECT status, COUNT(*) FROM {tables.Job.full_table_name} GROUP BY status"
        )
    }
    seconds = forecast.durations(ledger)
    alive = status.workers(ledger)
    return {
        **{state: counts.get(state, 0) for state in ("pending", "running", "error", "ignore")},
        "workers": alive,
        "slots": sum(worker["slots"] for worker in alive),
        "under_way": forecast.running(ledger, seconds),
    }


def steps(ledger: Ledger, plan: TaskOrder, plan_id: str) -> dict[str, Any]:
    """Return stage by stage what is done of a plan, what runs and what waits.

    Returns
    -------
    dict
        `stages`: dicts `stage, jobs, done, running, error, left, tables`; each of `tables` has
        `table, jobs, done, running, error, left, seconds` (median of a job); `stuck`: names of
        jobs set aside.
    """
    counted, stuck = progress(ledger, plan, {"plan_id": plan_id})
    seconds = forecast.durations(ledger)
    busy: dict[str, int] = {}
    for (name,) in ledger.rows(
        f"SELECT table_name FROM {tables.Job.full_table_name} WHERE status='running'"
    ):
        busy[name] = busy.get(name, 0) + 1
    stages: dict[str, dict[str, Any]] = {}
    for task, expected, done in counted:
        name = task.name.split(".")[0]
        aside = sum(text.startswith(f"{task.name} ") for text in stuck)
        running = min(busy.get(task.name, 0), expected - done)
        row = {"table": task.name, "jobs": expected, "done": done, "running": running}
        row |= {"error": aside, "left": expected - done, "seconds": seconds.get(task.name)}
        stage = stages.setdefault(name, {"stage": name, "tables": []})
        stage["tables"].append(row)
        for column in ("jobs", "done", "running", "error", "left"):
            stage[column] = stage.get(column, 0) + row[column]
    return {"stages": list(stages.values()), "stuck": stuck}


def answers(loop: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the recordings in which a loop's plans were shown, and how far they are computed."""
    shown = closed_loop.Presentation & (
        closed_loop.PlanTask & {name: loop[name] for name in LOOP_KEY}
    )
    found = []
    for row in shown.to_dicts(order_by=("animal_id", "session", "scan_idx")):
        scan = {name: row[name] for name in LOOP_KEY[:3]}
        steps = [
            ("cells", imaging.Activity & scan),
            ("audit", closed_loop.Audit & scan),
            ("matching", closed_loop.UnitMatch & scan),
            ("verdict", closed_loop.Population & scan),
        ]
        found.append(
            {
                **scan,
                "scan": experiment.scan_name(scan),
                "plan_id": row["plan_id"],
                "steps": [(name, bool(len(query))) for name, query in steps],
            }
        )
    return found


def errors(ledger: Ledger, plan: TaskOrder, page: int = 0) -> dict[str, Any]:
    """Return one page of the jobs set aside, the newest first.

    Returns
    -------
    dict
        `count`, of all pages; `page`; `pages`; `rows`, see `workers.queue.jobs.errors`.
    """
    ((count,),) = ledger.rows(
        f"SELECT COUNT(*) FROM {tables.Job.full_table_name} WHERE status='error'"
    )
    pages = max(1, -(-int(count) // MOST_ERRORS))
    page = min(max(page, 0), pages - 1)
    rows = jobs.errors(ledger, plan, most=MOST_ERRORS, skip=page * MOST_ERRORS)
    return {"count": int(count), "page": page, "pages": pages, "rows": rows}


def time_left(deadline: datetime.datetime | None) -> float | None:
    """Return the time until a deadline (s), negative after it."""
    if deadline is None:
        return None
    return (deadline - datetime.datetime.now(datetime.UTC)).total_seconds()
