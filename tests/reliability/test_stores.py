"""R12, R13, R18: a full or read-only store, doing everything twice, urgent keys."""

import contextlib
import subprocess

import datajoint as dj
import pytest
from invariants import check_all
from storm_tables import Seed, Value, schema

from workers.queue import order, refresh, tables
from workers.queue.lease import Ledger

pytestmark = pytest.mark.tables


@contextlib.contextmanager
def small_store(fleet):
    """Mount a file system where this fleet's objects go; give a function to change it."""
    if dj.config.stores["main"]["protocol"] != "file":
        pytest.skip("the store is no file system")
    folder = fleet.home / "store" / "_schema" / schema.database
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("needs the right to mount a small file system")

    def change(options):
        remount = ["mount", "-o", f"remount,{options}", str(folder)]
        subprocess.run(remount, check=True, capture_output=True)

    try:
        yield change
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize(
    ("broken", "mended", "words"),
    [("size=1m", "size=64m", "No space left on device"), ("ro", "rw", "Read-only file system")],
    ids=["full", "read-only"],
)
def test_r12_a_broken_store_costs_nothing_and_is_named(fleet, record, broken, mended, words):
    keys = 40
    with small_store(fleet) as change:
        change(broken)
        fleet.seeds(keys)
        worker = fleet.worker()
        fleet.wait(lambda: any(words in (job["error_message"] or "") for job in fleet.jobs()))
        waiting = [job for job in fleet.jobs() if words in (job["error_message"] or "")]
        assert {job["error_class"] for job in waiting} == {"machine"}
        assert fleet.count() < keys
        assert worker.poll() is None
        change(mended)
        fleet.wait(lambda: fleet.count() == keys and not fleet.jobs(), timeout_s=90)
        record(check_all(range(keys)))


def checksum():
    """Return every row of the tables and every stored object's name."""
    rows = [table().to_dicts(order_by="KEY") for table in (Seed, Value.Piece)]
    values = Value.proj("value").to_dicts(order_by="number")
    stored = dj.gc.GarbageCollector(schema, store="main").list_schema_paths(schema.database)
    return rows, values, stored


def test_r13_computing_twice_changes_nothing(fleet):
    fleet.seeds(10)
    assert fleet.worker("--exit-when-idle").wait(180) == 0
    before = checksum()
    attempts = fleet.attempts()
    assert fleet.worker("--exit-when-idle").wait(180) == 0
    assert checksum() == before
    assert fleet.attempts() == attempts


@pytest.mark.parametrize(
    "bulk", [200, pytest.param(1000, marks=pytest.mark.reliability)], ids=["quarter", "full"]
)
def test_r18_urgent_keys_start_before_a_deep_queue(fleet, record, bulk):
    """The first of them starts after one look at the queue and what is left of one job."""
    pause_s, poll_s = 0.5, 0.3
    fleet.seeds(bulk, pause_s=pause_s)
    fleet.worker("--sleep-duration", poll_s)
    fleet.wait(lambda: fleet.count() >= 3)
    urgent = fleet.seeds(5, start=10_000, pause_s=0.1)
    loaded = order.load("storm_tables", fleet.prefix)
    ledger = Ledger(fleet.connection)
    task = loaded.tasks["storm_tables.Value"]
    arrived = fleet.now()

    def first(_task, keys):
        return [1 if key["number"] in urgent else refresh.ORDINARY for key in keys]

    refresh.refresh_table(ledger, task, refresh.Ranking(first))
    texts = [f'{{"number":{number}}}' for number in urgent]
    chosen = tables.Attempt & [{"job_key": text} for text in texts]
    fleet.wait(lambda: len(chosen & "outcome='done'") == len(urgent))
    urgent_rows = chosen.to_dicts(order_by="started_at")
    delay = (urgent_rows[0]["started_at"] - arrived).total_seconds()
    between = [
        attempt
        for attempt in fleet.attempts()
        if urgent_rows[0]["started_at"] < attempt["started_at"] < urgent_rows[-1]["started_at"]
    ]
    assert {attempt["job_key"] for attempt in between} <= set(texts)  # never behind bulk
    record({"bulk": bulk, "delay_s": round(delay, 2)})
    assert delay <= pause_s + poll_s + 0.5  # half a second for the overhead of that one job
