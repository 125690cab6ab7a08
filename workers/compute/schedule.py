"""When a worker looks at what; `workers.compute.crew` and `lookout` do what is due then.

No database and no process: moments of the monotonic clock and what has happened since, so that
the rules can be read, and tested, without either.
"""

from __future__ import annotations

from collections.abc import Iterable

from workers.compute.options import Options

_FRESH_S = 1.0  # shortest time between two looks for what a finished job made possible (s)


class Schedule:
    """When to look at expired leases, at new keys, at the queue and at what others put in.

    Parameters
    ----------
    options : Options
        Pauses and ends.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self._end: float | None = None
        self._look = self._reap = self._refresh = 0.0  # moments of the next ones
        self._idled = 0  # looks in a row at an empty queue
        self._dirty: set[str] = set()  # tables that a finished job may have given new keys
        self._settled = False  # a job was done that others need not wait for any more
        self._ended = False  # a job was done since all tables were looked at
        self._starved = False  # the last claim found nothing; look again after sleep_duration

    def begin(self, now: float) -> None:
        """Count `run_duration` from now."""
        if self._options.run_duration >= 0:
            self._end = now + self._options.run_duration

    # ---- what has happened

    def job_ended(self) -> None:
        """Note the end of an attempt: there may be something to claim."""
        self._starved = False

    def row_made(self, follows: Iterable[str]) -> None:
        """Note a computed row, and the tables that may have new keys by it."""
        self._dirty.update(follows)
        self._ended = True

    def settled(self, tables: Iterable[str]) -> None:
        """Note that jobs of some tables may be in vain now: look before one is claimed."""
        self._dirty.update(tables)
        self._settled = True

    def missed(self, tables: Iterable[str]) -> None:
        """Note tables that another worker was refreshing: they are to be looked at again."""
        self._dirty.update(tables)

    def jobs_added(self) -> None:
        """Note that the queue has grown."""
        self._starved = False

    def claimed(self, *, all_busy: bool) -> None:
        """Note the result of a round of claims: whether every free slot got a job."""
        self._starved = not all_busy

    # ---- when

    def is_over(self, now: float) -> bool:
        """Tell whether `run_duration` has passed."""
        return self._end is not None and now > self._end

    def reap_is_due(self, now: float) -> bool:
        """Tell whether to look at expired leases: twice in every lease."""
        if now <= self._reap:
            return False
        self._reap = now + self._options.lease_s / 2
        return True

    def refresh_is_due(self, now: float) -> bool:
        """Tell whether to look for the keys that finished jobs made possible."""
        return bool(self._dirty) and (now > self._refresh or self._settled)

    def take_dirty(self) -> set[str]:
        """Return the tables to refresh, and count them as looked at."""
        self._settled = False
        dirty, self._dirty = self._dirty, set()
        return dirty

    def refreshed(self, began: float, ended: float) -> None:
        """Set the next refresh so that at most a sixth of the time goes into refreshing."""
        self._refresh = ended + max(_FRESH_S, 5 * (ended - began))

    def claim_is_due(self, now: float) -> bool:
        """Tell whether to claim jobs for free slots."""
        return now > self._look or not self._starved

    def take_ended(self) -> bool:
        """Tell whether a row was made since all tables were looked at; all are to be, if so."""
        ended, self._ended = self._ended, False
        if ended:
            self._dirty.clear()
        return ended

    def look_is_due(self, now: float) -> bool:
        """Tell whether to look at what was put in from outside: every `sleep_duration`."""
        if now <= self._look:
            return False
        self._look = now + self._options.sleep_duration
        return True

    def looked(self, *, busy: bool) -> None:
        """Count a look that found nothing to do."""
        self._idled = 0 if busy or not self._starved else self._idled + 1

    @property
    def idle(self) -> bool:
        """Whether the last look found nothing to do."""
        return self._idled > 0

    @property
    def idled_enough(self) -> bool:
        """Whether `max_idled_cycle` looks in a row found nothing to do."""
        return 0 <= self._options.max_idled_cycle < self._idled

    @property
    def has_dirty(self) -> bool:
        """Whether any table is still to be refreshed."""
        return bool(self._dirty)
