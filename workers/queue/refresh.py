"""Keep the job table in step with the tables: add what is due, drop what is not."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from workers.database import datajoint_internals, server
from workers.queue import tables
from workers.queue.claims import canonical, job_id
from workers.queue.lease import Ledger
from workers.queue.order import Task, TaskOrder

log = logging.getLogger("inception.refresh")

ORDINARY = 5  # priority; lower runs first
LEFT_BEHIND = "late"  # error_class of jobs set aside since nobody waits for them any more
_CHUNK = 1000  # rows in one INSERT
_WHY = "its plan was made without it at its deadline, or its loop is stopped"


class Priority(Protocol):
    """Gives the keys of a table their priorities; lower runs first."""

    moves_jobs: bool  # whether jobs that wait get their present priority too, or new ones only

    def __call__(self, task: Task, keys: list[dict[str, Any]], /) -> Sequence[int | None]:
        """Return the priority of every key; None for one that nobody waits for."""
        ...


@dataclass(frozen=True)
class Ranking(Priority):
    """Priorities by a function.

    Parameters
    ----------
    rank : callable
        Called with a table and its keys; returns the priority of every key.
    moves_jobs : bool
        See `Priority`.
    """

    rank: Callable[[Task, list[dict[str, Any]]], Sequence[int | None]]
    moves_jobs: bool = True

    def __call__(self, task: Task, keys: list[dict[str, Any]], /) -> Sequence[int | None]:
        """Return what the function returns."""
        return self.rank(task, keys)


def bulk(_task: Task, keys: list[dict[str, Any]]) -> Sequence[int | None]:
    """Give every key the same, ordinary priority."""
    return [ORDINARY] * len(keys)


ALIKE = Ranking(bulk)


def refresh_table(ledger: Ledger, task: Task, priority: Priority = ALIKE) -> tuple[int, int] | None:
    """Add jobs for keys that are due and drop those that no longer are, unless another does it.

    If two refreshed one table at once, a key that both read as due could be inserted by one, be
    computed, and be inserted again by the other. So the duty is leased, as jobs are. Should the
    lease run out under a stalled worker, such a job costs an attempt `present`, no computation.
    The jobs are read before the keys: a key that becomes a row in between is in neither.

    Parameters
    ----------
    ledger : Ledger
        Job table.
    task : Task
        Table to look at.
    priority : Priority
        Priorities of keys. The job of a key that nobody waits for is set aside, and comes back
        when somebody does. One that a person has put back (`retry`) stays.

    Returns
    -------
    added, dropped : int
        Number of jobs; None if another worker is refreshing this table.
    """
    duty = f"refresh {job_id('', task.name)[:8]}"
    hold = ledger.hold(duty)
    if hold is None:
        return None
    ledger.held = hold
    try:
        return _refresh(ledger, task, priority)
    finally:
        ledger.held = None
        ledger.free(hold)


def _refresh(ledger: Ledger, task: Task, priority: Priority) -> tuple[int, int]:
    known = {
        job: (status, int(rank), kind)
        for job, status, rank, kind in ledger.rows(
            "SELECT job_id, status, priority, error_class "
            f"FROM {tables.Job.full_table_name} WHERE table_name=%s",
            (task.name,),
        )
    }
    keys = ledger.persist(lambda: datajoint_internals.due(task.table()).keys())
    texts = {job_id(task.name, text): (key, text) for key in keys for text in [canonical(key)]}
    ranks = dict(zip(texts, priority(task, [key for key, _ in texts.values()]), strict=True))
    fresh = {job: (text, ranks[job]) for job, (_, text) in texts.items() if job not in known}
    gone = [job for job, found in known.items() if job not in texts and found[0] != "running"]
    added = _insert(ledger, task, fresh)
    if priority.moves_jobs:
        for job in sorted(known.keys() & ranks.keys()):
            _rank(ledger, job, ranks[job], *known[job])
    return added, _drop(ledger, gone)


def _rank(
    ledger: Ledger, job: str, rank: int | None, status: str, before: int, kind: str | None
) -> None:
    """Bring a job that waits, or was left behind, to its present priority."""
    if status == "pending" and rank is None and kind != LEFT_BEHIND:
        change, args = "status='ignore', error_class=%s, error_message=%s", (LEFT_BEHIND, _WHY)
    elif status == "ignore" and rank is not None and kind == LEFT_BEHIND:
        change = "status='pending', priority=%s, error_class=NULL, error_message=NULL"
        args = (rank,)
    elif status == "pending" and rank not in (None, before):
        change, args = "priority=%s", (rank,)
    else:
        return
    ledger.execute(
        f"UPDATE {tables.Job.full_table_name} SET {change} WHERE job_id=%s AND status=%s",
        (*args, job, status),
    )


def _insert(ledger: Ledger, task: Task, fresh: dict[str, tuple[str, int | None]]) -> int:
    columns = (
        "job_id, table_name, job_key, status, queue, priority, stage_order, error_class, "
        "error_message, created_at, not_before, attempts, crashes, retries, token"
    )
    row = f"(%s,%s,%s,%s,%s,%s,%s,%s,%s,{ledger.now()},{ledger.now()},0,0,0,0)"
    values = []
    for job, (text, rank) in sorted(fresh.items()):  # one order of locks for all workers
        state = ("ignore", LEFT_BEHIND, _WHY) if rank is None else ("pending", None, None)
        priority = ORDINARY if rank is None else int(rank)
        place = (task.queue, priority, -task.rank)
        values.append((job, task.name, text, state[0], *place, *state[1:]))
    added = 0
    for start in range(0, len(values), _CHUNK):
        chunk = values[start : start + _CHUNK]
        rows = ",".join([row] * len(chunk))  # some may be there: another worker was quicker
        sql = server.insert_new_sql(ledger.connection, tables.Job.full_table_name, columns, rows)
        added += ledger.execute(sql, [field for value in chunk for field in value])
    return added


def _drop(ledger: Ledger, gone: list[str]) -> int:
    dropped = 0
    for start in range(0, len(gone), _CHUNK):
        chunk = sorted(gone[start : start + _CHUNK])
        marks = ",".join(["%s"] * len(chunk))
        dropped += ledger.execute(
            f"DELETE FROM {tables.Job.full_table_name} "
            f"WHERE status <> 'running' AND job_id IN ({marks})",
            chunk,
        )
    return dropped


class DueCounter:
    """Finds the tables whose number of due keys differs from their number of jobs.

    Two queries for all tables together, whatever their number: cheap enough for an idle worker.
    An equal number may hide one key gone and one new; `refresh_table` alone is exact.

    Parameters
    ----------
    ledger : Ledger
        Job table.
    plan : TaskOrder
        Tables to look at.
    """

    def __init__(self, ledger: Ledger, plan: TaskOrder) -> None:
        self._ledger, self._tasks = ledger, list(plan)
        self._sql: str | None = None  # to write it asks for every heading: once is enough

    def changed(self) -> list[Task]:
        """Return the tables that have keys without a job, or jobs without a key."""
        if not self._tasks:
            return []
        jobs = self._ledger.rows(
            f"SELECT table_name, COUNT(*) FROM {tables.Job.full_table_name} GROUP BY table_name"
        )
        counted = {name: int(n) for name, n in jobs}
        waiting = self._ledger.persist(self._count)
        return [task for task in self._tasks if waiting[task.name] != counted.get(task.name, 0)]

    def _count(self) -> dict[str, int]:
        if self._sql is None:
            self._sql = " UNION ALL ".join(
                f"SELECT '{task.name}' AS table_name, COUNT(*) AS n "
                f"FROM ({datajoint_internals.due(task.table()).make_sql()}) AS due_{task.rank}"
                for task in self._tasks
            )
        rows = self._ledger.connection.query(self._sql).fetchall()
        return {name: int(n) for name, n in rows}


def refresh(
    ledger: Ledger, tasks: Iterable[Task], priority: Priority = ALIKE
) -> tuple[int, list[str]]:
    """Refresh some tables.

    Returns
    -------
    added : int
        Number of new jobs.
    missed : list of str
        Names of the tables that another worker was refreshing, perhaps since before the latest
        change: look again.
    """
    total, missed = 0, []
    for task in tasks:
        found = refresh_table(ledger, task, priority)
        if found is None:
            missed.append(task.name)
            continue
        added, dropped = found
        total += added
        if added or dropped:
            log.debug("%s: %d jobs added, %d dropped", task.name, added, dropped)
    return total, missed
