"""R15: a database of an older version is refused, looked at, migrated, and has lost nothing."""

import pytest
from invariants import check_all
from storm_tables import Seed, Value
from typer.testing import CliRunner

from workers.cli import app
from workers.database import migration, schema_version, table_content
from workers.database.migration import STEPS, Step
from workers.database.schema_version import SCHEMA_VERSION
from workers.queue import tables

pytestmark = pytest.mark.tables


def content(fleet):
    """Return every table's columns, rows and digest."""
    columns = table_content.columns(fleet.connection, fleet.prefix)
    return columns, table_content.digests(fleet.connection, columns)


ADDED = {  # since a version, as `migrate` names it
    0: ("table workers.Duty", "table workers.SchemaVersion", "column workers.Attempt.message"),
    1: ("column workers.Duty.holder",),
}


def made_older(fleet, version, rows=6):
    """Compute some rows and take away what was added since: an older version with data."""
    fleet.seeds(rows)
    assert fleet.worker("--exit-when-idle").wait(180) == 0, fleet.log()
    query = fleet.connection.query
    if version == 0:
        query(f"DROP TABLE {tables.SchemaVersion.full_table_name}")
        query(f"DROP TABLE {tables.Duty.full_table_name}")
        query(f"ALTER TABLE {tables.Attempt.full_table_name} DROP COLUMN message")
    else:
        query(f"DELETE FROM {tables.SchemaVersion.full_table_name}")
        schema_version.record(fleet.connection, fleet.prefix, version)
        query(f"ALTER TABLE {tables.Duty.full_table_name} DROP COLUMN holder")


def inception(fleet, *arguments):
    more = ["--schemas", "storm_tables", "--prefix", fleet.prefix, "--home", str(fleet.home)]
    done = CliRunner().invoke(app, [*arguments, *more])
    return done.exit_code, done.output, done.exception


def refused(fleet):
    """Start a worker that must end by itself; return the one line that it says."""
    fleet.log_file.touch()
    before = len(fleet.log().splitlines())
    assert fleet.worker("--exit-when-idle").wait(180) == 1
    said = [line for line in fleet.log().splitlines()[before:] if line.startswith("inception:")]
    assert len(said) == 1
    assert "Traceback" not in fleet.log()
    return said[0]


@pytest.mark.parametrize("version", ADDED)
def test_r15_an_older_database_is_refused_migrated_and_unchanged(fleet, record, version):
    made_older(fleet, version)
    before = content(fleet)
    line = refused(fleet)
    assert "schema_version" in line
    assert f"found {version}; expected {SCHEMA_VERSION}" in line
    assert "inception migrate" in line
    code, said, _ = inception(fleet, "migrate", "--dry-run")
    assert code == 0
    assert [f"missing {name}" in said for name in ADDED[version]] == [True] * len(ADDED[version])
    assert content(fleet) == before  # the refused worker and the dry run have changed nothing
    code, said, error = inception(fleet, "migrate", "--yes")
    assert code == 0, error
    assert "are unchanged" in said
    columns, digests = before
    after = table_content.digests(fleet.connection, columns)
    for table in (digests, after):
        table.pop(f"{fleet.prefix}_workers.schema_version", None)  # the version is written there
    assert after == digests
    assert schema_version.installed(fleet.connection, fleet.prefix).version == SCHEMA_VERSION
    code, said, _ = inception(fleet, "migrate", "--dry-run")
    assert (code, "nothing to do" in said) == (0, True)
    fleet.seeds(4, start=6)
    assert fleet.worker("--exit-when-idle").wait(180) == 0, fleet.log()
    record({"rows_compared": sum(rows for rows, _ in digests.values()), **check_all(range(10))})


def test_r15_missing_tables_with_foreign_keys_are_added_parts_too(fleet):
    fleet.seeds(3)
    for table in (Value.Piece, Value):
        fleet.connection.query(f"DROP TABLE {table.full_table_name}")
    code, said, _ = inception(fleet, "migrate", "--dry-run")
    assert code == 0
    for name in ("Value", "Value.Piece"):
        assert f"missing table storm_tables.{name}\n" in said
    code, said, error = inception(fleet, "migrate", "--yes")
    assert code == 0, error
    assert fleet.worker("--exit-when-idle").wait(180) == 0, fleet.log()
    assert (len(Value()), len(Value.Piece())) == (3, 9)


def test_r15_a_newer_database_is_refused_and_left_alone(fleet):
    fleet.seeds(1)
    schema_version.record(fleet.connection, fleet.prefix, 99)
    before = content(fleet)
    line = refused(fleet)
    assert f"found 99; expected {SCHEMA_VERSION}" in line
    assert "use code as new as" in line
    code, _, error = inception(fleet, "migrate", "--yes")
    assert code == 1
    assert "found 99" in str(error)
    assert content(fleet) == before


def rename(connection, prefix):
    """Give the seed's column `temper` its new name, unless it has it."""
    columns = table_content.columns(connection, prefix)[f"{prefix}_storm.seed"][0]
    old = "temper" in columns
    return [f"ALTER TABLE {Seed.full_table_name} RENAME COLUMN temper TO mood"] * old


NEXT = SCHEMA_VERSION + 1
RENAMED = Step(
    NEXT, "say mood, not temper", rename, frozenset({"storm.seed.temper", "storm.seed.mood"})
)


@pytest.mark.parametrize("killed_half_way", [False, True])
def test_r15_a_step_runs_once_and_again_after_a_kill(fleet, killed_half_way):
    fleet.seeds(3)
    fleet.connection.query(f"ALTER TABLE {Seed.full_table_name} RENAME COLUMN mood TO temper")
    steps = (*STEPS, RENAMED)
    look = migration.look(fleet.connection, fleet.prefix, "storm_tables", steps)
    assert [step["version"] for step in look["steps"]] == [NEXT]
    assert (len(look["steps"][0]["sql"]), look["problems"]) == (1, [])
    without = migration.look(fleet.connection, fleet.prefix, "storm_tables")["problems"]
    assert "storm_tables.Seed.mood: found no such column; it is required" in without[0]
    assert "storm_tables.Seed.temper: found a required column" in without[1]
    with pytest.raises(ValueError, match="2 differences that no step"):
        migration.migrate(fleet.connection, fleet.prefix, "storm_tables")
    if killed_half_way:
        fleet.connection.query(look["steps"][0]["sql"][0])
    found = migration.migrate(fleet.connection, fleet.prefix, "storm_tables", steps)
    assert found["compared"]["rows"] == 3
    assert schema_version.installed(fleet.connection, fleet.prefix).version == NEXT
    assert set(Seed().to_arrays("mood")) == {"good"}
    again = migration.look(fleet.connection, fleet.prefix, "storm_tables", steps)
    assert (again["steps"], again["problems"]) == ([], [])


def test_r15_nothing_is_migrated_under_a_workers_hands(fleet):
    fleet.worker()
    fleet.wait(lambda: len(tables.Worker()) == 1)
    with pytest.raises(ValueError, match="1 workers are at work"):
        migration.migrate(fleet.connection, fleet.prefix, "storm_tables")


def test_steps_lead_to_the_version_of_this_code():
    versions = [step.version for step in STEPS]
    assert versions == list(range(1, schema_version.SCHEMA_VERSION + 1))
