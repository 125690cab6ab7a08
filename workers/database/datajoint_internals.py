"""All that workers use of DataJoint beyond its documented names, and nothing else.

Other modules call these functions, so that another version of DataJoint breaks here and in
`schemas.datajoint_internals` only. `tests/workers/database/test_datajoint_internals.py` asserts of
every name that it is there and does what it is used for.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datajoint as dj
from datajoint import provenance
from datajoint.declare import prepare_declare
from datajoint.dependencies import extract_master
from datajoint.hash_registry import get_store_backend

from schemas.datajoint_internals import backend, quoter, store

__all__ = [
    "Address",
    "Declaration",
    "ForeignKeys",
    "address",
    "backend",
    "caught_inserts",
    "column_comment_sql",
    "config_file",
    "declaration",
    "declare",
    "driver",
    "due",
    "forget_transaction",
    "free_table",
    "inside_populate",
    "is_stored_file",
    "json_columns",
    "lost_in_transaction",
    "master_of",
    "move_to_port",
    "plain_columns",
    "quoter",
    "store",
    "store_files",
    "store_folders",
    "stored_columns",
]

# ---- connection


@dataclass(frozen=True)
class Address:
    """Where a connection leads to."""

    host: str
    port: int
    user: str


def address(connection: dj.Connection) -> Address:
    """Return server and account of a connection."""
    info = connection.conn_info
    return Address(info["host"], int(info["port"]), info["user"])


def move_to_port(connection: dj.Connection, port: int) -> None:
    """Have the next `connect` of a connection use another port: the server was started anew."""
    connection.conn_info["port"] = port


def driver(connection: dj.Connection) -> Any:
    """Return the connection of psycopg2 or PyMySQL under a DataJoint connection."""
    return connection._conn


def forget_transaction(connection: dj.Connection) -> None:
    """Take a transaction for ended: it died with the link to the server."""
    connection._in_transaction = False


def lost_in_transaction(error: BaseException) -> bool:
    """Tell whether DataJoint says that the connection was lost during a transaction."""
    return isinstance(error, dj.errors.DataJointError) and "during a transaction" in str(error)


def column_comment_sql(
    connection: dj.Connection, table: str, column: str, comment: str
) -> str | None:
    """Return SQL that comments a column, or None where its definition holds the comment."""
    return connection.adapter.column_comment_ddl(table, column, comment)


def config_file() -> Path | None:
    """Return the `datajoint.json` that this process follows, or None."""
    return None if dj.config.ignore_config_file else dj.settings.find_config_file()


# ---- foreign keys


class ForeignKeys:
    """The foreign keys between the tables that a connection has bound.

    Parameters
    ----------
    connection : dj.Connection
        Knows the schemas that were activated over it, and no others.
    fresh : bool
        True reads them from the server even if they were read before.
    """

    def __init__(self, connection: dj.Connection, *, fresh: bool = False) -> None:
        self._graph = connection.dependencies
        self._graph.load(force=fresh)

    def in_order(self) -> list[str]:
        """Return the full names of all tables, parents first."""
        return self._graph.topo_sort()

    def parents(self, table: str) -> list[tuple[str, dict[str, str]]]:
        """Return the tables that a table points to, with its columns and theirs."""
        return [(name, edge["attr_map"]) for name, edge in self._graph.parents(table)]

    def children(self, table: str) -> list[tuple[str, dict[str, str]]]:
        """Return the tables that point to a table, with their columns and its."""
        return [(name, edge["attr_map"]) for name, edge in self._graph.children(table)]


def master_of(table: str) -> str | None:
    """Return the full name of a part's master, or None for a table that is no part."""
    return extract_master(table)


# ---- tables

_KNOWN = "_inception_free_tables"  # attribute of a connection, which cannot be hashed


def free_table(connection: dj.Connection, name: str) -> dj.FreeTable:
    """Return a table by its full name; a connection reads its columns once."""
    known = vars(connection).setdefault(_KNOWN, {})
    if name not in known:
        table = dj.FreeTable(connection, name)
        _ = table.heading.names
        known[name] = table
    return known[name]


