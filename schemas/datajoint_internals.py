"""What the tables use of DataJoint beyond its documented names; what workers use is in theirs.

`workers.database.datajoint_internals` stands on this module. A test asserts that every name is
there and does what it is used for, so that another version of DataJoint breaks in these two files.
"""

from __future__ import annotations

import contextlib
import importlib
import re
import sys
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from datajoint import Connection


def backend(connection: Connection) -> str:
    """Return the kind of database server: `postgresql` or `mysql`."""
    return connection.adapter.backend


def quoted(connection: Connection, *names: str) -> str:
    """Return names as the server wants them, with dots between."""
    return ".".join(map(connection.adapter.quote_identifier, names))


class Catalog(Protocol):
    """What a server says of tables, all at once: rows by schema and table."""

    def rows(self, kind: str) -> Mapping[tuple[str, str], list[dict[str, Any]]]:
        """Return all rows of a kind: `tables`, `columns`, `keys`, `indexes` or `lineages`."""
        ...


@dataclass(frozen=True)
class _Answer:
    """As much of a cursor as DataJoint uses of a query for a catalog."""

    rows: list[Any]

    @property
    def rowcount(self) -> int:
        return len(self.rows)

    def fetchone(self) -> Any:
        return self.rows[0] if self.rows else None

    def fetchall(self) -> list[Any]:
        return self.rows

    def __iter__(self) -> Iterator[Any]:
        return iter(self.rows)


def _questions(
    connection: Connection, catalog: Catalog
) -> dict[tuple[str, tuple], tuple[str, tuple[str, str]]]:
    """Return kind and table of every question that DataJoint asks of a table that is there."""
    adapter, found = connection.adapter, {}
    asked = {
        "tables": adapter.get_table_info_sql,
        "columns": adapter.get_columns_sql,
        "keys": adapter.get_primary_key_sql,
        "indexes": adapter.get_indexes_sql,
    }
    for place in catalog.rows("tables"):
        for kind, question in asked.items():
            found[_normal(question(*place)), ()] = kind, place
        database, table = place
        lineages = quoted(connection, database, "~lineage")
        question = f"SELECT attribute_name, lineage FROM {lineages} WHERE table_name = %s"
        found[question, (table,)] = "lineages", place
    return found


def _normal(query: str) -> str:
    return " ".join(query.split())


@contextlib.contextmanager
def answered(connection: Connection, catalog: Catalog) -> Iterator[None]:
    """Let a connection answer from a catalog what DataJoint asks about the tables in it.

    Other questions go to the server; after a statement that is none, all of them do.
    """
    if "query" in vars(connection):  # inside another block like this one
        yield
        return
    questions = _questions(connection, catalog)
    ask = connection.query

    def query(text: str, args: tuple = (), **options: Any) -> Any:
        kind, place = questions.get((_normal(text), tuple(args)), ("", ("", "")))
        rows = catalog.rows(kind).get(place, []) if kind else []
        if rows or kind == "indexes":
            if not options.get("as_dict"):
                rows = [tuple(row.values()) for row in rows]
            return _Answer(rows)
        if not re.match(r"\s*(SELECT|SHOW|BEGIN|COMMIT|ROLLBACK)\b", text, re.IGNORECASE):
            questions.clear()
        return ask(text, args, **options)

    connection.query = query
    try:
        yield
    finally:
        del connection.query


class _NotImported(type):
    """Kind of a class whose module is not imported: nothing can be an instance of it so far."""

    def __instancecheck__(cls, value: object) -> bool:
        return False

    def __call__(cls, *args: Any, **options: Any) -> Any:
        return getattr(importlib.import_module(cls.__module__), cls.__name__)(*args, **options)


class _Later(types.ModuleType):
    """Stand for a module that is imported when one of its names is used.

    Parameters
    ----------
    name : str
        Name of the module.
    asked : str
        Its class that values are compared with; that alone imports nothing.
    """

    def __init__(self, name: str, asked: str) -> None:
        super().__init__(name)
        self._asked = _NotImported(asked, (), {"__module__": name})

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # who asks is the import system, or a debugger
            raise AttributeError(name)
        if name == self._asked.__name__ and self.__name__ not in sys.modules:
            return self._asked
        return getattr(importlib.import_module(self.__name__), name)


def import_without_pandas() -> None:
    """Import DataJoint, but pandas only when a table is returned as, or filled from, a frame.

    It is 0.25 of the 0.6 s of CPU time that importing DataJoint takes.
    """
    if {"datajoint", "pandas"} & set(sys.modules):
        return
    sys.modules["pandas"] = _Later("pandas", asked="DataFrame")
    try:
        importlib.import_module("datajoint")
    finally:
        del sys.modules["pandas"]  # whoever else imports it gets the real one


def let_help_read_tables() -> None:
    """Let an attribute that needs a database be absent from a class that has none.

    `help()` looks up the attributes of a table in all its base classes. In `dj.Computed`, which no
    schema binds, DataJoint fails an assertion then, where Python expects AttributeError.
    """
    from datajoint.user_tables import TableMeta

    original = TableMeta.__getattribute__
    if getattr(original, "absent_without_database", False):
        return

    def look_up(cls: type, name: str) -> Any:
        try:
            return original(cls, name)
        except AssertionError as error:
            if type.__getattribute__(cls, "_connection") is not None:
                raise
            raise AttributeError(f"{cls.__name__}.{name}: no database is bound") from error

    look_up.absent_without_database = True
    TableMeta.__getattribute__ = look_up
