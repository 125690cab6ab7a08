"""The door to a deployment: whoever comes in passes the check of its version."""

from __future__ import annotations

import datajoint as dj

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
        loaded = order.load(source, prefix)
        tables.activate(prefix)
        tables.declare()
    return loaded