def due(table: dj.Table) -> Any:
    """Return the query of keys that `populate` would compute."""
    return table._jobs_to_do(()) - table.proj()


@contextlib.contextmanager
def inside_populate(table: dj.Table, key: dict[str, Any]) -> Iterator[None]:
    """Let a table's `make` do what it may do inside of `populate`."""
    token = provenance.set_ingesting(table.full_table_name, key, "")
    type(table)._allow_insert = True
    table._upstream_key, table._upstream = dict(key), None
    try:
        yield
    finally:
        provenance.reset_ingesting(token)
        type(table)._allow_insert = False
        table._upstream_key = table._upstream = None


@contextlib.contextmanager
def caught_inserts() -> Iterator[list[tuple[dj.Table, list[dict]]]]:
    """Keep what is inserted into any table, instead of inserting it: every way ends in `insert`."""
    caught: list[tuple[dj.Table, list[dict]]] = []
    original = dj.Table.insert

    def keep(self: dj.Table, rows: Iterable, *_: Any, **__: Any) -> None:
        names = self.heading.names
        as_dicts = [
            dict(row) if hasattr(row, "keys") else dict(zip(names, row, strict=False))
            for row in (rows.to_dict("records") if hasattr(rows, "to_dict") else rows)
        ]
        caught.append((self, as_dicts))

    dj.Table.insert = keep
    try:
        yield caught
    finally:
        dj.Table.insert = original


@dataclass(frozen=True)
class Declaration:
    """The columns that a table's definition asks for, as the server is told."""

    key: frozenset[str]
    lines: list[str]  # one for every column: name, type and default
    comments: dict[str, str]  # only where a comment is a statement of its own


def declaration(table: type[dj.Table], connection: dj.Connection) -> Declaration:
    """Return the columns that a bound table's definition asks for.

    Raises
    ------
    dj.errors.DataJointError
        If the definition cannot be read.
    """
    _, key, lines, *_, comments = prepare_declare(
        table.definition,
        table.declaration_context,
        connection.adapter,
        table_name=table.table_name,
        config=dj.config,
    )
    return Declaration(frozenset(key), lines, comments)


def declare(table: type[dj.Table]) -> None:
    """Make a bound table, also where its schema was bound with `create_tables` off."""
    table().declare(table.declaration_context)  # the names in its foreign keys are looked up there


def plain_columns(query: Any) -> list[str]:
    """Return the columns of a query that hold plain values: no array and no file."""
    return [name for name in query.heading.names if query.heading[name].codec is None]


def json_columns(table: dj.Table) -> set[str]:
    """Return the columns that a server holds as JSON: plain ones, and those of codecs."""
    heading = table.heading
    return {name for name in heading.names if heading[name].json or heading[name].codec is not None}


def stored_columns(
    table: dj.FreeTable,
) -> Iterator[tuple[str, Callable[[Any], list[tuple[str, str | None]]]]]:
    """Yield the columns that refer to the store, with what lists (path, store) of their values."""
    for column in [*table.heading.hash_objects, *table.heading.schema_objects]:
        yield column, table.heading.attributes[column].codec.referenced_paths


# ---- store


def store_folders(database: str, name: str = "main") -> list[str]:
    """Return the folders of one database schema in a store, each with a slash at its end."""
    spec = dj.config.get_store_spec(name)
    sections = ("hash_prefix", "schema_prefix")
    return [f"{spec[section].strip('/')}/{database}/".lstrip("/") for section in sections]


def store_files(folder: str, name: str = "main") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield path in the store and file-system entry of every file below a folder."""
    place = get_store_backend(name)
    root, top = place._full_path(""), place._full_path(folder.rstrip("/"))
    if not place.fs.exists(top):
        return
    for path, info in place.fs.find(top, detail=True).items():
        yield path[len(root) :].lstrip("/"), info


def is_stored_file(value: Any) -> bool:
    """Tell whether a fetched value refers to a file in the store (`<object@>`)."""
    return isinstance(value, dj.ObjectRef)
