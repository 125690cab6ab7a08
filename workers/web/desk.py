"""The one place where the page meets the database: a question at a time, answers kept briefly.

DataJoint's connection is not for several threads at once, and all tables share one: whoever asks
holds the lock meanwhile. Answers that cost much are kept for a few seconds.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from workers.database import server
from workers.queue import tables
from workers.queue.lease import Ledger
from workers.queue.order import TaskOrder

T = TypeVar("T")
log = logging.getLogger("inception.web")
_PATIENCE_S = 5.0  # how long a page waits for a database that is away
_KEPT = 256  # answers


class Desk:
    """Answers questions about one deployment, from any thread.

    Parameters
    ----------
    ledger : Ledger
        Job tables, over the connection that all tables are bound to.
    plan : TaskOrder
        The pipeline.
    prefix : str
        Prefix of the database schemas.

    Attributes
    ----------
    writes : bool
        The account may change rows; without that right the page has no buttons.
    """

    def __init__(self, ledger: Ledger, plan: TaskOrder, prefix: str) -> None:
        self.ledger, self.plan, self.prefix = ledger, plan, prefix
        self._lock = threading.RLock()
        self._kept: OrderedDict[Hashable, tuple[float, Any]] = OrderedDict()
        self.writes = self.ask(lambda: may_write(ledger))

    def ask(self, question: Callable[[], T]) -> T:
        """Return the answer to a question that reads; it is asked again after a lost connection."""
        with self._lock:
            self.ledger.give_up_after(_PATIENCE_S)
            return server.persist(self.ledger.connection, question, patience_s=_PATIENCE_S)

    def change(self, action: Callable[[], T]) -> T:
        """Do something that changes rows, and forget what was read before it."""
        with self._lock:
            self.ledger.give_up_after(_PATIENCE_S)
            try:
                return action()
            finally:
                self._kept.clear()

    def recent(self, name: Hashable, question: Callable[[], T], seconds: float = 2.0) -> T:
        """Return an answer that is at most some seconds old, longer where it cost more to find.

        One that took 0.5 s serves for 5 s, so that looking never takes more than a tenth of the
        database's time.
        """
        with self._lock:
            until, answer = self._kept.get(name, (0.0, None))
            if time.monotonic() < until:
                return answer
            begin = time.monotonic()
            answer = self.ask(question)
            end = time.monotonic()
            self._kept[name] = (end + max(seconds, 10 * (end - begin)), answer)
            self._kept.move_to_end(name)
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
            return answer


def may_write(ledger: Ledger) -> bool:
    """Tell whether this account may change rows: one is written and taken back."""
    name = tables.Duty.full_table_name
    try:
        with server.transaction(ledger.connection):
            ledger.connection.query(
                f"INSERT INTO {name} (duty, next_at) VALUES ('web', '2000-01-01')"
            )
            ledger.connection.query(f"DELETE FROM {name} WHERE duty='web'")
    except Exception as error:
        if server.is_connection_error(error) or server.is_contention(error):
            raise
        log.info("this account reads only: %s", " ".join(str(error).split()))
        return False
    return True
