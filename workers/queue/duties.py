"""Duties that workers share: one worker has each at a time, or does it once in a while."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass

import datajoint as dj

from workers.database import server
from workers.queue import tables
from workers.queue.persistent import Persistent

REFRESH = "refresh"  # the duty to look for what was put in from outside


@dataclass(frozen=True)
class Hold:
    """A shared duty that a worker has for a while."""

    duty: str
    holder: str  # unique for every time that it is taken


class Duties(Persistent):
    """One worker's dealings with the shared duties.

    Parameters
    ----------
    connection : dj.Connection
        Used by one thread at a time.
    lease_s : float
        How long a duty is held without being kept (s).
    stop : callable
        True ends waiting for a server that is down.
    """

    def __init__(
        self,
        connection: dj.Connection,
        *,
        lease_s: float = 30.0,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        super().__init__(connection, stop=stop)
        self.lease_s = lease_s
        self.held: Hold | None = None  # under way, for another thread's heartbeat
        self._known: set[str] = set()  # duties that have a row, to be sure
        self._duty = tables.Duty.full_table_name

    def elected(self, duty: str, every_s: float, holder: str | None = None) -> bool:
        """Tell whether this worker is to do a shared duty now: one worker, once per `every_s`."""
        if duty not in self._known:
            row = f"(%s, {self.now()})"
            self.execute(
                server.insert_new_sql(self.connection, self._duty, "duty, next_at", row), (duty,)
            )
            self._known.add(duty)
        done = self.execute(
            f"UPDATE {self._duty} SET next_at={self.now(every_s)}, holder=%s "
            f"WHERE duty=%s AND next_at <= {self.now()}",
            (holder, duty),
        )
        return done == 1

    def hold(self, duty: str) -> Hold | None:
        """Take a shared duty for one lease, or None if it is another's."""
        hold = Hold(duty, uuid.uuid4().hex)
        return hold if self.elected(duty, self.lease_s, hold.holder) else None

    def keep(self, hold: Hold) -> None:
        """Have a duty last for another lease, unless it was freed or is another's by now."""
        self._change_held(hold, f"next_at={self.now(self.lease_s)}")

    def free(self, hold: Hold) -> None:
        """Let anybody take a duty at once, unless it is another's by now."""
        self._change_held(hold, f"next_at={self.now()}, holder=NULL")

    def _change_held(self, hold: Hold, change: str) -> None:
        self.execute(
            f"UPDATE {self._duty} SET {change} WHERE duty=%s AND holder=%s",
            (hold.duty, hold.holder),
        )

    def wake(self) -> None:
        """Have some worker refresh at once: something new has been put in."""
        self.execute(f"UPDATE {self._duty} SET next_at={self.now()} WHERE duty=%s", (REFRESH,))
