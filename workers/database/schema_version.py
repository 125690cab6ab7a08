"""Which version of the tables a database holds, and whether this code may work on it.

The number goes up with every release that changes a table: `workers.database.migration` has the
step. A worker, or anybody else, of another version ends with one line instead of guessing.
"""

from __future__ import annotations

import dataclasses

import datajoint as dj

from pipeline.errors import DataError
from schemas.clock import now_sql
from workers.database import server
from workers.database.datajoint_internals import quoter
from workers.version import code_version

SCHEMA_VERSION = 10  # 0 is a database from before versions were written down


class SchemaVersionError(DataError):
    """The database holds another version of the tables than this code works on."""


@dataclasses.dataclass(frozen=True)
class Installed:
    """What a database says of itself: the version of its tables, and the code that made them."""

    version: int
    code: str


def installed(connection: dj.Connection, prefix: str) -> Installed | None:
    """Return the version of a deployment, or None if there is no deployment of that prefix."""
    database = f"{prefix}_workers"
    found = connection.query(
        "SELECT table_name FROM information_schema.tables WHERE table_schema=%s "
        "AND table_name IN ('job', 'schema_version')",
        (database,),
    ).fetchall()
    names = {name for (name,) in found}
    if not names:
        return None
    rows = []
    if "schema_version" in names:
        rows = connection.query(
            f"SELECT schema_version, code FROM {_table(connection, prefix)} "
            "ORDER BY schema_version DESC LIMIT 1"
        ).fetchall()
    return Installed(int(rows[0][0]), str(rows[0][1])) if rows else Installed(0, "unknown")


def check(connection: dj.Connection, prefix: str) -> Installed | None:
    """Refuse a deployment of another version; one that does not exist yet will be of ours.

    Returns
    -------
    Installed or None
        As `installed`.

    Raises
    ------
    SchemaVersionError
    """
    found = installed(connection, prefix)
    if found is None or found.version == SCHEMA_VERSION:
        return found
    remedy = (
        "stop its workers, then: inception backup FOLDER, inception migrate --dry-run, "
        "inception migrate"
        if found.version < SCHEMA_VERSION
        else f"use code as new as the one that migrated it ({found.code})"
    )
    raise SchemaVersionError(
        f"this code ({code_version()}) cannot work on these tables",
        file=f"{prefix}_workers",
        field="schema_version",
        found=found.version,
        expected=SCHEMA_VERSION,
        remedy=remedy,
    )


def record(connection: dj.Connection, prefix: str, version: int = SCHEMA_VERSION) -> None:
    """Write down that the tables of a deployment are of some version now."""
    sql = server.insert_new_sql(
        connection,
        _table(connection, prefix),
        "schema_version, recorded_at, code",
        f"(%s, {now_sql(connection)}, %s)",
    )
    connection.query(sql, (version, code_version()))


def _table(connection: dj.Connection, prefix: str) -> str:
    quote = quoter(connection)
    return f"{quote(prefix + '_workers')}.{quote('schema_version')}"
