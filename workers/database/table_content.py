"""What tables hold, as one digest each: equal before and after, nothing was lost or changed."""

from __future__ import annotations

import hashlib
from typing import Any

import datajoint as dj

from workers.database.datajoint_internals import quoter

Columns = dict[str, tuple[list[str], list[str]]]
"""Table (`schema.table`) to its columns, and to those that order its rows."""


def columns(
    connection: dj.Connection, prefix: str, *, leave_out: frozenset[str] = frozenset()
) -> Columns:
    """Return the columns that all tables of a deployment have now, DataJoint's own left out.

    Parameters
    ----------
    connection : dj.Connection
        To the server.
    prefix : str
        Prefix of the database schemas.
    leave_out : set of str
        Columns not to look at, as `stage.table.column`.

    Returns
    -------
    Columns
    """
    like = prefix.replace("_", "\\_") + "\\_%"
    rows = connection.query(
        "SELECT c.table_schema, c.table_name, c.column_name, k.column_name IS NOT NULL, "
        "c.data_type "
        "FROM information_schema.columns c "
        "JOIN information_schema.tables t ON t.table_schema=c.table_schema "
        "AND t.table_name=c.table_name AND t.table_type='BASE TABLE' "
        "LEFT JOIN information_schema.table_constraints p ON p.table_schema=c.table_schema "
        "AND p.table_name=c.table_name AND p.constraint_type='PRIMARY KEY' "
        "LEFT JOIN information_schema.key_column_usage k ON k.table_schema=c.table_schema "
        "AND k.table_name=c.table_name AND k.column_name=c.column_name "
        "AND k.constraint_name=p.constraint_name "
        "WHERE c.table_schema LIKE %s ORDER BY 1, 2, c.ordinal_position",
        (like,),
    ).fetchall()
    found: Columns = {}
    ordered: dict[str, list[str]] = {}  # columns that a server can order by
    shortened = set()  # tables part of whose key is left out: the rest may not order their rows
    for database, table, column, is_key, type_ in rows:
        if table.startswith("~"):
            continue
        name = f"{database}.{table}"
        if f"{database[len(prefix) + 1 :]}.{table}.{column}" in leave_out:
            shortened |= {name} if is_key else set()
            continue
        names, key = found.setdefault(name, ([], []))
        names.append(column)
        if is_key:
            key.append(column)
        if type_ not in ("json", "jsonb"):
            ordered.setdefault(name, []).append(column)
    for name in shortened & set(found):
        found[name][1][:] = ordered[name]
    return found


def digests(connection: dj.Connection, chosen: Columns) -> dict[str, tuple[int, str]]:
    """Return number of rows and SHA-256 of the chosen columns of each table."""
    quote = quoter(connection)
    found = {}
    for name, (names, key) in chosen.items():
        database, _, table = name.partition(".")
        order = ", ".join(map(quote, key or names))
        cursor = connection.query(
            f"SELECT {', '.join(map(quote, names))} FROM {quote(database)}.{quote(table)} "
            f"ORDER BY {order}"
        )
        digest, count = hashlib.sha256(), 0
        while rows := cursor.fetchmany(1000):
            count += len(rows)
            for row in rows:
                digest.update(repr(tuple(map(_plain, row))).encode())
        found[name] = (count, digest.hexdigest())
    return found


def _plain(value: Any) -> Any:
    return bytes(value) if isinstance(value, memoryview) else value
