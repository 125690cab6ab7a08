"""The door to a deployment: whoever comes in passes the check of its version."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import datajoint as dj

from pipeline.stages import STAGES
from schemas.catalog import read_at_once
from schemas.stored import identity as known_store
from schemas.whole import declared_whole
from workers.database import datajoint_internals, schema_version, server
from workers.deployment import identity
from workers.queue import order, tables
from workers.queue.order import TaskOrder


def open_tables(
    connection: dj.Connection, source: str, prefix: str, *, adopt_store: bool = False
) -> TaskOrder:
    """Bind all tables, making what a new deployment lacks; one process at a time.

    Parameters
    ----------
    connection : dj.Connection
        To the server.
    source, prefix : str
        Module of the tables and prefix of their schemas.
    adopt_store : bool
        Take the store for this database's although it does not bear its mark.

    Raises
    ------
    SchemaVersionError
        If the database holds another version of the tables; nothing was changed then.
    DataError
        If the store is not mounted or another database's; nothing was changed then.
    """
    with server.exclusive(connection, f"{prefix}_declare"):  # creation races otherwise
        schema_version.check(connection, prefix)
        identity.refuse_strangers(connection, prefix, adopt=adopt_store)
        with declared_whole(connection), read_at_once(connection, databases(prefix)):
            loaded = order.load(source, prefix)
            tables.activate(prefix)
            tables.declare()
        identity.establish(connection, prefix, adopt=adopt_store)
    return loaded


def open_made(connection: dj.Connection, source: str, prefix: str) -> TaskOrder:
    """Bind the tables of a deployment that is there, making none; SELECT is enough.

    Raises
    ------
    LookupError
        If there is no deployment of that prefix, or one of its tables is missing.
    SchemaVersionError
        If the database holds another version of the tables.
    """
    loaded, missing = look(connection, source, prefix)
    if missing:
        raise LookupError(
            f"{where(connection)}: {len(missing)} tables are missing, "
            f"{missing[0].full_table_name} among them; `inception declare` makes them"
        )
    return loaded


def look(
    connection: dj.Connection, source: str, prefix: str
) -> tuple[TaskOrder, list[type[dj.Table]]]:
    """Bind tables without making any; return them, and those that are not there.

    Raises
    ------
    LookupError
        If there is no deployment of that prefix.
    SchemaVersionError
        If the database holds another version of the tables.
    """
    if schema_version.check(connection, prefix) is None:
        raise LookupError(
            f"{where(connection)}: no tables have the prefix {prefix}; `inception declare` makes "
            "them"
        )
    with without_declaring(), read_at_once(connection, databases(prefix)):
        loaded = order.load(source, prefix)
        tables.activate(prefix)
        known_store.learn(connection, prefix)
        everything = [*(task.table for task in loaded), *tables.ALL]
        return loaded, [table for table in everything if not table().is_declared]


def databases(prefix: str) -> list[str]:
    """Return the names of a deployment's schemas."""
    return [f"{prefix}_{name}" for name in (*STAGES, "workers")]


def where(connection: dj.Connection) -> str:
    """Name the server of a connection, for messages."""
    found = datajoint_internals.address(connection)
    return f"{datajoint_internals.backend(connection)} at {found.host}:{found.port}"


@contextlib.contextmanager
def without_declaring() -> Iterator[None]:
    """Bind tables without making them: who looks changes nothing."""
    before, dj.config.database.create_tables = dj.config.database.create_tables, False
    try:
        yield
    finally:
        dj.config.database.create_tables = before
