"""The store in a bucket instead of a folder: workers, gc, backup, restore, recompute, doctor.

The whole suite runs on it with RELIABILITY_STORE=s3 (make reliability-s3).
"""

import pytest
import storm_tables
from bucket import bucket, stored
from fleet import Fleet
from invariants import check_all

from workers.database import backup, collect, embedded
from workers.insight import doctor, recompute
from workers.queue import order
from workers.queue.lease import Ledger

pytestmark = pytest.mark.tables


@pytest.fixture
def cloud(storm_home):
    with bucket() as (client, name):
        fleet = Fleet(storm_home)
        try:
            yield fleet, client, name
        finally:
            fleet.close()


def test_a_bucket_keeps_what_a_folder_keeps(cloud, record, tmp_path):
    fleet, client, name = cloud
    fleet.seeds(8, pause_s=0.3)
    victim = fleet.worker("--lease", 2)
    fleet.wait(lambda: fleet.count() >= 1)
    victim.kill()
    assert fleet.worker("--lease", 2, "--exit-when-idle").wait(180) == 0, fleet.log()
    objects = [key for key in stored(client, name) if key.startswith("lab/_schema/")]
    mark = f"lab/_identity/{fleet.prefix}.json"
    assert stored(client, name) == [mark, *objects]
    ledger = Ledger(fleet.connection)
    left = objects[0].rpartition("/")[0] + "/left_behind.npy"
    client.put_object(Bucket=name, Key=left, Body=b"x" * 100)
    found = collect.collect(ledger, age_s=3600.0, delete=True)
    assert (found["deleted"], found["young"] >= 1) == (0, True)
    found = collect.collect(ledger, age_s=0.0, delete=True)
    assert left.removeprefix("lab/") in found["orphans"]
    assert left not in stored(client, name)
    loaded = order.load("storm_tables", fleet.prefix)
    again = recompute.check(ledger, loaded, 3)
    assert [row["verdict"] for row in again] == ["equal"] * 3
    checks = {row["check"]: row for row in doctor.doctor(fleet.home, fleet.prefix, "storm_tables")}
    assert checks["store"]["ok"]
    assert checks["store"]["found"].startswith(f"s3 {name}")
    saved = backup.backup(ledger, tmp_path / "saved")
    assert len(saved["files"]) == 8
    figures = check_all(range(8))
    before = stored(client, name)
    fleet.drop()
    for key in before:
        client.delete_object(Bucket=name, Key=key)
    fleet.connection.dependencies.clear()
    backup.restore(fleet.connection, tmp_path / "saved")
    fleet.bind()
    assert stored(client, name) == before
    assert all(row["array"].load().shape == (10_000,) for row in storm_tables.Value().to_dicts())
    record(figures)


def test_a_store_that_was_configured_is_not_replaced_by_the_homes(storm_home):
    import datajoint as dj

    with bucket() as (_, name):
        for _ in range(2):  # the second call would find a home to move to
            embedded.connect(storm_home)
            assert dj.config.stores["main"]["bucket"] == name
    embedded.connect(storm_home)
    assert dj.config.stores["main"]["protocol"] == "file"
