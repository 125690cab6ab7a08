"""How much of a loop is left: its task rows say what is to be computed before the package."""

from __future__ import annotations

import json
from typing import Any

from workers.database.datajoint_internals import ForeignKeys, free_table, master_of
from workers.insight import ancestry
from workers.queue import tables
from workers.queue.lease import Ledger
from workers.queue.order import Task, TaskOrder
from workers.queue.refresh import LEFT_BEHIND
from workers.queue.stopped import STOPPED


def remaining(
    ledger: Ledger, plan: TaskOrder, plan_key: dict[str, Any]
) -> tuple[list[tuple[Task, int]], list[str]]:
    """Count the jobs that a plan still needs, table by table, and name those set aside."""
    counted, stuck = progress(ledger, plan, plan_key)
    return [(task, jobs - done) for task, jobs, done in counted], stuck


def progress(
    ledger: Ledger, plan: TaskOrder, plan_key: dict[str, Any]
) -> tuple[list[tuple[Task, int, int]], list[str]]:
    """Count the jobs of a plan and those that are done, table by table; name those set aside.

    Tables with a task row need one job for each; tables that follow from others alone (the
    fields of a scan) as many as these, times the parts where the foreign key leads to a part.
    """
    from schemas import closed_loop

    # the ledger's connection may know none
    foreign_keys = ForeignKeys(next(iter(plan)).table.connection)
    walk = ancestry.Walk(
        ledger, closed_loop.PlanTask.full_table_name, plan_key, foreign_keys=foreign_keys
    )
    counter = _Counter(ledger, plan, walk, foreign_keys)
    tasked = {task.name for task in plan if counter.decided(task)}
    above = plan.upstream()
    needed = tasked.union(*(above[name] for name in tasked))
    counted, stuck = [], []
    for task in plan:
        if task.name not in needed:
            continue
        jobs, keys = counter.expected(task)
        done = ledger.persist(lambda task=task, keys=keys: len(task.table & keys)) if keys else 0
        counted.append((task, max(jobs, done), done))
        stuck += counter.set_aside(task, keys)
    return counted, stuck


class _Counter:
    """Knows how many jobs of a table follow from the rows of a walk."""

    def __init__(
        self, ledger: Ledger, plan: TaskOrder, walk: ancestry.Walk, foreign_keys: ForeignKeys
    ) -> None:
        self._ledger, self._walk = ledger, walk
        self._tasks = {task.table.full_table_name: task for task in plan}
        self._foreign_keys = foreign_keys
        aside = ledger.rows(
            f"SELECT table_name, job_key FROM {tables.Job.full_table_name} "
            "WHERE status IN ('error', 'ignore') "
            "AND (error_class IS NULL OR error_class NOT IN (%s, %s))",
            (LEFT_BEHIND, STOPPED),
        )
        self._aside: dict[str, list[str]] = {}
        for name, text in aside:
            self._aside.setdefault(name, []).append(text)
        self._known: dict[str, tuple[int, list[dict]]] = {}

    def decided(self, task: Task) -> bool:
        """Tell whether a row filled by hand in the walk asks for this table."""
        return any(self._by_hand(parent) for parent, _ in self._parents(task))

    def _parents(self, task: Task) -> list[tuple[str, dict]]:
        return self._foreign_keys.parents(task.table.full_table_name)

    def _by_hand(self, node: str) -> bool:
        asks = ancestry.is_task(node) or ancestry.is_part_of_task(node)
        return node in self._walk.found and asks

    def expected(self, task: Task) -> tuple[int, list[dict]]:
        """Return the number of jobs, and the restriction that selects their rows."""
        if task.name not in self._known:
            self._known[task.name] = self._count(task)
        return self._known[task.name]

    def _count(self, task: Task) -> tuple[int, list[dict]]:
        best: tuple[int, list[dict]] = (0, [])  # of as many jobs, what says more of their rows
        own = set(task.table.primary_key)
        for parent, columns in self._parents(task):
            master = master_of(parent)
            if parent in self._walk.found and parent not in self._tasks:
                rows = self._walk.found[parent].values()
                keys = [
                    {ours: row["key"][theirs] for ours, theirs in columns.items()} for row in rows
                ]
                if self._by_hand(parent) and own <= set(columns):
                    return len(keys), keys  # the rows of the task are the jobs, one each
                if not ancestry.is_decision(parent) and master is None:
                    continue  # a method among others
                found = (len(keys), keys)
            elif (master or parent) in self._tasks:
                jobs, keys = self.expected(self._tasks[master or parent])
                found = (jobs * self._parts(master, parent, keys) if master else jobs, keys)
            else:
                continue
            best = max(best, found, key=lambda pair: (pair[0], len(pair[1][0]) if pair[1] else 0))
        return best

    def _parts(self, master: str, part: str, keys: list[dict]) -> int:
        """Return how many parts a row of the master has, or usually has."""
        parts = free_table(self._ledger.connection, part)
        masters = free_table(self._ledger.connection, master)
        for restriction in (keys, {}):
            rows = len(masters & restriction)
            if rows:
                return max(1, round(len(parts & restriction) / rows))
        return 1

    def set_aside(self, task: Task, keys: list[dict]) -> list[str]:
        """Name the jobs of a table that belong to the walk and were set aside."""
        return [
            f"{task.name} {text}"
            for text in self._aside.get(task.name, [])
            if any(key.items() <= json.loads(text).items() for key in keys)
        ]
