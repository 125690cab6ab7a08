"""The door to a deployment: whoever comes in passes the check of its version."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import datajoint as dj

from schemas.whole import declared_whole
from workers.database import schema_version, server
from workers.queue import order, tables
from workers.queue.order import Plan


def open_tables(connection: dj.Connection, source: str, prefix: str) -> Plan:
    """Bind all tables, making what a new deployment lacks; one process at a time.

    Raises
    ------
    SchemaVersionError
        If the database holds another version of the tables; nothing was changed then.
    """
    with server.exclusive(connection, f"{prefix}_declare"):  # creation races otherwise
        schema_version.check(connection, prefix)
        with declared_whole(connection):
            loaded = order.load(source, prefix)
            tables.activate(prefix)
            tables.declare()
    return loaded


@contextlib.contextmanager
def without_declaring() -> Iterator[None]:
    """Bind tables without making them: who looks changes nothing."""
    before, dj.config.database.create_tables = dj.config.database.create_tables, False
    try:
        yield
    finally:
        dj.config.database.create_tables = before
