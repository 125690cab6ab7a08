"""What is said of a deadline: forecasts, the command line, a migration."""

import datetime
import time

import pytest
from short_loops import TARGETS, in_seconds, recipe, refreshed, run_here, start_loop, stored

pytestmark = pytest.mark.tables


def test_a_second_connection_forecasts_what_the_first_one_does(place, database, ledger, scan):
    """As `inception metrics` has one; displays of other loops' same controls do not count."""
    from workers.commands.screens import ahead_lines
    from workers.database import server
    from workers.insight import forecast
    from workers.queue.lease import Ledger

    plan = start_loop(scan, in_seconds(3600))["plan_id"]
    loaded, first = refreshed(place[1])
    connection = server.new_connection()
    try:
        found = [forecast.forecast(book, loaded, []) for book in (first, Ledger(connection))]
    finally:
        connection.close()
    ours = [{row["plan_id"]: row for row in f["loops"]}[plan] for f in found]
    assert ours[0]["jobs"] == ours[1]["jobs"] >= 9
    late = {**ours[0], "in_time": False, "unmeasured": []}
    assert "LATE: planned then of what is ready" in ahead_lines({**found[0], "loops": [late]})[0]
    stuck = {**ours[0], "stuck": ["mei.Display {}"]}
    assert (
        ", then of what is ready, while 1 jobs are set aside: mei.Display {}"
        in ahead_lines({**found[0], "loops": [stuck]})[0]
    )
    moment = datetime.datetime.fromisoformat(ours[0]["deadline"])
    assert moment.utcoffset() is not None


def test_the_command_line_says_what_becomes_of_a_deadline(place, ledger, scan):
    from schemas import clock
    from schemas.decisions import tasks

    key = tasks.register_loop(scan, recipe(), targets=TARGETS, minutes=8)
    due = in_seconds(3600).replace(microsecond=0)
    told = clock.written(due.replace(tzinfo=None))
    said = run_here(place, "loop", "55/1/1", "--deadline", due.isoformat())
    assert said.stdout.startswith(
        f"loop is registered on 55/1/1, deadline {told} instead of none; run"
    )
    assert stored(key) == due.replace(tzinfo=None)
    said = run_here(place, "loop", "55/1/1")
    assert said.stdout.startswith(f"loop is registered on 55/1/1, deadline {told}; run")
    said = run_here(place, "loop", "55/1/1", "--deadline", "2020-01-01T08:00")
    assert said.returncode == 1
    assert said.stderr.startswith("inception: deadline: the deadline is past")
    assert len(said.stderr.strip().splitlines()) == 1


def test_a_migration_brings_local_deadlines_to_utc(place, database, ledger, scan, monkeypatch):
    import datajoint as dj

    from schemas import closed_loop
    from schemas.decisions import tasks
    from workers.database import migration, schema_version

    key = tasks.register_loop(scan, recipe(), targets=TARGETS, minutes=8)
    connection, loops = dj.conn(), closed_loop.Loop.full_table_name
    kind = "timestamp" if connection.adapter.backend == "postgresql" else "datetime"
    schema_version.record(connection, place[1], 2)
    connection.query(f"DELETE FROM {ledger.SchemaVersion.full_table_name} WHERE schema_version > 2")
    connection.query(f"ALTER TABLE {loops} DROP COLUMN deadline_utc")
    connection.query(f"ALTER TABLE {loops} ADD COLUMN deadline {kind} NULL")
    mine = " AND ".join(f"{name}='{key[name]}'" for name in closed_loop.Loop.primary_key)
    connection.query(f"UPDATE {loops} SET deadline='2026-11-24 08:00:00' WHERE {mine}")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        found = migration.look(connection, place[1], "schemas")
        assert [column["name"] for column in found["columns"]] == ["closed_loop.Loop.deadline_utc"]
        (step,) = (step for step in found["steps"] if "deadlines" in step["title"])
        assert len(step["sql"]) == 2
        migration.migrate(connection, place[1], "schemas", despite_workers=True)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert stored(key) == datetime.datetime(2026, 11, 23, 23, 0)
    again = migration.look(connection, place[1], "schemas")
    assert (again["steps"], again["columns"], again["problems"]) == ([], [], [])
