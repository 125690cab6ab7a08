"""Jobs of a loop with a deadline run before all others.

Those that it left behind do not run, nor do those that only stopped loops wait for.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from workers.queue.claims import canonical
from workers.queue.order import Task, TaskOrder
from workers.queue.refresh import ORDINARY, Priority
from workers.queue.stopped import Stopped, stopped

URGENT = 1
_LOOK_S = 10.0  # how long the list of urgent loops is believed (s)
_SCAN = ("animal_id", "session", "scan_idx")


class Urgency(Priority):
    """Gives jobs their priority: call it with a table and its keys.

    A job belongs to a loop by its scan, or by the hash of a data set, ensemble or plan made of it.
    None instead of a priority says that nobody waits for the job: its plan was made without it,
    or its loop is stopped.

    Parameters
    ----------
    plan : TaskOrder
        The pipeline; only that of `schemas` has loops.
    """

    def __init__(self, plan: TaskOrder) -> None:
        self._has_loops = plan.source == "schemas"
        self.moves_jobs = self._has_loops
        self._looked = float("-inf")
        self._urgent: dict[str, set] = {}
        self._left: dict[str, set[str]] = {}
        self._stopped = Stopped()

    def __call__(self, task: Task, keys: list[dict[str, Any]], /) -> Sequence[int | None]:
        """Return the priority of every key."""
        if not keys or not self._has_loops:
            return [ORDINARY] * len(keys)
        if time.monotonic() - self._looked > _LOOK_S:
            self._look()
        left = self._left.get(task.name, ())
        return [None if left and canonical(key) in left else self._rank(key) for key in keys]

    def _rank(self, key: dict[str, Any]) -> int | None:
        if self._stopped.holds(key):
            return None
        return URGENT if _belongs(key, self._urgent) else ORDINARY

    def forget(self) -> None:
        """Look again before the next answer: something has just been settled."""
        self._looked = float("-inf")

    def changed(self) -> bool:
        """Look now; tell whether any job may have another priority than when it was last asked."""
        if not self._has_loops:
            return False
        before = (self._urgent, self._left, self._stopped)
        self._look()
        return before != (self._urgent, self._left, self._stopped)

    def _look(self) -> None:
        from schemas.closed_loop import left_behind

        self._urgent, self._stopped = _urgent(), stopped()
        self._left = {
            name: {canonical(key) for key in keys} for name, keys in left_behind().items()
        }
        self._looked = time.monotonic()


def _belongs(key: dict[str, Any], urgent: dict[str, set]) -> bool:
    if tuple(key.get(name) for name in _SCAN) in urgent.get("scan", ()):
        return True
    return any(key.get(name) in values for name, values in urgent.items() if name != "scan")


def _urgent() -> dict[str, set]:
    """Return what belongs to loops whose deadline has not passed for a day."""
    from schemas import closed_loop, dataset, model
    from schemas.clock import now_sql

    since = now_sql(closed_loop.Loop().connection, -24 * 3600.0)
    loops = closed_loop.Loop & f"deadline_utc > {since}"
    scans = [{name: row[name] for name in _SCAN} for row in loops.to_dicts()]
    if not scans:
        return {}
    sets = (dataset.DatasetSpec.Scan & scans).to_dicts()
    hashes = {row["dataset_hash"] for row in sets}
    members = (model.EnsembleSpec.Member & [{"dataset_hash": name} for name in hashes]).to_dicts()
    plans = (closed_loop.PlanTask & scans).to_dicts()
    return {
        "scan": {tuple(scan.values()) for scan in scans},
        "dataset_hash": hashes,
        "ensemble_hash": {row["ensemble_hash"] for row in members},
        "plan_id": {row["plan_id"] for row in plans},
    }
