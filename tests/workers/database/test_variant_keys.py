"""A database of version 2 of the tables gets its variants, keeps its rows and equals a new one."""

import json
import os
import subprocess
import sys
import uuid

import datajoint as dj
import pytest

from workers.database import schema_version, table_content, variant_keys
from workers.database.schema_version import SCHEMA_VERSION
from workers.queue.claims import canonical, job_id

pytestmark = pytest.mark.tables

BEFORE = 2  # version of the tables
NARROW = {key: 16 for key in variant_keys.WIDER}


def inception(home, prefix, *arguments):
    command = [sys.executable, "-m", "workers.cli", *arguments, "--prefix", prefix]
    done = subprocess.run(
        [*command, "--home", str(home)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def deployment(_bound):
    """A freshly declared deployment of its own prefix: connection, prefix, home."""
    from workers.database import embedded

    _, home, _ = _bound
    embedded.connect(home)
    prefix = "v" + uuid.uuid4().hex[:8]
    code, said = inception(home, prefix, "declare")
    assert code == 0, said
    yield dj.conn(), prefix, home
    embedded.connect(home)
    from schemas import MODULES

    for stage in ("workers", *reversed(MODULES)):
        dj.Schema(f"{prefix}_{stage}").drop(prompt=False)


def described(connection, prefix):
    """Return columns, keys, foreign keys and lineage of all tables, in no order of place."""
    found = variant_keys._Keys(connection, prefix)
    rows = connection.query(
        "SELECT table_schema, table_name, column_name, data_type, is_nullable, column_default, "
        "character_maximum_length FROM information_schema.columns "
        "WHERE table_schema IN (%s, %s)",
        (f"{prefix}_mei", f"{prefix}_closed_loop"),
    ).fetchall()
    quote = connection.adapter.quote_identifier
    lineage = [
        row
        for stage in ("mei", "closed_loop")
        for row in connection.query(
            f"SELECT table_name, attribute_name, lineage FROM "
            f"{quote(f'{prefix}_{stage}')}.{quote('~lineage')}"
        ).fetchall()
    ]
    return {
        "columns": sorted(map(str, rows)),
        "keys": {table: columns for table, (_, columns) in found.keys.items()},
        "links": {pair: columns for pair, (_, columns) in found.links.items()},
        "lineage": sorted(map(str, lineage)),
        "comments": {
            table: columns["variant"].comment
            for table, columns in found.columns.items()
            if "variant" in columns
        },
        "indexes": {
            table: [found._indexes(table, found.keys[parent][1]) for parent in parents]
            for table, parents in variant_keys.REFERENCES.items()
        }
        if not found.mysql
        else {},
    }


def differences(one, two):
    """Return what either description has that the other lacks."""
    return {
        name: sorted(set(map(str, listed(one[name]))) ^ set(map(str, listed(two[name]))))
        for name in one
        if one[name] != two[name]
    }


def listed(part):
    return part.items() if isinstance(part, dict) else part


def without(columns):
    return [name for name in columns if name != "variant"]


def made_older(connection, prefix):
    """Take the variants out of all keys and tables, and make the kinds short again."""
    found = variant_keys._Keys(connection, prefix)
    run, quote = connection.query, found.quote
    links = [
        (pair, name, columns)
        for pair, (name, columns) in found.links.items()
        if "variant" in columns
    ]
    for (child, _), name, _ in links:
        word = "FOREIGN KEY" if found.mysql else "CONSTRAINT"
        run(f"ALTER TABLE {found._name(child)} DROP {word} {quote(name)}")
    for table in variant_keys.KEYED:
        name, columns = found.keys[table]
        drop = "PRIMARY KEY" if found.mysql else f"CONSTRAINT {quote(name)}"
        listed = found._listed(without(columns))
        run(f"ALTER TABLE {found._name(table)} DROP {drop}, ADD PRIMARY KEY ({listed})")
    for (child, parent), _, columns in links:
        listed = found._listed(without(columns))
        run(
            f"ALTER TABLE {found._name(child)} ADD FOREIGN KEY ({listed}) REFERENCES "
            f"{found._name(parent)} ({listed}) ON UPDATE CASCADE ON DELETE RESTRICT"
        )
        if not found.mysql:
            for index in found._indexes(child, columns):
                schema = quote(f"{prefix}_{child[0]}")
                run(f"DROP INDEX {schema}.{quote(index)}")
                run(f"CREATE INDEX {quote(index)} ON {found._name(child)} ({listed})")
    for table in (*variant_keys.KEYED, variant_keys.IMAGE):
        run(f"ALTER TABLE {found._name(table)} DROP COLUMN {quote('variant')}")
    for (stage, table, column), length in NARROW.items():
        change = f"MODIFY COLUMN {quote(column)} varchar({length}) NOT NULL COMMENT ':x:y'"
        if not found.mysql:
            change = f"ALTER COLUMN {quote(column)} TYPE varchar({length})"
        run(f"ALTER TABLE {found._name((stage, table))} {change}")
    for stage in ("mei", "closed_loop"):
        lineage = f"{quote(f'{prefix}_{stage}')}.{quote('~lineage')}"
        run(f"DELETE FROM {lineage} WHERE attribute_name='variant'")
    run(f"DELETE FROM {found._name(('workers', 'schema_version'))}")
    schema_version.record(connection, prefix, BEFORE)


class Every(variant_keys._Keys):
    """Keys of the tables of all stages."""

    def _stages(self):
        from schemas import MODULES

        return tuple(f"{self.prefix}_{stage}" for stage in MODULES)

    def above(self, tables):
        """Return tables and all that they refer to, however far."""
        found, waiting = set(), list(tables)
        while waiting:
            table = waiting.pop()
            if table not in found:
                found.add(table)
                waiting += [parent for child, parent in self.links if child == table]
        return sorted(found)


def value(column, type_, row):
    """Return what a row of that number has: the same in all tables, so that its keys are met."""
    if column == "kind":
        return ("mei", "rf")[row]
    if type_ in ("json", "jsonb"):
        return "{}"
    if type_ in ("date", "datetime") or type_.startswith("timestamp"):
        return f"2026-01-0{row + 1}"
    return str(row) * 3 if "char" in type_ or type_ == "text" else row


def filled(connection, prefix):
    """Insert two rows into every table that will get a variant, and into those above them."""
    found = Every(connection, prefix)
    off, on = (
        ("SET FOREIGN_KEY_CHECKS=0", "SET FOREIGN_KEY_CHECKS=1")
        if found.mysql
        else ("SET session_replication_role=replica", "SET session_replication_role=DEFAULT")
    )
    connection.query(off)
    for stage, table in found.above((*variant_keys.KEYED, variant_keys.IMAGE)):
        columns = connection.query(
            "SELECT column_name, data_type FROM information_schema.columns WHERE table_schema=%s "
            "AND table_name=%s AND column_name NOT LIKE '\\_%%'",
            (f"{prefix}_{stage}", table),
        ).fetchall()
        names = found._listed([name for name, _ in columns])
        marks = ", ".join(
            "CAST(%s AS boolean)" if type_ == "boolean" else "%s" for _, type_ in columns
        )
        for row in (0, 1):
            connection.query(
                f"INSERT INTO {found._name((stage, table))} ({names}) VALUES ({marks})",
                tuple(value(name, type_, row) for name, type_ in columns),
            )
    connection.query(on)


def job(connection, prefix, task, key):
    """Insert a job that is set aside, and an attempt at it."""
    found = variant_keys._Keys(connection, prefix)
    text = canonical(key)
    connection.query(
        f"INSERT INTO {found._name(('workers', 'job'))} (job_id, table_name, job_key, status, "
        "queue, priority, stage_order, created_at, not_before, attempts, crashes, retries, token) "
        "VALUES (%s, %s, %s, 'error', 'cpu', 5, 0, '2026-01-01', '2026-01-01', 1, 0, 0, 1)",
        (job_id(task, text), task, text),
    )


def jobs(connection, prefix):
    """Return tasks and keys of all jobs, each with whether its id is that of its key."""
    quote = connection.adapter.quote_identifier
    rows = connection.query(
        f"SELECT job_id, table_name, job_key FROM {quote(prefix + '_workers')}.{quote('job')}"
    ).fetchall()
    return {task: (json.loads(text), job_id(task, text) == name) for name, task, text in rows}


def run_first(connection, prefix, share):
    """Run a share of the statements that the database still needs, as a killed migration does."""
    statements = variant_keys.statements(connection, prefix)
    for statement in statements[: round(share * len(statements))]:
        connection.query(statement)


def test_a_database_of_version_2_gets_variants_and_loses_nothing(deployment):
    connection, prefix, home = deployment
    fresh = described(connection, prefix)
    made_older(connection, prefix)
    assert not any("variant" in line for line in described(connection, prefix)["columns"])
    filled(connection, prefix)
    job(connection, prefix, "mei.Display", {"control_hash": "000", "batch": 0})
    job(connection, prefix, "imaging.Motion", {"animal_id": 1})
    columns = table_content.columns(connection, prefix, leave_out=variant_keys.CHANGES)
    columns.pop(f"{prefix}_workers.schema_version")
    before = table_content.digests(connection, columns)
    for share in (0.2, 0.5, 0.8, 0.97, 1.0):
        run_first(connection, prefix, share)
        run_first(connection, prefix, 1.0)
        assert variant_keys.statements(connection, prefix) == [], share
        assert differences(described(connection, prefix), fresh) == {}, share
        assert table_content.digests(connection, columns) == before, share
        keys = jobs(connection, prefix)
        assert keys["mei.Display"] == ({"control_hash": "000", "batch": 0, "variant": 0}, True)
        assert keys["imaging.Motion"] == ({"animal_id": 1}, True)
        made_older(connection, prefix)
    run_first(connection, prefix, 0.4)
    code, said = inception(home, prefix, "migrate", "--yes")
    assert code == 0, said
    assert "are unchanged" in said
    assert differences(described(connection, prefix), fresh) == {}
    assert table_content.digests(connection, columns) == before
    assert schema_version.installed(connection, prefix).version == SCHEMA_VERSION
    code, said = inception(home, prefix, "migrate", "--dry-run")
    assert (code, "nothing to do" in said) == (0, True), said
