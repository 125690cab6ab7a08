"""Bring the tables of an older version up to this code's, without touching what they hold.

What is missing, a table or a column that may be empty or has a default, follows from the
definitions and is added first; so does a column that may be empty from now on. Whatever else a
release changes (a column renamed, values rewritten) is a `Step` of `STEPS`, and
`schema_version.SCHEMA_VERSION` goes up with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import datajoint as dj

from pipeline.errors import DataError
from schemas.clock import to_utc
from schemas.stored import identity
from workers.database import opening, schema_version, server, table_content, variant_keys
from workers.database.datajoint_internals import (
    backend,
    column_comment_sql,
    declaration,
    declare,
    quoter,
)
from workers.insight import status
from workers.queue import order, tables
from workers.queue.lease import Ledger


@dataclass(frozen=True)
class Step:
    """What a release changes beyond what it adds.

    Parameters
    ----------
    version : int
        Version of the tables after it.
    title : str
        What it does, for a person.
    statements : callable
        From connection and prefix to the SQL that is still to run: none once it has run, so that a
        migration that was killed can be started again.
    changes : set of str
        Columns, as `stage.table.column`, that the statements add, drop or give other values.
    """

    version: int
    title: str
    statements: Callable[[dj.Connection, str], Sequence[str]] = lambda *_: ()
    changes: frozenset[str] = frozenset()


def _deadlines_in_utc(connection: dj.Connection, prefix: str) -> list[str]:
    """Bring deadlines from local time of this machine to UTC, in a column of another name."""
    found = connection.query(
        "SELECT 1 FROM information_schema.columns WHERE table_schema=%s AND table_name='loop' "
        "AND column_name='deadline'",
        (f"{prefix}_closed_loop",),
    ).fetchone()
    if found is None:
        return []
    quote = quoter(connection)
    table = f"{quote(prefix + '_closed_loop')}.{quote('loop')}"
    rows = connection.query(
        f"SELECT DISTINCT deadline FROM {table} WHERE deadline IS NOT NULL ORDER BY deadline"
    ).fetchall()
    moved = [
        f"UPDATE {table} SET deadline_utc='{to_utc(local)}' "
        f"WHERE deadline='{local}' AND deadline_utc IS NULL"
        for (local,) in rows
    ]
    return [*moved, f"ALTER TABLE {table} DROP COLUMN deadline"]


STEPS = (
    Step(1, "write the version of the tables into the database"),
    Step(2, "have a shared duty name who holds it"),
    Step(
        3,
        "number a unit's images of one kind (variant), and let a kind have 64 characters",
        variant_keys.statements,
        variant_keys.CHANGES,
    ),
    Step(4, "leave empty what was not measured, and choose whose pairs a verdict reads"),
    Step(
        5,
        "have deadlines in UTC; until now they were local time, and are taken as this machine's",
        _deadlines_in_utc,
        frozenset({"closed_loop.loop.deadline"}),
    ),
    Step(6, "keep what was found in the files of a scan, and why the eye was not seen"),
    Step(7, "keep what people decide about cells as targets, and which loops are stopped"),
    Step(8, "keep why no cell of a field is found again"),
    Step(9, "keep what is expected of a target without noise, and how well its contrast is known"),
    Step(10, "let database, store and home know each other, and keep digests of raw files"),
)


def look(
    connection: dj.Connection, prefix: str, source: str, steps: Sequence[Step] = STEPS
) -> dict[str, Any]:
    """Find out what a migration would do; nothing is changed.

    Parameters
    ----------
    connection : dj.Connection
        With this pipeline's tables bound to it, see `bind`.
    prefix, source : str
        Prefix of the database schemas and module of the tables.
    steps : sequence of Step
        What the releases changed.

    Returns
    -------
    dict
        `found` and `expected`, versions; `tables`, names of missing ones; `columns`, missing ones
        as `name` and `sql`; `steps`, those to come as `version, title, sql`; `problems`, what
        stands in the way, each in one line.
    """
    present = _present(connection, prefix)
    wanted = steps[-1].version
    if present.version > wanted:
        schema_version.check(connection, prefix)
    due = [step for step in steps if step.version > present.version]
    handled = frozenset().union(*(step.changes for step in due))
    missing, columns, problems = [], [], []
    for name, table in every_table(source):
        if not table().is_declared:
            missing.append(name)
            continue
        more, wrong = _compare(connection, prefix, name, table(), handled)
        columns += more
        problems += wrong
    return {
        "found": present.version,
        "expected": wanted,
        "tables": missing,
        "columns": columns,
        "steps": [
            {"version": s.version, "title": s.title, "sql": list(s.statements(connection, prefix))}
            for s in due
        ],
        "problems": problems,
    }


def migrate(
    connection: dj.Connection,
    prefix: str,
    source: str,
    steps: Sequence[Step] = STEPS,
    *,
    despite_workers: bool = False,
) -> dict[str, Any]:
    """Add what is missing, take the steps and write the version down; see `look`.

    Parameters
    ----------
    connection, prefix, source, steps
        See `look`.
    despite_workers : bool
        Go on although workers have been seen in the last two minutes.

    Returns
    -------
    dict
        Of `look`, and `compared`: tables and rows found unchanged.

    Raises
    ------
    DataError
        Before anything is changed, if it could not end well; or if rows differ afterwards.
    """
    with server.exclusive(connection, f"{prefix}_declare"):
        found = look(connection, prefix, source, steps)
        if found["problems"]:
            raise DataError(
                f"{len(found['problems'])} differences that no step of this code removes",
                found=found["problems"][0],
                remedy="see all with --dry-run",
            )
        if not despite_workers:
            _refuse_workers(Ledger(connection), prefix)
        changed = frozenset().union(
            *(step.changes for step in steps if step.version > found["found"])
        )
        kept = table_content.columns(connection, prefix, leave_out=changed)
        before = table_content.digests(connection, kept)
        absent = set(found["tables"])
        for name, table in every_table(source):
            if name in absent:
                declare(table)
        for statement in (sql for column in found["columns"] for sql in column["sql"]):
            connection.query(statement)
        for step in steps:
            if step.version > found["found"]:
                # PostgreSQL takes a step as a whole or not at all; MySQL commits every statement
                with connection.transaction:
                    for statement in step.statements(connection, prefix):
                        connection.query(statement)
                    schema_version.record(connection, prefix, step.version)
        after = table_content.digests(connection, kept)
        own = f"{prefix}_workers.schema_version"
        differing = sorted(name for name in before if name != own and before[name] != after[name])
        if differing:
            raise DataError(
                f"rows of {len(differing)} tables have changed",
                found=", ".join(differing[:3]),
                remedy="restore the backup",
            )
    rows = sum(count for name, (count, _) in after.items() if name != own)
    return {**found, "compared": {"tables": len(after) - (own in after), "rows": rows}}


def bind(connection: dj.Connection, prefix: str, source: str) -> None:
    """Bind the tables of a pipeline to a database of whatever version, making none."""
    _present(connection, prefix)
    with opening.without_declaring():
        order.load(source, prefix)
        tables.activate(prefix, connection)
    identity.learn(connection, prefix)


def _present(connection: dj.Connection, prefix: str) -> schema_version.Installed:
    found = schema_version.installed(connection, prefix)
    if found is None:
        raise LookupError(f"no tables have the prefix {prefix}; `inception declare` makes them")
    return found


def every_table(source: str) -> list[tuple[str, type]]:
    """Return name (`stage.Table` or `stage.Table.Part`) and class of all tables, parts last."""
    named = [*order.tables_of(source), *(("workers." + t.__name__, t) for t in tables.ALL)]
    found = []
    for name, table in named:
        found.append((name, table))
        parts = (item for item in vars(table).values() if isinstance(item, type))
        found += [(f"{name}.{p.__name__}", p) for p in parts if issubclass(p, dj.Part)]
    return found


def _compare(
    connection: dj.Connection, prefix: str, name: str, table: Any, handled: frozenset[str]
) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the columns to add to a table, and what cannot be added."""
    there = connection.query(
        "SELECT column_name, is_nullable, column_default FROM information_schema.columns "
        "WHERE table_schema=%s AND table_name=%s",
        (table.database, table.table_name),
    ).fetchall()
    place = f"{table.database[len(prefix) + 1 :]}.{table.table_name}"
    try:
        asked = declaration(table, connection)
    except dj.errors.DataJointError as error:
        return [], [f"{name}: {' '.join(str(error).split())}"]
    wanted = {re.match(r"\s*[`\"]([^`\"]+)", line).group(1): line for line in asked.lines}
    columns, problems = [], []
    for column in sorted(set(wanted) - {row[0] for row in there}):
        if f"{place}.{column}" in handled:
            continue
        line = wanted[column].strip()
        required = "NOT NULL" in line and "DEFAULT" not in line
        if column in asked.key or (required and len(table)):
            why = "in the primary key" if column in asked.key else "required"
            problems.append(f"{name}.{column}: found no such column; it is {why}: it needs a step")
            continue
        sql = [f"ALTER TABLE {table.full_table_name} ADD COLUMN {line}"]
        comment = column in asked.comments and column_comment_sql(
            connection, table.full_table_name, column, asked.comments[column]
        )
        columns.append({"name": f"{name}.{column}", "sql": [*sql, comment] if comment else sql})
    for column, nullable, _ in there:
        line = wanted.get(column, "NOT NULL").strip()
        if nullable == "NO" and "NOT NULL" not in line and f"{place}.{column}" not in handled:
            change = f"MODIFY COLUMN {line}"
            if backend(connection) == "postgresql":
                change = f'ALTER COLUMN "{column}" DROP NOT NULL'
            sql = [f"ALTER TABLE {table.full_table_name} {change}"]
            columns.append({"name": f"{name}.{column}, empty", "sql": sql})
    for column, nullable, default in there:
        free = nullable == "YES" or default is not None or column.startswith("_")
        if column not in wanted and not free and f"{place}.{column}" not in handled:
            problems.append(f"{name}.{column}: found a required column that this code never fills")
    return columns, problems


def _refuse_workers(ledger: Ledger, prefix: str) -> None:
    alive = status.workers(ledger)
    if alive:
        names = ", ".join(f"{worker['host']}:{worker['pid']}" for worker in alive[:3])
        raise DataError(
            f"{len(alive)} workers are at work on {prefix}",
            found=names,
            expected="none",
            remedy="stop them; those killed count as gone two minutes later (--despite-workers)",
        )
