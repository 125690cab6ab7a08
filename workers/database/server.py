"""What both database servers have in common, and how to stay connected to them."""

from __future__ import annotations

import logging
import os
import random
import time
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any, TypeVar

import datajoint as dj

from workers.database import datajoint_internals, embedded

T = TypeVar("T")
log = logging.getLogger("inception.database")

# MySQL: no connection, too many, gone, lost, read timeout, shutdown; deadlock, lock wait timeout
_MYSQL_LOST = {0, 1040, 1053, 2002, 2003, 2006, 2013, 2055, 4031}
_MYSQL_CONTENTION = {1205, 1213}
# disk full, table full, read-only: option, transaction, server
_MYSQL_REFUSING = {1021, 1114, 1290, 1792, 1836}
_POSTGRES_REFUSING = {"25006", "53100", "58030"}  # read-only, disk full, input and output
_POSTGRES_CONTENTION = {"40001", "40P01", "55P03"}  # serialization, deadlock, lock


class Stopped(Exception):
    """The worker was asked to stop while it waited for the database."""


def is_connection_error(error: BaseException) -> bool:
    """Tell whether an exception means that the database connection is gone."""
    if isinstance(error, (dj.errors.LostConnectionError, ConnectionError)):
        return True
    module = type(error).__module__.split(".")[0]
    if module == "psycopg2":
        code = getattr(error, "pgcode", None)
        if code is not None:  # connection exceptions; shutdown, crash, starting up
            return code.startswith("08") or code in ("57P01", "57P02", "57P03", "57P05")
        names = {base.__name__ for base in type(error).__mro__}
        return bool(names & {"OperationalError", "InterfaceError"}) or (
            type(error).__name__ == "DatabaseError"  # "server closed the connection", at times
        )
    if module == "pymysql":
        return type(error).__name__ == "InterfaceError" or (
            type(error).__name__ in ("OperationalError", "InternalError")
            and _code(error) in _MYSQL_LOST
        )
    return datajoint_internals.lost_in_transaction(error)


def is_contention(error: BaseException) -> bool:
    """Tell whether an exception is a deadlock or lock timeout, after which one tries again."""
    if type(error).__module__.split(".")[0] == "psycopg2":
        return getattr(error, "pgcode", None) in _POSTGRES_CONTENTION
    return type(error).__module__.startswith("pymysql") and _code(error) in _MYSQL_CONTENTION


def refuses_writing(error: BaseException) -> bool:
    """Tell whether the server answers but takes no rows: it is read-only, or its disk is full."""
    if type(error).__module__.split(".")[0] == "psycopg2":
        return getattr(error, "pgcode", None) in _POSTGRES_REFUSING
    if not type(error).__module__.startswith("pymysql"):
        cause = error.__cause__ or error.__context__
        wrapped = isinstance(error, dj.errors.DataJointError) and cause is not None
        return wrapped and refuses_writing(cause)
    # 1290 is said of any option of the server
    asked = _code(error) != 1290 or "read-only" in str(error) or "read_only" in str(error)
    return _code(error) in _MYSQL_REFUSING and asked


def _code(error: BaseException) -> object:
    return error.args[0] if error.args else None


def wait_for_server(home: str | os.PathLike | None = None, patience_s: float = 300.0) -> Any:
    """Connect as `embedded.connect` does, waiting for a server that does not answer yet.

    Parameters
    ----------
    home : path, optional
        See `workers.database.embedded`.
    patience_s : float
        How long to wait (s) before its error is raised.

    Returns
    -------
    dj.Connection
    """
    deadline, pause = time.monotonic() + patience_s, 0.5
    while True:
        try:
            return embedded.connect(home)
        except Exception as error:
            if not is_connection_error(error) or time.monotonic() > deadline:
                raise
            log.warning("waiting for the database: %s", " ".join(str(error).split()))
        time.sleep(pause)
        pause = min(2 * pause, 10.0)


