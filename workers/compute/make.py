"""Compute one row: DataJoint's three steps, with the fence inside the transaction.

As `populate` does it, but the part in the transaction is tried again after a deadlock or a lost
connection, so that a restart of the database in the last second does not cost hours of training.
"""

from __future__ import annotations

import inspect
import time
from typing import Any

import datajoint as dj
import deepdiff

from workers.compute.environment import device_used
from workers.database import server
from workers.database.datajoint_internals import inside_populate
from workers.queue import claims
from workers.queue.claims import Claim

_TRIES = 6


class NoRowError(RuntimeError):
    """`make` came to its end without inserting its row."""


def make(table: Any, claim: Claim, worker: str, environment: str | None = None) -> bool:
    """Compute and insert the row of a claim.

    Parameters
    ----------
    table : dj.Computed or dj.Imported
        Instance of the table.
    claim : Claim
        The job.
    worker : str
        Its owner, for the fence.
    environment : str, optional
        Hash of the packages, a row of `tables.Environment`.

    Returns
    -------
    bool
        False if the row was there already; the job is ended all the same.

    Raises
    ------
    claims.Fenced
        If the job has another owner by now; nothing was committed.
    NoRowError
        If `make` inserted nothing.
    Exception
        Whatever `make` raised; nothing was committed.
    """
    started = time.monotonic()
    key = dict(claim.key)
    connection = table.connection
    steps = inspect.isgeneratorfunction(table.make)
    computed, fetched_hash = None, None
    exists = _again(connection, lambda: bool(table & key))
    with inside_populate(table, key):
        if steps and not exists:
            generator = table.make(dict(key))
            fetched = _again(connection, lambda: next(generator))
            fetched_hash = _digest(fetched)
            computed = next(generator)

        def insert() -> bool:
            with server.transaction(connection):
                present = bool(table & key)
                if not present:
                    _insert(table, key, steps, computed, fetched_hash)
                    if not table & key:
                        raise NoRowError(f"{claim.table_name}.make ended without inserting its row")
                site = (environment, device_used()) if environment and not present else None
                outcome = "present" if present else "done"
                claims.fence(connection, claim, worker, time.monotonic() - started, site, outcome)
            return not present

        return _again(connection, insert) if steps or exists else insert()


def rerun(table: Any, key: dict[str, Any]) -> None:
    """Run all steps of `make` again, insertion included: the caller catches what is inserted."""
    if not inspect.isgeneratorfunction(table.make):
        table.make(dict(key))
        return
    fetched = next(table.make(dict(key)))
    table.make_insert(dict(key), *table.make_compute(dict(key), *fetched))


def _insert(table: Any, key: dict, steps: bool, computed: Any, fetched_hash: str | None) -> None:
    if not steps:
        table.make(dict(key))
        return
    generator = table.make(dict(key))
    if _digest(next(generator)) != fetched_hash:
        raise dj.errors.IntegrityError("what make_fetch read has changed while make computed")
    generator.send(computed)


def _digest(fetched: Any) -> str:
    return deepdiff.DeepHash(fetched, ignore_iterable_order=False)[fetched]


def _again(connection: dj.Connection, action: Any) -> Any:
    """Do something, a few times if the database is in the way."""
    for attempt in range(_TRIES):
        try:
            return action()
        except Exception as error:
            lost = server.is_connection_error(error)
            passing = lost or server.is_contention(error) or server.refuses_writing(error)
            if not passing or attempt == _TRIES - 1:
                raise
        time.sleep(0.1 * 2**attempt)
        if lost:
            _reconnect(connection)
    raise AssertionError("unreachable")


def _reconnect(connection: dj.Connection) -> None:
    server.persist(connection, lambda: server.revive(connection), patience_s=60.0)
