"""A step of the tables: a variant in the key of every stimulus, and room for longer kinds.

All that is there becomes the first image of its kind, variant 0. What is still to do follows from
what the database has, so that a migration that was killed goes on where it was.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import datajoint as dj

from workers.database.datajoint_internals import backend, quoter
from workers.queue.claims import canonical, job_id

COMMENT = ":int16:which of a unit's images of this kind, from 0"
OWN_COMMENT = ":int16:which of the unit's images of this kind, from 0"
FIRST_COMMENT = ":int16:which of the unit's images of that kind, from 0"
ORIGIN = ("mei", "control_task")

REFERENCES = {
    ("mei", "control_task__pool"): [("mei", "control_task")],
    ("mei", "__control"): [("mei", "control_task")],
    ("mei", "__control__unit"): [("mei", "__control")],
    ("mei", "display_task"): [("mei", "control_task")],
    ("mei", "__display"): [("mei", "display_task"), ("mei", "__control")],
    ("mei", "__display__image"): [("mei", "__display")],
    ("closed_loop", "plan_task__display"): [("mei", "display_task")],
    ("closed_loop", "__plan__source"): [("mei", "__display")],
}
"""Tables that inherit the variant of a stimulus, and those they have it from."""

OWN = {
    ("closed_loop", "__plan__target"): OWN_COMMENT,
    ("closed_loop", "__outcome__unit"): OWN_COMMENT,
    ("closed_loop", "__comparison__unit"): OWN_COMMENT,
    ("closed_loop", "__population__kind"): COMMENT,
    ("closed_loop", "__confusion__kind"): COMMENT,
    ("closed_loop", "__prediction__kind"): COMMENT,
    ("closed_loop", "__sensitivity__threshold"): COMMENT,
    ("closed_loop", "__arousal_control__kind"): COMMENT,
    ("closed_loop", "__pooled_outcome__kind"): COMMENT,
}
"""Tables that have a variant beside a kind in their key, and what it says of it."""

IMAGE = ("closed_loop", "__plan__image")  # beside its kind, outside of the key
KEYED = (ORIGIN, *REFERENCES, *OWN)
WIDER = {
    **{(*table, "kind"): 64 for table in (("mei", "__control"), ("mei", "__display__image"), *OWN)},
    (*IMAGE, "kind"): 64,
    ("closed_loop", "__comparison", "reference"): 80,
}
RENAMED_JOBS = ("mei.Control", "mei.Display")
CHANGES = frozenset(
    [f"{stage}.{table}.variant" for stage, table in (*KEYED, IMAGE)]
    + [f"workers.{table}.{name}" for table in ("job", "attempt") for name in ("job_id", "job_key")]
)


def statements(connection: dj.Connection, prefix: str) -> list[str]:
    """Return the SQL that a database still needs; none once it has a variant everywhere."""
    return _Keys(connection, prefix).statements()


@dataclass(frozen=True)
class _Column:
    length: int | None  # longest text
    comment: str | None
    default: Any


class _Keys:
    """Columns and keys of the tables as they are, and the way to what they shall be."""

    def __init__(self, connection: dj.Connection, prefix: str) -> None:
        self.connection, self.prefix = connection, prefix
        self.quote = quoter(connection)
        self.mysql = backend(connection) == "mysql"
        self.columns = self._columns()
        self.keys, self.links = self._constraints()

    def statements(self) -> list[str]:
        tables = [table for table in KEYED if table in self.columns]
        links = [
            (child, parent)
            for child, parents in REFERENCES.items()
            for parent in parents
            if child in self.columns and parent in self.columns
        ]
        sql: list[str] = []
        for child, parent in links:
            name, columns = self.links.get((child, parent), (None, ()))
            if name is not None and "variant" not in columns:
                word = "FOREIGN KEY" if self.mysql else "CONSTRAINT"
                sql.append(f"ALTER TABLE {self._name(child)} DROP {word} {self.quote(name)}")
        for table in tables:
            sql += self._column(table, self._comment(table), required=True)
            sql += self._key(table)
        if IMAGE in self.columns:
            sql += self._column(IMAGE, FIRST_COMMENT, required=False)
        for child, parent in links:
            if "variant" not in self.links.get((child, parent), (None, ()))[1]:
                sql += self._link(child, parent)
        sql += [
            line
            for (stage, table, column), length in WIDER.items()
            if (stage, table) in self.columns
            for line in self._wider((stage, table), column, length)
        ]
        return [*sql, *self._lineage(), *self._jobs()]

    def _comment(self, table: tuple[str, str]) -> str | None:
        """Return what DataJoint has of the column: its type is told where it is declared."""
        if table in OWN or table == ORIGIN:
            return OWN.get(table, COMMENT)
        return COMMENT.removeprefix(":int16:") if self.mysql else None

    def _column(self, table: tuple[str, str], comment: str | None, *, required: bool) -> list[str]:
        """Return the SQL that adds the column, as its declaration would have it."""
        name, column = self._name(table), self.quote("variant")
        text = (comment or "").replace("'", "''")
        there = self.columns[table].get("variant")
        sql = []
        if there is None:
            line = f"ALTER TABLE {name} ADD COLUMN {column} smallint NOT NULL DEFAULT '0'"
            if self.mysql:
                line += f" COMMENT '{text}' AFTER {self.quote(self._before(self.columns[table]))}"
            sql.append(line)
        if required and (there is None or there.default is not None):
            sql.append(f"ALTER TABLE {name} ALTER COLUMN {column} DROP DEFAULT")
        if not self.mysql and (there.comment if there else None) != comment:
            sql.append(f"COMMENT ON COLUMN {name}.{column} IS '{text}'")
        return sql

    def _key(self, table: tuple[str, str]) -> list[str]:
        """Return the SQL that takes the column into the primary key."""
        constraint, columns = self.keys[table]
        if "variant" in columns:
            return []
        drop = "PRIMARY KEY" if self.mysql else f"CONSTRAINT {self.quote(constraint)}"
        listed = self._listed(self._with_variant(columns))
        return [f"ALTER TABLE {self._name(table)} DROP {drop}, ADD PRIMARY KEY ({listed})"]

    def _link(self, child: tuple[str, str], parent: tuple[str, str]) -> list[str]:
        """Return the SQL of the foreign key, and of its index where the server makes none."""
        before = [name for name in self.keys[parent][1] if name != "variant"]
        columns = self._listed(self._with_variant(before))
        sql = [
            f"ALTER TABLE {self._name(child)} ADD FOREIGN KEY ({columns}) "
            f"REFERENCES {self._name(parent)} ({columns}) ON UPDATE CASCADE ON DELETE RESTRICT"
        ]
        if not self.mysql:
            for index in self._indexes(child, before):
                schema = self.quote(f"{self.prefix}_{child[0]}")
                sql.append(f"DROP INDEX {schema}.{self.quote(index)}")
                sql.append(f"CREATE INDEX {self.quote(index)} ON {self._name(child)} ({columns})")
        return sql

    def _wider(self, table: tuple[str, str], column: str, length: int) -> list[str]:
        found = self.columns[table].get(column)
        if found is None or found.length is None or found.length >= length:
            return []
        name, quoted = self._name(table), self.quote(column)
        if self.mysql:
            text = found.comment.replace("'", "''")
            return [
                f"ALTER TABLE {name} MODIFY COLUMN {quoted} varchar({length}) NOT NULL "
                f"COMMENT '{text}'"
            ]
        return [f"ALTER TABLE {name} ALTER COLUMN {quoted} TYPE varchar({length})"]

    def _lineage(self) -> list[str]:
        """Return the SQL that tells DataJoint where the attribute comes from."""
        sql = []
        for stage in dict.fromkeys(stage for stage, _ in KEYED):
            database = f"{self.prefix}_{stage}"
            if not self._rows(
                "SELECT 1 FROM information_schema.tables WHERE table_schema=%s "
                "AND table_name='~lineage'",
                database,
            ):
                continue
            table = f"{self.quote(database)}.{self.quote('~lineage')}"
            known = {
                row[0]
                for row in self._rows(
                    f"SELECT table_name FROM {table} WHERE attribute_name='variant'"
                )
            }
            for place in KEYED:
                if place[0] != stage or place not in self.columns or place[1] in known:
                    continue
                source = (
                    ".".join((database, place[1]))
                    if place in OWN
                    else (f"{self.prefix}_{ORIGIN[0]}.{ORIGIN[1]}")
                )
                sql.append(
                    f"INSERT INTO {table} (table_name, attribute_name, lineage) "
                    f"VALUES ('{place[1]}', 'variant', '{source}.variant')"
                )
        return sql

    def _jobs(self) -> list[str]:
        """Return the SQL that names jobs and attempts by the longer keys."""
        sql = []
        for table in ("job", "attempt"):
            name = self._name(("workers", table))
            marks = ", ".join(f"'{task}'" for task in RENAMED_JOBS)
            if not self._rows(
                "SELECT 1 FROM information_schema.tables WHERE table_schema=%s AND table_name=%s",
                f"{self.prefix}_workers",
                table,
            ):
                continue
            rows = self._rows(
                f"SELECT DISTINCT job_id, table_name, job_key FROM {name} "
                f"WHERE table_name IN ({marks}) ORDER BY job_id"
            )
            for job, task, text in rows:
                key = json.loads(text)
                if "variant" in key:
                    continue
                longer = canonical({**key, "variant": 0})
                escaped = longer.replace("'", "''")
                sql.append(
                    f"UPDATE {name} SET job_id='{job_id(task, longer)}', job_key='{escaped}' "
                    f"WHERE job_id='{job}'"
                )
        return sql

    def _before(self, columns: Any) -> str:
        return "control_hash" if "control_hash" in columns else "kind"

    def _with_variant(self, columns: Sequence[str]) -> list[str]:
        place = list(columns).index(self._before(columns)) + 1
        return [*columns[:place], "variant", *columns[place:]]

    def _listed(self, columns: Sequence[str]) -> str:
        return ", ".join(map(self.quote, columns))

    def _name(self, table: tuple[str, str]) -> str:
        return f"{self.quote(f'{self.prefix}_{table[0]}')}.{self.quote(table[1])}"

    def _rows(self, sql: str, *values: str) -> list[tuple]:
        return self.connection.query(sql, values).fetchall()

    def _stages(self) -> tuple[str, ...]:
        return tuple(f"{self.prefix}_{stage}" for stage in dict.fromkeys(s for s, _ in KEYED))

    def _columns(self) -> dict[tuple[str, str], dict[str, _Column]]:
        """Return of every table its columns in order."""
        comment = "column_comment"
        if not self.mysql:
            comment = (
                "col_description(format('%%I.%%I', table_schema, table_name)::regclass, "
                "ordinal_position)"
            )
        found: dict[tuple[str, str], dict[str, _Column]] = {}
        for database in self._stages():
            rows = self._rows(
                f"SELECT table_name, column_name, character_maximum_length, {comment}, "
                "column_default FROM information_schema.columns WHERE table_schema=%s "
                "ORDER BY table_name, ordinal_position",
                database,
            )
            stage = database[len(self.prefix) + 1 :]
            for table, column, length, text, default in rows:
                found.setdefault((stage, table), {})[column] = _Column(length, text, default)
        return found

    def _constraints(self) -> tuple[dict, dict]:
        """Return primary keys by table, and foreign keys by child and parent: name, columns."""
        if self.mysql:
            sql = (
                "SELECT table_schema, table_name, constraint_name, referenced_table_schema, "
                "referenced_table_name, column_name FROM information_schema.key_column_usage "
                "WHERE table_schema=%s AND (constraint_name='PRIMARY' OR referenced_table_name "
                "IS NOT NULL) ORDER BY 1, 2, 3, ordinal_position"
            )
        else:
            sql = (
                "SELECT n.nspname, c.relname, k.conname, fn.nspname, f.relname, a.attname "
                "FROM pg_constraint k JOIN pg_class c ON c.oid=k.conrelid "
                "JOIN pg_namespace n ON n.oid=c.relnamespace "
                "LEFT JOIN pg_class f ON f.oid=k.confrelid "
                "LEFT JOIN pg_namespace fn ON fn.oid=f.relnamespace "
                "CROSS JOIN LATERAL unnest(k.conkey) WITH ORDINALITY AS u(num, place) "
                "JOIN pg_attribute a ON a.attrelid=k.conrelid AND a.attnum=u.num "
                "WHERE n.nspname=%s AND k.contype IN ('p', 'f') ORDER BY 1, 2, 3, u.place"
            )
        keys: dict = {}
        links: dict = {}
        for schema in self._stages():
            for database, table, name, other, parent, column in self._rows(sql, schema):
                here = (database[len(self.prefix) + 1 :], table)
                if parent is None:
                    keys.setdefault(here, (name, []))[1].append(column)
                else:
                    there = (other[len(self.prefix) + 1 :], parent)
                    links.setdefault((here, there), (name, []))[1].append(column)
        return keys, links

    def _indexes(self, table: tuple[str, str], columns: Sequence[str]) -> list[str]:
        """Return the indexes of a table, besides its key, on exactly these columns (PostgreSQL)."""
        rows = self._rows(
            "SELECT i.relname, a.attname FROM pg_index x JOIN pg_class i ON i.oid=x.indexrelid "
            "JOIN pg_class c ON c.oid=x.indrelid JOIN pg_namespace n ON n.oid=c.relnamespace "
            "CROSS JOIN LATERAL unnest(x.indkey) WITH ORDINALITY AS u(num, place) "
            "JOIN pg_attribute a ON a.attrelid=c.oid AND a.attnum=u.num "
            "WHERE n.nspname=%s AND c.relname=%s AND NOT x.indisprimary ORDER BY 1, u.place",
            f"{self.prefix}_{table[0]}",
            table[1],
        )
        found: dict[str, list[str]] = {}
        for index, column in rows:
            found.setdefault(index, []).append(column)
        return [index for index, names in found.items() if names == list(columns)]