def new_connection() -> dj.Connection:
    """Open a connection of one's own to the server that `dj.config` names."""
    database = dj.config.database
    return dj.Connection(
        database.host,
        database.user,
        dj.config["database.password"],
        database.port,
        database.use_tls,
    )


def revive(connection: dj.Connection) -> None:
    """Connect a connection object again, starting the embedded server if it is down."""
    datajoint_internals.forget_transaction(connection)  # whatever was open died with it
    if embedded.is_embedded():
        datajoint_internals.move_to_port(connection, embedded.start()["port"])
    connection.connect()


def schema_exists(connection: dj.Connection, name: str) -> bool:
    """Tell whether the server has a schema of that name."""
    found = connection.query(
        "SELECT 1 FROM information_schema.schemata WHERE schema_name=%s", (name,)
    )
    return found.fetchone() is not None


def insert_new_sql(connection: dj.Connection, table: str, columns: str, values: str) -> str:
    """Return SQL that inserts rows, and leaves those alone whose key is there already."""
    if datajoint_internals.backend(connection) == "postgresql":
        return f"INSERT INTO {table} ({columns}) VALUES {values} ON CONFLICT DO NOTHING"
    return f"INSERT IGNORE INTO {table} ({columns}) VALUES {values}"


@contextmanager
def transaction(connection: dj.Connection) -> Any:
    """Run a block in a transaction; a lost connection rolls it back by itself."""
    connection.start_transaction()
    try:
        yield
    except BaseException as error:
        if is_connection_error(error):
            datajoint_internals.forget_transaction(connection)
        else:
            connection.cancel_transaction()
        raise
    connection.commit_transaction()


@contextmanager
def exclusive(connection: dj.Connection, name: str, timeout_s: int = 600) -> Any:
    """Hold a lock of the database server: one process at a time, freed if its holder dies."""
    if datajoint_internals.backend(connection) == "postgresql":
        take = "SELECT pg_advisory_lock(hashtext(%s))"
        free = "SELECT pg_advisory_unlock(hashtext(%s))"
        connection.query(take, (name,))
    else:
        take, free = "SELECT GET_LOCK(%s, %s)", "SELECT RELEASE_LOCK(%s)"
        if connection.query(take, (name, timeout_s)).fetchone()[0] != 1:
            raise TimeoutError(f"another process has held the lock {name} for {timeout_s} s")
    try:
        yield
    finally:
        connection.query(free, (name,))


def persist(
    connection: dj.Connection,
    action: Callable[[], T],
    *,
    stop: Callable[[], bool] = lambda: False,
    on_reconnect: Callable[[], None] = lambda: None,
    patience_s: float = 3600.0,
) -> T:
    """Do something in the database, again after deadlocks and after it comes back.

    A server that answers and takes no rows (read-only, disk full) is waited for, too.

    `action` must be safe to repeat: a commit whose answer was lost may have happened.

    Parameters
    ----------
    connection : dj.Connection
        Revived when it is lost.
    action : callable
        What to do.
    stop : callable
        Asked between tries; True raises `Stopped`.
    on_reconnect : callable
        Called after every revival, and when a server takes rows again.
    patience_s : float
        How long to wait for a server that does not answer (s) before its error is raised.
    """
    pause, deadline, lost, refusing = 0.05, time.monotonic() + patience_s, False, False
    while True:
        try:
            if lost:
                revive(connection)
                lost = False
                on_reconnect()
            result = action()
            if refusing:
                log.warning("the database takes rows again")
                on_reconnect()
            return result
        except Exception as error:
            lost = is_connection_error(error) or isinstance(error, embedded.ServerError) or lost
            refused = refuses_writing(error)
            passing = lost or refused or is_contention(error)
            if not passing or time.monotonic() > deadline:
                raise
            if refused and not refusing:
                log.warning("the database takes no rows: %s", " ".join(str(error).split()))
            refusing = refusing or refused
        if stop():
            raise Stopped
        time.sleep(pause * random.uniform(0.5, 1.5))
        pause = min(2 * pause, 2.0)
