"""When will it be done: measured durations, the work that is left, and who is there to do it.

The work of a loop follows from its task rows: the plan names its displays, a display its control
and so on up to the scan. What is left is dealt out to the workers' slots in the order of the
tables, none before everything upstream of it has ended, as long as the table took so far.
"""

from __future__ import annotations

import datetime
import heapq
import itertools
import json
from dataclasses import dataclass
from statistics import median
from typing import Any

from schemas.clock import to_local
from workers.insight.remaining import remaining
from workers.queue import tables
from workers.queue.lease import Ledger
from workers.queue.order import Task, TaskOrder

_RECENT = 50  # latest jobs of a table whose durations count
_LUMPS = 1000  # jobs of one table are dealt out in at most so many pieces


@dataclass(frozen=True)
class Work:
    """Jobs of one table that are left: `jobs` in all, each of `seconds` (None: not measured)."""

    task: Task
    jobs: int
    seconds: float | None


@dataclass(frozen=True)
class Places:
    """Who computes: for every slot the queues it serves, and when it is free (s from now)."""

    queues: tuple[frozenset[str] | None, ...]
    free_s: tuple[float, ...]


def durations(ledger: Ledger) -> dict[str, float]:
    """Return the median time of a job (s) for every table, of its latest fifty."""
    rows = ledger.rows(
        "SELECT table_name, duration_s FROM (SELECT table_name, duration_s, ROW_NUMBER() OVER "
        "(PARTITION BY table_name ORDER BY token DESC) AS place "
        f"FROM {tables.Attempt.full_table_name} WHERE outcome='done') AS done "
        f"WHERE place <= {_RECENT}"
    )
    found: dict[str, list[float]] = {}
    for name, seconds in rows:
        found.setdefault(name, []).append(float(seconds))
    return {name: median(values) for name, values in found.items()}


