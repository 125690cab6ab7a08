"""Statements over a connection that comes back by itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import datajoint as dj

from schemas.clock import now_sql
from workers.database import server

T = TypeVar("T")


class Persistent:
    """A connection whose statements are tried again after deadlocks and lost connections.

    Parameters
    ----------
    connection : dj.Connection
        Used by one thread at a time.
    stop : callable
        True ends waiting for a server that is down.
    """

    def __init__(
        self, connection: dj.Connection, *, stop: Callable[[], bool] = lambda: False
    ) -> None:
        self.connection = connection
        self.reconnects = 0
        self._stop = stop
        self._deadline: float | None = None  # monotonic; from then on nothing is tried again

    def give_up_after(self, seconds: float) -> None:
        """Wait at most so long from now (s) for a server that is down, whatever `stop` says.

        With 0 every statement has one try. A later call sets a new limit.
        """
        self._deadline = time.monotonic() + seconds

    def _gives_up(self) -> bool:
        return self._stop() if self._deadline is None else time.monotonic() >= self._deadline

    def persist(self, action: Callable[[], T]) -> T:
        """Do `action`, again after deadlocks and lost connections.

        Raises
        ------
        workers.database.server.Stopped
            If it failed and there is no more time for another try.
        """
        return server.persist(
            self.connection, action, stop=self._gives_up, on_reconnect=self._count_reconnect
        )

    def _count_reconnect(self) -> None:
        self.reconnects += 1

    def rows(self, sql: str, args: Sequence = ()) -> list[tuple]:
        """Return the rows of one query."""
        return self.persist(lambda: list(self.connection.query(sql, tuple(args)).fetchall()))

    def execute(self, sql: str, args: Sequence = ()) -> int:
        """Run one statement that is safe to repeat; return the number of rows it changed."""
        return self.persist(lambda: self.connection.query(sql, tuple(args)).rowcount)

    def now(self, plus_s: float = 0.0) -> str:
        """Return SQL for the server's time some seconds from now."""
        return now_sql(self.connection, plus_s)
