"""Rows as the server has them, in and out of JSON: what a codec stores stays what it is."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Mapping
from typing import Any

import datajoint as dj

from workers.database.datajoint_internals import json_columns, quoter, stored_columns
from workers.database.server import insert_new_sql

CHUNK = 500  # rows of one statement


class RawTable:
    """A table whose rows are read and written without codecs.

    Parameters
    ----------
    connection : dj.Connection
    node : str
        Full name in the database.
    """

    def __init__(self, connection: dj.Connection, node: str) -> None:
        self.connection, self.node = connection, node
        self._table = dj.FreeTable(connection, node)
        heading = self._table.heading
        self.names, self.primary = list(heading.names), list(heading.primary_key)
        self._stored = dict(stored_columns(self._table))
        self._json = json_columns(self._table)

    def rows(self, keys: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the rows with some primary keys, as JSON can hold them, in order of the key."""
        found = []
        for start in range(0, len(keys), CHUNK):
            query = self._table & keys[start : start + CHUNK]
            found += list(query.cursor(as_dict=True))
        rows = [{name: self._plain(name, row[name]) for name in self.names} for row in found]
        return sorted(rows, key=lambda row: json.dumps([row[name] for name in self.primary]))

    def paths(self, rows: Iterable[Mapping[str, Any]]) -> dict[str, str | None]:
        """Return the files of the store that rows refer to, and the digests that they hold."""
        return {
            path: row[column].get("digest")
            for row in rows
            for column, paths_of in self._stored.items()
            if row[column] is not None
            for path, _ in paths_of(row[column])
        }

    def insert(self, rows: list[dict[str, Any]]) -> None:
        """Insert rows whose keys are not there yet."""
        quote = quoter(self.connection)
        columns = ", ".join(map(quote, self.names))
        place = f"({', '.join(['%s'] * len(self.names))})"
        for start in range(0, len(rows), CHUNK):
            chunk = rows[start : start + CHUNK]
            sql = insert_new_sql(
                self.connection, self.node, columns, ", ".join([place] * len(chunk))
            )
            values = [self._sent(name, row[name]) for row in chunk for name in self.names]
            self.connection.query(sql, values)

    def _plain(self, name: str, value: Any) -> Any:
        if name in self._json and isinstance(value, (str, bytes)):
            return json.loads(value)
        if isinstance(value, (datetime.datetime, datetime.date)):
            return value.isoformat()
        return value

    def _sent(self, name: str, value: Any) -> Any:
        return json.dumps(value) if name in self._json and value is not None else value
