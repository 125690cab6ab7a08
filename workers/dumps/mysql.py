"""MySQL schemas as SQL: one statement a line, readable by `mysql` too; needs no client programs."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from pymysql.cursors import SSCursor

from workers.dumps import Digests

FILE = "database.sql.gz"
_STATEMENT = 1_000_000  # characters after which an INSERT ends
_SETTINGS = (
    "SET NAMES utf8mb4",
    "SET SESSION time_zone='+00:00'",
    "SET SESSION sql_mode='NO_ENGINE_SUBSTITUTION'",
    "SET SESSION FOREIGN_KEY_CHECKS=0",  # tables come in alphabetical order
)


def dump(connection: Any, databases: list[str], folder: Path) -> Digests:
    """Write all tables of some schemas as they are at one moment.

    Parameters
    ----------
    connection : dj.Connection
        Of its own: it holds a snapshot until the end.
    databases : list of str
        Names of the schemas.
    folder : Path
        Gets `database.sql.gz`.

    Returns
    -------
    Digests
    """
    found: Digests = {}
    with gzip.open(folder / FILE, "wt", encoding="utf-8", compresslevel=4) as file:
        for statement in _SETTINGS:
            file.write(statement + ";\n")
        for name, define, rows in _tables(connection._conn, databases):
            file.writelines(statement + ";\n" for statement in define())
            found[name] = _digest(rows(), lambda text: file.write(text + ";\n"))
    return found


def digests(connection: Any, databases: list[str]) -> Digests:
    """Return rows and digest of every table of some schemas."""
    return {name: _digest(rows()) for name, _, rows in _tables(connection._conn, databases)}


def load(connection: Any, folder: Path, databases: list[str]) -> None:
    """Run a dump; what it had made is removed again if it fails."""
    try:
        with (
            gzip.open(folder / FILE, "rt", encoding="utf-8", newline="\n") as file,
            connection._conn.cursor() as cursor,
        ):
            for line in file:
                cursor.execute(line.rstrip(";\n"))
            connection._conn.commit()
            cursor.execute("SET SESSION FOREIGN_KEY_CHECKS=1")
    except BaseException:
        with connection._conn.cursor() as cursor:
            for name in databases:
                cursor.execute(f"DROP DATABASE IF EXISTS `{name}`")
        raise


def _tables(
    link: Any, databases: list[str]
) -> Iterator[tuple[str, Callable[[], Iterator[str]], Callable[[], Iterator[tuple[str, str]]]]]:
    """Yield name, definition and rows (head of an INSERT, values) of every table of a snapshot."""
    with link.cursor() as cursor:
        for statement in _SETTINGS:
            cursor.execute(statement)
        cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        cursor.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT")
    try:
        for database in databases:
            names = _column(
                link,
                "SELECT table_name FROM information_schema.tables WHERE table_schema=%s "
                "AND table_type='BASE TABLE' ORDER BY table_name",
                database,
            )
            for number, table in enumerate(names):

                def define(database: str = database, table: str = table, first=number == 0):
                    if first:
                        yield _definition(link, f"DATABASE `{database}`")
                        yield f"USE `{database}`"
                    yield _definition(link, f"TABLE `{database}`.`{table}`")

                def rows(database: str = database, table: str = table):
                    return _rows(link, database, table)

                yield f"{database}.{table}", define, rows
    finally:
        link.rollback()


def _column(link: Any, sql: str, *args: str) -> list[str]:
    with link.cursor() as cursor:
        cursor.execute(sql, args)
        return [row[0] for row in cursor.fetchall()]


def _definition(link: Any, what: str) -> str:
    with link.cursor() as cursor:
        cursor.execute(f"SHOW CREATE {what}")
        return " ".join(cursor.fetchone()[1].splitlines())


def _rows(link: Any, database: str, table: str) -> Iterator[tuple[str, str]]:
    """Yield the head of an INSERT and the values of one row, in the order of the primary key."""
    with link.cursor() as cursor:
        cursor.execute(
            "SELECT column_name, data_type, column_key FROM information_schema.columns "
            "WHERE table_schema=%s AND table_name=%s ORDER BY ordinal_position",
            (database, table),
        )
        columns = cursor.fetchall()
    names = [f"`{name}`" for name, _, _ in columns]
    # a FLOAT is shown with six digits, as a DOUBLE with all that it has
    shown = [
        f"CAST({name} AS DOUBLE)" if kind == "float" else name
        for name, (_, kind, _) in zip(names, columns, strict=True)
    ]
    order = [f"`{name}`" for name, _, key in columns if key == "PRI"] or names
    head = f"INSERT INTO `{database}`.`{table}` ({', '.join(names)}) VALUES "
    with link.cursor(SSCursor) as cursor:
        cursor.execute(
            f"SELECT {', '.join(shown)} FROM `{database}`.`{table}` ORDER BY {', '.join(order)}"
        )
        for row in cursor:
            yield head, "(" + ",".join(link.escape(value) for value in row) + ")"


def _digest(
    rows: Iterable[tuple[str, str]], write: Callable[[str], Any] = lambda _: None
) -> dict[str, Any]:
    """Return number and digest of rows, and write them as INSERT statements of some length."""
    digest, count, size, statement = hashlib.sha256(), 0, 0, []
    for head, values in rows:
        digest.update(values.encode())
        count += 1
        size += len(values)
        statement.append(values)
        if size > _STATEMENT:
            write(head + ",".join(statement))
            size, statement = 0, []
    if statement:
        write(head + ",".join(statement))
    return {"rows": count, "digest": digest.hexdigest()}
