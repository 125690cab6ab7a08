"""How a worker is told to behave, and what it says it did."""

from __future__ import annotations

import datetime
import os
from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Options:
    """How a worker behaves.

    Parameters
    ----------
    source, prefix : str
        Pipeline module and prefix of its database schemas.
    home : path, optional
        See `workers.database.embedded`.
    processes : int
        Jobs at a time.
    queues : tuple of str, optional
        Queues to serve, all if None.
    run_duration : float
        End after this time (s), without claiming more; negative: never.
    sleep_duration : float
        Pause between two looks at an empty queue (s).
    max_idled_cycle : int
        End after so many looks in a row at an empty queue; negative: never.
    exit_when_idle : bool
        End when nothing is due, waiting or running anywhere in the queues served. A plan that
        becomes due at its deadline is not waited for.
    lease_s : float
        How long others wait before they take over this worker's jobs if it vanishes (s).
    grace_s : float
        How long jobs may go on after SIGTERM before they are handed back (s).
    job_timeout_s : float
        Longest time of one job (s), unless its table says otherwise.
    memory_gb : float, optional
        Most memory of one job (GB); by default nine tenths of the machine's share per slot.
    """

    source: str = "schemas"
    prefix: str = "inception"
    home: str | os.PathLike | None = None
    processes: int = 1
    queues: tuple[str, ...] | None = None
    run_duration: float = -1.0
    sleep_duration: float = 2.0
    max_idled_cycle: int = -1
    exit_when_idle: bool = False
    lease_s: float = 30.0
    grace_s: float = 25.0
    job_timeout_s: float = 6 * 3600.0
    memory_gb: float | None = None


@dataclass
class Summary:
    """What a worker did: outcomes by name, and jobs it put into quarantine.

    `plans_due`: if it ended since nothing was left, the deadlines to come (UTC) of plans. `fault`:
    if it ended since its machine could do nothing that is left, what the machine lacks.
    """

    outcomes: Counter = field(default_factory=Counter)
    quarantined: int = 0
    plans_due: list[datetime.datetime] = field(default_factory=list)
    fault: str | None = None

    @property
    def done(self) -> int:
        """Number of rows computed."""
        return self.outcomes["done"]