def makespan(plan: TaskOrder, works: list[Work], places: Places) -> tuple[float, Places]:
    """Deal work out to slots and say when the last of it ends.

    Parameters
    ----------
    plan : TaskOrder
        Gives the order: a table waits for all tables upstream of it.
    works : list of Work
        What is left; without a measured duration it takes no time.
    places : Places
        The slots.

    Returns
    -------
    seconds : float
        From now until the last job ends; infinite if no slot serves a queue that has work.
    places : Places
        The slots afterwards.
    """
    above = plan.upstream()
    free = list(places.free_s)
    ends: dict[str, float] = {}
    for work in sorted(works, key=lambda work: work.task.rank):
        ready = max((ends.get(name, 0.0) for name in above[work.task.name]), default=0.0)
        served = [
            slot
            for slot, queues in enumerate(places.queues)
            if queues is None or work.task.queue in queues
        ]
        if work.jobs and not served:
            return float("inf"), places
        end = ready
        lump = -(-work.jobs // _LUMPS) if work.jobs else 1
        heap = [(free[slot], slot) for slot in served]
        heapq.heapify(heap)
        for first in range(0, work.jobs, lump):
            size = min(lump, work.jobs - first)
            start, slot = heapq.heappop(heap)
            free[slot] = max(start, ready) + size * (work.seconds or 0.0)
            end = max(end, free[slot])
            heapq.heappush(heap, (free[slot], slot))
        ends[work.task.name] = end
    return max(ends.values(), default=0.0), Places(places.queues, tuple(free))


def running(ledger: Ledger, seconds: dict[str, float]) -> list[dict[str, Any]]:
    """List the jobs under way: table, key, worker, attempt, `elapsed_s`, `left_s` (or None)."""
    rows = ledger.rows(
        f"SELECT table_name, job_key, worker, claimed_at, attempts, {ledger.now()} "
        f"FROM {tables.Job.full_table_name} WHERE status='running' ORDER BY claimed_at"
    )
    found = []
    for name, key, worker, claimed, attempts, now in rows:
        elapsed = (now - claimed).total_seconds()
        left = max(seconds[name] - elapsed, 0.0) if name in seconds else None
        found.append(
            {
                "table": name,
                "key": json.loads(key),
                "worker": worker,
                "attempt": int(attempts),
                "elapsed_s": elapsed,
                "left_s": left,
            }
        )
    return found


def slots(workers: list[dict[str, Any]], busy: list[dict[str, Any]]) -> Places:
    """Return the slots of the workers alive; one that does everything if there is none."""
    queues: list[frozenset[str] | None] = []
    free: list[float] = []
    for worker in workers:
        left = [job["left_s"] or 0.0 for job in busy if job["worker"] == worker["worker"]]
        served = frozenset(worker["queues"].split(",")) if worker["queues"] else None
        padded = itertools.chain(left, itertools.repeat(0.0))
        free += itertools.islice(padded, worker["slots"])
        queues += [served] * worker["slots"]
    if not queues:
        return Places((None,), (0.0,))
    return Places(tuple(queues), tuple(free))


def forecast(ledger: Ledger, plan: TaskOrder, workers: list[dict[str, Any]]) -> dict[str, Any]:
    """Forecast every loop that has no package yet, and the queue as it stands.

    Parameters
    ----------
    ledger : Ledger
        Job tables.
    plan : TaskOrder
        The pipeline.
    workers : list of dict
        Those alive, see `workers.insight.status`.

    Returns
    -------
    dict
        `slots`, how many jobs run at a time (0: nobody works, one slot is assumed);
        `queue_s`, seconds until the jobs that are due now are done (None: no worker serves them);
        `loops`, one dict each, see `_loop`, the most urgent first.
    """
    seconds = durations(ledger)
    busy = running(ledger, seconds)
    places = slots(workers, busy)
    pending = ledger.rows(
        f"SELECT table_name, COUNT(*) FROM {tables.Job.full_table_name} "
        "WHERE status='pending' GROUP BY table_name"
    )
    due = [
        Work(plan.tasks[name], int(n), seconds.get(name))
        for name, n in pending
        if name in plan.tasks
    ]
    queue_s, _ = makespan(plan, due, places)
    found = []
    if plan.source == "schemas":
        for loop in _open_loops(ledger):
            entry, places = _loop(ledger, plan, loop, seconds, places)
            found.append(entry)
    return {
        "slots": sum(worker["slots"] for worker in workers),
        "queue_s": queue_s if queue_s < float("inf") else None,
        "loops": found,
    }


def _open_loops(ledger: Ledger) -> list[dict[str, Any]]:
    """Return the plan tasks without a plan, most urgent first."""
    from schemas import closed_loop

    waiting = (closed_loop.PlanTask - closed_loop.Plan.proj()) * closed_loop.Loop
    rows = ledger.persist(lambda: waiting.to_dicts(order_by=("registered", "plan_id")))
    names = closed_loop.Loop.primary_key
    stopped = {
        tuple(row[name] for name in names): row["who"]
        for row in ledger.persist(closed_loop.StoppedLoop().to_dicts)
    }
    for row in rows:
        row["stopped"] = stopped.get(tuple(row[name] for name in names))
    return sorted(rows, key=lambda row: row["deadline_utc"] or datetime.datetime.max)


def coming(ledger: Ledger, plan: TaskOrder) -> list[datetime.datetime]:
    """Return when plans will be made of what is ready: deadlines to come (UTC), first one first."""
    if plan.source != "schemas":
        return []
    now = ledger.rows(f"SELECT {ledger.now()}")[0][0]
    loops = [loop for loop in _open_loops(ledger) if loop["stopped"] is None]
    due = {loop["deadline_utc"] for loop in loops} - {None}
    return sorted(moment for moment in due if moment > now)


def _loop(
    ledger: Ledger, plan: TaskOrder, loop: dict[str, Any], seconds: dict[str, float], places: Places
) -> tuple[dict[str, Any], Places]:
    """Forecast one plan: `scan, plan_id, jobs, ready_at, deadline, in_time, unmeasured, stuck`.

    `ready_at`, when all that was asked for is displayed, and `deadline`, when the plan is made of
    what is displayed by then, are local times with their offset from UTC; `unmeasured` names tables
    that never ran, whose time is missing; `stuck` lists jobs set aside, without which the plan is
    not whole; `stopped` is who stopped it, or None.
    """
    left, stuck = remaining(ledger, plan, {"plan_id": loop["plan_id"]})
    works = [Work(task, jobs, seconds.get(task.name)) for task, jobs in left]
    span, after = makespan(plan, works, places)
    possible = span < float("inf") and not stuck
    now = datetime.datetime.now(datetime.UTC)
    ready = (now + datetime.timedelta(seconds=span)).astimezone() if possible else None
    deadline = loop["deadline_utc"] and to_local(loop["deadline_utc"])
    entry = {
        "scan": f"{loop['animal_id']}/{loop['session']}/{loop['scan_idx']}",
        "plan_id": loop["plan_id"],
        "jobs": sum(work.jobs for work in works),
        "seconds": span if possible else None,
        "ready_at": ready and ready.isoformat(timespec="minutes"),
        "deadline": deadline and deadline.isoformat(timespec="minutes"),
        "in_time": ready <= deadline if ready and deadline else None,
        "unmeasured": [work.task.name for work in works if work.jobs and work.seconds is None],
        "stuck": stuck,
        "stopped": loop["stopped"],
    }
    return entry, after if possible and loop["stopped"] is None else places
