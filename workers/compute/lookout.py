"""What a worker does in the queue when its schedule says so: refresh tables, free expired jobs."""

from __future__ import annotations

from collections.abc import Iterable

from workers.compute.schedule import Schedule
from workers.queue import refresh, tables
from workers.queue.duties import REFRESH
from workers.queue.lease import Ledger
from workers.queue.order import Task, TaskOrder
from workers.queue.urgency import Urgency

_PLAN_S = 30.0  # longest time between two looks for what the clock has made due (s)
_EXACT = 60  # of so many looks at what was put in from outside, one compares keys, not counts


class Lookout:
    """Keeps the queue in step with the tables.

    Parameters
    ----------
    ledger : Ledger
        Of the worker's main thread.
    plan : TaskOrder
        All computed tables.
    tasks : dict
        Of them, those of the queues served, by name.
    schedule : Schedule
        Hears what was found.
    sleep_duration : float
        Pause between two looks at an empty queue (s).
    """

    def __init__(
        self,
        ledger: Ledger,
        plan: TaskOrder,
        tasks: dict[str, Task],
        schedule: Schedule,
        sleep_duration: float,
    ) -> None:
        self._ledger, self._plan, self._tasks = ledger, plan, tasks
        self._schedule = schedule
        self._every = min(max(5.0, 2 * sleep_duration), _PLAN_S)
        self._priority = Urgency(plan)
        self._counter = refresh.DueCounter(ledger, plan)
        self._looks = self._seen_reconnects = 0

    def row_made(self, table: str) -> None:
        """Tell the schedule what a new row of a table makes possible, and what it settles."""
        task = self._plan.tasks[table]
        self._schedule.row_made(name for name in task.follows if name in self._tasks)
        if task.settles:
            self._schedule.settled(name for name in task.settles if name in self._tasks)
            self._priority.forget()

    def refresh_dirty(self) -> None:
        """Look for the keys that finished jobs made possible."""
        due = self._schedule.take_dirty()
        self._refresh([task for task in self._tasks.values() if task.name in due])

    def refresh_changed(self) -> None:
        """See what has become due anywhere: a key source may hang on more than foreign keys."""
        self._refresh(self._counter.changed())

    def refresh_elected(self) -> None:
        """Once in a while, for all workers, see what was put in from outside."""
        if not self._ledger.elected(REFRESH, self._every):
            return
        moved = self._ledger.persist(self._priority.changed)
        exact = moved or self._looks % _EXACT == 0
        self._looks += 1
        self._refresh(list(self._plan) if exact else self._counter.changed())

    def _refresh(self, tasks: Iterable[Task]) -> bool:
        """Refresh tables, those that another worker is at later; tell whether jobs were added."""
        added, missed = refresh.refresh(self._ledger, tasks, self._priority)
        self._schedule.missed(name for name in missed if name in self._tasks)
        if added:
            self._schedule.jobs_added()
        return added > 0

    def reap(self) -> None:
        """Free others' expired jobs, but not right after an outage: nobody could renew then."""
        if self._ledger.reconnects != self._seen_reconnects:
            self._seen_reconnects = self._ledger.reconnects
        elif self._ledger.reap():
            self._schedule.jobs_added()

    def is_drained(self) -> bool:
        """Tell whether nothing is due, waiting or running in the queues served."""
        if self._refresh(self._tasks.values()) or self._schedule.has_dirty:
            return False
        marks = ",".join(["%s"] * len(self._tasks))
        open_jobs = self._ledger.rows(
            f"SELECT COUNT(*) FROM {tables.Job.full_table_name} "
            f"WHERE status IN ('pending','running') AND table_name IN ({marks})",
            list(self._tasks),
        )
        return int(open_jobs[0][0]) == 0
