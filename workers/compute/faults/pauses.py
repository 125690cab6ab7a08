"""When a worker whose machine fails takes jobs again, and when it had better end.

No database and no process. A job that this machine could not do is left to others for a while. If
it fails at one job of a table after another, it takes none of that table; if at several tables,
none at all; for longer and longer, until one succeeds.
"""

from __future__ import annotations

import time
from collections.abc import Callable

IN_A_ROW = 3  # different jobs, no success in between: then no more is taken
HOPELESS = 6  # failures in a row after which a worker that is to end when idle ends
FIRST_S, MOST_S = 1.0, 60.0


class Pauses:
    """What failed on this machine, and until when it is left alone.

    Parameters
    ----------
    clock : callable
        Monotonic time (s).
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._jobs: dict[str, tuple[float, int]] = {}  # until when, and how often it failed
        self._tables: dict[str, list[str]] = {}  # jobs of a table that failed in a row
        self._tables_until: dict[str, float] = {}
        self._row: list[tuple[str, str]] = []  # tables and jobs since one succeeded
        self._until = 0.0
        self.reason: str | None = None  # of the last failure, while none has succeeded since

    def failed(self, table: str, job_id: str, reason: str) -> None:
        """Note that this machine could not do a job."""
        now, times = self._clock(), self._jobs.get(job_id, (0.0, 0))[1]
        self._jobs[job_id] = (now + _pause(times), times + 1)
        self.reason = reason
        self._row.append((table, job_id))
        own = self._tables.setdefault(table, [])
        own.append(job_id)
        if len(set(own)) >= IN_A_ROW:
            self._tables_until[table] = now + _pause(len(own) - IN_A_ROW)
        if len(set(self._row)) >= IN_A_ROW and len({name for name, _ in self._row}) > 1:
            self._until = now + _pause(len(self._row) - IN_A_ROW)

    def succeeded(self, table: str) -> None:
        """Note that this machine did a job."""
        self._row, self._until, self.reason = [], 0.0, None
        self._tables.pop(table, None)
        self._tables_until.pop(table, None)

    def allows(self, table: str) -> bool:
        """Tell whether jobs of a table may be taken at present."""
        now = self._clock()
        return now >= self._until and now >= self._tables_until.get(table, 0.0)

    @property
    def hopeless(self) -> bool:
        """Whether so much failed in a row that waiting for an end is in vain."""
        return len(self._row) >= HOPELESS

    def avoided(self) -> list[str]:
        """Return the jobs that are left to other machines at present."""
        now = self._clock()
        if len(self._jobs) > 1000:
            self._jobs = {job: kept for job, kept in self._jobs.items() if kept[0] > now}
        return sorted(job for job, (until, _) in self._jobs.items() if until > now)


def _pause(times: int) -> float:
    return min(FIRST_S * 2.0 ** min(times, 10), MOST_S)
