"""Database, store and home know each other: a store that is not mounted is never written to."""

import contextlib
import json
from pathlib import Path

import datajoint as dj
import numpy as np
import pytest

from pipeline.errors import DataError, MachineError
from schemas.stored import identity
from workers.database import backup, embedded
from workers.insight import doctor
from workers.queue.lease import Ledger

pytestmark = pytest.mark.tables


@pytest.fixture
def marked(bench):
    """A deployment with two rows, their files and its marks."""
    if dj.config.stores["main"]["protocol"] != "file":
        pytest.skip("the store is no file system")
    bench.seeds(2)
    bench.work()
    return bench


def place():
    return Path(dj.config.stores["main"]["location"])


def mark(bench):
    return place() / "_identity" / f"{bench.prefix}.json"


def row(bench):
    return bench.tables.Deployment.fetch1()


@contextlib.contextmanager
def unmounted():
    """Put an empty folder where the store is, as a mount point without its disk is."""
    away = place().with_name("mounted elsewhere")
    place().rename(away)
    place().mkdir()
    try:
        yield
    finally:
        left = [path for path in place().rglob("*") if path.is_file()]
        for folder in sorted(place().rglob("*"), reverse=True):
            folder.rmdir() if folder.is_dir() else folder.unlink()
        place().rmdir()
        away.rename(place())
    assert left == []  # nothing was written


def test_database_store_and_home_bear_one_id(marked):
    said = row(marked)
    assert json.loads(mark(marked).read_text()) == {marked.prefix: said["deployment_id"]}
    assert said["marked_at"] is not None
    if embedded.is_embedded():
        home = json.loads((marked.home / "identity.json").read_text())
        assert home[marked.prefix] == said["deployment_id"]
    marked.work()
    assert row(marked) == said


@pytest.mark.parametrize("verb", [("worker", "--exit-when-idle"), ("gc",), ("declare",)])
def test_a_store_that_is_not_mounted_is_refused_in_one_line(marked, verb, capfd):
    marked.seeds(1, start=9)
    with unmounted():
        code = marked.worker(*verb[1:]).wait(120) if verb[0] == "worker" else None
        if code is None:
            code, _ = marked.inception(*verb)
        found = doctor.doctor(marked.home, marked.prefix, "toy_tables")
        (store,) = [check for check in found if check["check"] == "store"]
        assert (store["ok"], "mount the store" in store["found"]) == (False, True)
    assert code == 1
    if verb[0] == "worker":
        last = marked.log().splitlines()[-1]
        assert "does not bear the mark of this database" in last
        assert "mount the store" in last
    assert len(marked.toy.Value()) == 2


def test_a_store_that_goes_away_under_a_process_is_not_written_to(marked):
    with unmounted():
        with pytest.raises(MachineError, match="mount the store; nothing was written"):
            dj.FreeTable(marked.connection, marked.toy.Value.full_table_name).insert1(
                {"number": 77, "value": "x", "array": np.zeros(3)}
            )
        array = (marked.toy.Value & {"number": 1}).fetch1("array")
        with pytest.raises(MachineError, match="mount the store"):
            array.load()
    assert array.load().size


def test_a_store_of_another_database_is_refused(marked):
    own = mark(marked).read_text()
    mark(marked).write_text(json.dumps({marked.prefix: "0" * 32}))
    with pytest.raises(DataError, match="belongs to another database") as refused:
        marked.work()
    assert not isinstance(refused.value, MachineError)
    mark(marked).write_text(own)
    marked.work()


def test_a_deployment_from_before_gets_its_mark_if_the_store_is_its_own(marked):
    mark(marked).unlink()
    marked.tables.Deployment.delete_quick()
    with unmounted(), pytest.raises(DataError, match="does not hold what the rows"):
        marked.work()
    assert len(marked.tables.Deployment()) == 0
    marked.work()
    assert row(marked)["deployment_id"] in mark(marked).read_text()


def test_what_a_killed_process_left_unmarked_is_marked_by_the_next(marked):
    ledger = Ledger(marked.connection)
    deployment = marked.tables.Deployment.full_table_name
    for unlink in (True, False):
        ledger.execute(f"UPDATE {deployment} SET marked_at=NULL")
        if unlink:
            mark(marked).unlink()
        marked.work()
        assert row(marked)["marked_at"] is not None
        assert row(marked)["deployment_id"] in mark(marked).read_text()


def test_an_empty_database_does_not_take_the_store_of_another(marked, tmp_path):
    connection = marked.connection
    for suffix in ("toy", "workers"):
        dj.Schema(f"{marked.prefix}_{suffix}", connection=connection).drop(prompt=False)
    marked.unbind()
    with pytest.raises(DataError, match="belongs to another database; found"):
        marked.work()
    found = connection.query(
        "SELECT schema_name FROM information_schema.schemata WHERE schema_name LIKE %s",
        (marked.prefix + "%",),
    )
    assert len(found.fetchall()) == 0
    assert marked.inception("declare", "--adopt-store")[0] == 0
    marked.activate()
    marked.work()
    assert row(marked)["deployment_id"] in mark(marked).read_text()


def test_a_restored_copy_has_an_id_of_its_own_unless_it_takes_the_place_of_the_first(
    marked, tmp_path
):
    first = row(marked)["deployment_id"]
    backup.backup(Ledger(marked.connection), tmp_path / "saved")
    for keep in (True, False):
        marked.drop()
        marked.connection.dependencies.clear()
        if not keep:
            mark(marked).unlink()
        backup.restore(marked.connection, tmp_path / "saved")
        marked.activate()
        assert (row(marked)["deployment_id"] == first) == keep
        assert row(marked)["deployment_id"] in mark(marked).read_text()
        marked.work()
    marked.drop()
    marked.connection.dependencies.clear()
    mark(marked).write_text(json.dumps({marked.prefix: "0" * 32}))
    with pytest.raises(DataError, match="belongs to another database"):
        backup.restore(marked.connection, tmp_path / "saved")
    mark(marked).unlink()
    marked.activate()
    marked.tables.declare()


def test_a_damaged_mark_is_named(marked):
    own = mark(marked).read_text()
    for text in ("{", "[]", "\x00"):
        mark(marked).write_text(text)
        with pytest.raises(DataError, match="mark of a database is damaged"):
            identity.check_store(marked.prefix)
    mark(marked).write_text(own)
    identity.check_store(marked.prefix)
