"""All rows that belong to some rows: what was made of them, and what they refer to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import datajoint as dj

from workers.database.datajoint_internals import ForeignKeys, master_of

CHUNK = 500  # rows named in one query


class Closure:
    """Collects keys until every foreign key of a row leads to a row that is collected.

    Down from the start go the rows that refer to it, and so on; a part brings its whole master.
    Up from all of these go the rows that they refer to, with the parts of those.

    Parameters
    ----------
    connection : dj.Connection
    databases : sequence of str
        Schemas that are looked at.

    Attributes
    ----------
    keys : dict of full table name to dict of key to row
        Columns that foreign keys need, by the values of the primary key.
    """

    def __init__(self, connection: dj.Connection, databases: Iterable[str]) -> None:
        self.connection, self.graph = connection, ForeignKeys(connection, fresh=True)
        self.databases = set(databases)
        self.keys: dict[str, dict[tuple, dict[str, Any]]] = {}
        self._down: set[tuple[str, tuple]] = set()
        self._columns: dict[str, tuple[list[str], list[str]]] = {}
        self._tables: dict[str, dj.FreeTable] = {}  # a new one asks the server for its columns

    def descend(self, node: str, restrictions: list[dict[str, Any]]) -> None:
        """Add rows with all that was made of them."""
        todo = [(node, self._select(node, restrictions))]
        while todo:
            node, rows = todo.pop()
            fresh = [row for row in rows if (node, self._key(node, row)) not in self._down]
            if not fresh:
                continue
            self._down |= {(node, self._key(node, row)) for row in fresh}
            self._add(node, fresh)
            master = master_of(node)
            if master is not None:
                primary = self._layout(master)[0]
                wanted = [{name: row[name] for name in primary} for row in fresh]
                todo.append((master, self._select(master, wanted)))
            for child, columns in self.graph.children(node):
                if self._inside(child):
                    back = {theirs: ours for ours, theirs in columns.items()}
                    todo.append((child, self._select(child, _renamed(back, fresh))))

    def add(self, node: str, restrictions: list[dict[str, Any]]) -> None:
        """Add rows without what was made of them."""
        self._add(node, self._select(node, restrictions))

    def ascend(self) -> None:
        """Add what the rows refer to, until nothing new is referred to."""
        done: dict[str, set[tuple]] = {}
        while True:
            fresh = {
                node: [row for key, row in rows.items() if key not in done.get(node, set())]
                for node, rows in self.keys.items()
            }
            fresh = {node: rows for node, rows in fresh.items() if rows}
            if not fresh:
                return
            for node, rows in fresh.items():
                done.setdefault(node, set()).update(self._key(node, row) for row in rows)
                for parent, columns in self.graph.parents(node):
                    self._add(parent, self._select(parent, _renamed(columns, rows)))
                for child, columns in self.graph.children(node):
                    if master_of(child) == node:
                        back = {theirs: ours for ours, theirs in columns.items()}
                        self._add(child, self._select(child, _renamed(back, rows)))

    def ordered(self) -> list[str]:
        """Return the tables that have rows, parents first."""
        return [node for node in self.graph.in_order() if self.keys.get(node)]

    def _inside(self, node: str) -> bool:
        return node.split(".")[0].strip('`"') in self.databases

    def _table(self, node: str) -> dj.FreeTable:
        if node not in self._tables:
            self._tables[node] = dj.FreeTable(self.connection, node)
        return self._tables[node]

    def _layout(self, node: str) -> tuple[list[str], list[str]]:
        """Return the primary key of a table, and the columns of its foreign keys."""
        if node not in self._columns:
            primary = list(self._table(node).primary_key)
            used = {name for _, columns in self.graph.parents(node) for name in columns}
            used |= {name for _, columns in self.graph.children(node) for name in columns.values()}
            self._columns[node] = (primary, sorted(used - set(primary)))
        return self._columns[node]

    def _key(self, node: str, row: Mapping[str, Any]) -> tuple:
        return tuple(row[name] for name in self._layout(node)[0])

    def _add(self, node: str, rows: Iterable[dict[str, Any]]) -> None:
        known = self.keys.setdefault(node, {})
        for row in rows:
            known.setdefault(self._key(node, row), row)

    def _select(self, node: str, restrictions: list[dict[str, Any]]) -> list[dict[str, Any]]:
        query = self._table(node).proj(*self._layout(node)[1])
        found = []
        for start in range(0, len(restrictions), CHUNK):
            found += (query & restrictions[start : start + CHUNK]).to_dicts()
        return found


def _renamed(columns: Mapping[str, str], rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the different values of some columns under other names, without those with a null."""
    found = {}
    for row in rows:
        values = {up: row[ours] for ours, up in columns.items()}
        if None not in values.values():
            found[tuple(values.values())] = values
    return list(found.values())
