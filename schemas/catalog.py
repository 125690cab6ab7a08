"""What a server holds of some schemas, asked at once: DataJoint asks six times for every table."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from schemas.datajoint_internals import answered, backend, quoted

if TYPE_CHECKING:
    from datajoint import Connection

Rows = dict[tuple[str, str], list[dict[str, Any]]]

_OF = "table_schema AS schema_name, table_name AS of_table"
_POSTGRES = {
    "tables": f"""
        SELECT {_OF}, t.*, obj_description(
          (quote_ident(table_schema) || '.' || quote_ident(table_name))::regclass, 'pg_class'
        ) AS table_comment FROM information_schema.tables t WHERE table_schema IN ({{}})""",
    "columns": f"""
        SELECT {_OF}, column_name, data_type, udt_name, is_nullable, column_default,
          character_maximum_length, numeric_precision, numeric_scale, col_description(
            (quote_ident(table_schema) || '.' || quote_ident(table_name))::regclass,
            ordinal_position::int
          ) AS column_comment
        FROM information_schema.columns WHERE table_schema IN ({{}}) ORDER BY ordinal_position""",
    "keys": f"""
        SELECT {_OF}, column_name FROM information_schema.key_column_usage
        JOIN information_schema.table_constraints
        USING (constraint_schema, constraint_name, table_schema, table_name)
        WHERE table_schema IN ({{}}) AND constraint_type = 'PRIMARY KEY'
        ORDER BY ordinal_position""",
    "indexes": """
        SELECT schemaname AS schema_name, tablename AS of_table, indexname, indexdef
        FROM pg_indexes WHERE schemaname IN ({})""",
}
_MYSQL = {
    "tables": f"""
        SELECT {_OF}, t.* FROM information_schema.tables t WHERE table_schema IN ({{}})""",
    "columns": f"""
        SELECT {_OF}, column_name AS `Field`, column_type AS `Type`, collation_name AS `Collation`,
          is_nullable AS `Null`, column_key AS `Key`, column_default AS `Default`,
          extra AS `Extra`, `privileges` AS `Privileges`, column_comment AS `Comment`
        FROM information_schema.columns WHERE table_schema IN ({{}}) ORDER BY ordinal_position""",
    "keys": f"""
        SELECT {_OF}, column_name AS column_name FROM information_schema.key_column_usage
        WHERE table_schema IN ({{}}) AND constraint_name = 'PRIMARY' ORDER BY ordinal_position""",
    "indexes": f"""
        SELECT {_OF}, index_name AS index_name, column_name AS column_name,
          non_unique AS non_unique, seq_in_index AS seq_in_index
        FROM information_schema.statistics
        WHERE table_schema IN ({{}}) AND index_name != 'PRIMARY'
        ORDER BY index_name, seq_in_index""",
}
_LINEAGES = "SELECT '' AS schema_name, table_name AS of_table, attribute_name, lineage FROM {}"


@contextlib.contextmanager
def read_at_once(connection: Connection, databases: Sequence[str]) -> Iterator[None]:
    """Answer what DataJoint asks about tables from a few queries, while a block uses them.

    A table that is not there is asked of the server, and from the first statement that changes
    something on, everything is.

    Parameters
    ----------
    connection : datajoint.Connection
        Its server is asked once for every kind of question that comes up.
    databases : sequence of str
        Names of the schemas to read.
    """
    with answered(connection, _Catalog(connection, databases)):
        yield


class _Catalog:
    """Rows of the server's catalog by schema and table, read when they are first asked for."""

    def __init__(self, connection: Connection, databases: Sequence[str]) -> None:
        self._ask, self._databases = connection.query, tuple(databases)
        self._connection = connection
        self._queries = _POSTGRES if backend(connection) == "postgresql" else _MYSQL
        self._rows: dict[str, Rows] = {}

    def rows(self, kind: str) -> Rows:
        if kind not in self._rows:
            read = self._lineages if kind == "lineages" else self._read
            self._rows[kind] = read(kind)
        return self._rows[kind]

    def _read(self, kind: str) -> Rows:
        marks = ", ".join(["%s"] * len(self._databases))
        return self._by_table(self._queries[kind].format(marks), self._databases)

    def _lineages(self, kind: str) -> Rows:
        found: Rows = {}
        for name in self._databases:
            if (name, "~lineage") in self.rows("tables"):
                table = quoted(self._connection, name, "~lineage")
                for place, rows in self._by_table(_LINEAGES.format(table), ()).items():
                    found[name, place[1]] = rows
        return found

    def _by_table(self, query: str, args: tuple) -> Rows:
        cursor = self._ask(query, args)
        names = [column[0] for column in cursor.description][2:]
        found: Rows = {}
        for database, table, *values in cursor.fetchall():
            found.setdefault((database, table), []).append(dict(zip(names, values, strict=True)))
        return found
