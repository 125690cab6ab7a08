"""How the pipeline is doing: what is done, due, running and wrong, and when it will be ready."""

from __future__ import annotations

from typing import Any

from schemas.catalog import read_at_once
from workers.database import datajoint_internals, schema_version
from workers.database.server import exclusive
from workers.insight import forecast, next_step
from workers.queue import refresh, tables
from workers.queue.lease import MACHINE, Ledger
from workers.queue.order import Task, TaskOrder, tables_of
from workers.queue.stopped import STOPPED

_COLUMNS = ("pending", "running", "error", "ignore")
_ALIVE_S = 120.0  # a worker not seen for so long is gone (s)


def status(ledger: Ledger, plan: TaskOrder) -> dict[str, Any]:
    """Count every table's rows and jobs, and look ahead.

    Parameters
    ----------
    ledger : Ledger
        Job tables.
    plan : TaskOrder
        Tables to count.

    Returns
    -------
    dict
        `tables`: one dict each with `table, done, due, pending, running, error, ignore,
        seconds` (median duration of a job); `stages`: the same summed, by `stage`; `running`:
        jobs under way, see `forecast.running`; `workers`: those seen in the last two minutes;
        `jobs_error`: those set aside; `jobs_handed_back`: those that a machine could not do, and
        `machine_fault`, why; `jobs_late`: those that nobody waits for any more, since
        their plan was made without them at its deadline, or their loop is stopped;
        `ahead`: see `forecast.forecast`; `next`: of loops whose plan is made, see
        `next_step.next_steps`.
    """
    counts: dict[str, dict[str, int]] = {}
    for name, state, n in ledger.rows(
        f"SELECT table_name, status, COUNT(*) FROM {tables.Job.full_table_name} "
        "GROUP BY table_name, status"
    ):
        counts.setdefault(name, {})[state] = int(n)
    seconds = forecast.durations(ledger)
    with read_at_once(ledger.connection, sorted({t.database for _, t in tables_of(plan.source)})):
        listed = [_row(ledger, task, counts.get(task.name, {}), seconds) for task in plan]
    alive = workers(ledger)
    waiting = ledger.rows(
        f"SELECT COUNT(*), MIN(error_message) FROM {tables.Job.full_table_name} "
        "WHERE status='pending' AND error_class=%s",
        (MACHINE,),
    )
    late = ledger.rows(
        f"SELECT COUNT(*) FROM {tables.Job.full_table_name} "
        "WHERE status='ignore' AND error_class IN (%s, %s)",
        (refresh.LEFT_BEHIND, STOPPED),
    )
    return {
        "tables": listed,
        "stages": _stages(listed),
        "running": forecast.running(ledger, seconds),
        "workers": alive,
        "jobs_error": sum(row["error"] for row in listed),
        "jobs_late": int(late[0][0]),
        "jobs_handed_back": int(waiting[0][0]),
        "machine_fault": waiting[0][1],
        "ahead": forecast.forecast(ledger, plan, alive),
        "next": next_step.next_steps(ledger, plan),
    }


def _row(
    ledger: Ledger, task: Task, jobs: dict[str, int], seconds: dict[str, float]
) -> dict[str, Any]:
    """Count the rows and the jobs of one table."""
    return {
        "table": task.name,
        "done": ledger.persist(lambda: len(task.table())),
        "due": ledger.persist(lambda: len(datajoint_internals.due(task.table()))),
        **{state: jobs.get(state, 0) for state in _COLUMNS},
        "seconds": seconds.get(task.name),
    }


def _stages(listed: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Sum the rows of each stage's tables, in the order in which data flow."""
    stages: dict[str, dict[str, Any]] = {}
    for row in listed:
        name = row["table"].split(".")[0]
        stage = stages.setdefault(name, {"stage": name})
        for column in ("done", "due", *_COLUMNS):
            stage[column] = stage.get(column, 0) + row[column]
    return list(stages.values())


def tally(prefix: str = "inception") -> tuple[dict[str, tuple[int, float]], int, list[str]]:
    """Count jobs over this process's DataJoint connection, cheaply enough to do it twice a second.

    Parameters
    ----------
    prefix : str
        Prefix of the database schemas.

    Returns
    -------
    done : dict
        Table name to number of jobs done and time spent in them (s).
    waiting : int
        Jobs pending.
    running : list of str
        Table name of every job under way.
    """
    import datajoint as dj

    ledger = Ledger(dj.conn()) if tables.schema.database else _first_ledger(dj.conn(), prefix)
    done = ledger.rows(
        "SELECT table_name, COUNT(*), SUM(duration_s) FROM "
        f"{tables.Attempt.full_table_name} WHERE outcome='done' GROUP BY table_name"
    )
    jobs = ledger.rows(
        f"SELECT table_name, status FROM {tables.Job.full_table_name} "
        "WHERE status IN ('pending', 'running')"
    )
    return (
        {name: (int(count), float(seconds)) for name, count, seconds in done},
        sum(state == "pending" for _, state in jobs),
        [name for name, state in jobs if state == "running"],
    )


def _first_ledger(connection: Any, prefix: str) -> Ledger:
    with exclusive(connection, f"{prefix}_declare"):  # a worker may be declaring them just now
        schema_version.check(connection, prefix)
        tables.activate(prefix)
        tables.declare()
    return Ledger(connection)


def workers(ledger: Ledger) -> list[dict[str, Any]]:
    """List the workers alive: worker, host, pid, slots, queues, version, state, `seen_s` ago."""
    rows = ledger.rows(
        f"SELECT worker, host, pid, slots, queues, version, state, seen_at, {ledger.now()} FROM "
        f"{tables.Worker.full_table_name} WHERE state <> 'stopped' AND "
        f"seen_at > {ledger.now(-_ALIVE_S)} ORDER BY started_at"
    )
    names = ("worker", "host", "pid", "slots", "queues", "version", "state")
    return [
        {**dict(zip(names, row[:-2], strict=True)), "seen_s": (row[-1] - row[-2]).total_seconds()}
        for row in rows
    ]
