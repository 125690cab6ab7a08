"""What keeps a deployment clean and safe: gc, backup, restore, recompute."""

import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from pipeline.errors import DataError
from workers.cli import app
from workers.compute.options import Options
from workers.compute.worker import run_worker
from workers.database import backup, collect
from workers.insight import recompute
from workers.queue import order
from workers.queue.lease import Ledger

pytestmark = pytest.mark.tables


def seeds(bench, count, pause_s=0.0, start=0):
    bench.toy.Seed.insert([(start + i, pause_s, "good") for i in range(count)])


def work(bench, **changed):
    base = {"source": "toy_tables", "prefix": bench.prefix, "home": bench.home}
    return run_worker(Options(**{**base, "exit_when_idle": True, "sleep_duration": 0.3, **changed}))


def opened(bench):
    return Ledger(bench.connection), order.load("toy_tables", bench.prefix)


def inception(bench, *arguments):
    """Run a verb on the toy tables in this process; return exit code and what it printed."""
    more = ["--schemas", "toy_tables", "--prefix", bench.prefix, "--home", str(bench.home)]
    done = CliRunner().invoke(app, [*map(str, arguments), *more])
    return done.exit_code, done.output


def store_files(bench):
    import datajoint as dj

    top = Path(dj.config.stores["main"]["location"]) / "_schema" / f"{bench.prefix}_toy"
    return sorted(path for path in top.rglob("*") if path.is_file())


def leave_behind(bench, name, age_s):
    """Write what a killed job leaves: a file that no row points to."""
    file = store_files(bench)[0].with_name(name)
    file.write_bytes(b"x" * 100)
    moment = time.time() - age_s
    os.utime(file, (moment, moment))
    return file


def test_gc_removes_old_orphans_only_and_nothing_in_a_dry_run(bench):
    seeds(bench, 3)
    work(bench)
    ledger, _ = opened(bench)
    kept = store_files(bench)
    assert len(kept) == 3
    old = leave_behind(bench, "array_old.npy", 3600.0)
    half = leave_behind(bench, "array_half.npy.saving", 3600.0)
    young = leave_behind(bench, "array_young.npy", 10.0)
    found = collect.collect(ledger, age_s=600.0)
    assert (found["stored"], found["referenced"], found["young"]) == (6, 3, 1)
    assert [Path(path).name for path in found["orphans"]] == [half.name, old.name]
    assert found["orphan_bytes"] == 200
    assert len(store_files(bench)) == 6
    code, said = inception(bench, "gc", "--age-hours", 0.1)
    assert (code, "2 orphans" in said) == (0, True)
    code, said = inception(bench, "gc", "--age-hours", 0.1, "--delete")
    assert code == 0
    assert store_files(bench) == sorted([*kept, young])
    assert all((bench.toy.Value & {"number": n}).fetch1("array").load().size for n in range(3))


def test_gc_keeps_what_a_running_job_may_have_written(bench):
    seeds(bench, 1)
    work(bench)
    ledger, loaded = opened(bench)
    orphan = leave_behind(bench, "array_orphan.npy", 5.0)
    seeds(bench, 1, start=1)
    from workers.queue import refresh

    refresh.refresh(ledger, loaded)
    holder = Ledger(bench.connection, "holder")
    claim = holder.claim(["toy_tables.Value"])
    earlier = ledger.now(-60.0)
    ledger.execute(
        f"UPDATE {bench.tables.Job.full_table_name} SET claimed_at={earlier} WHERE job_id=%s",
        (claim.job_id,),
    )
    assert collect.collect(ledger, age_s=1.0, delete=True)["deleted"] == 0
    assert orphan.exists()
    holder.hand_back(claim)
    assert collect.collect(ledger, age_s=1.0, delete=True)["deleted"] == 1


def test_gc_under_load_takes_no_file_from_a_row(bench):
    seeds(bench, 30, pause_s=0.05)
    worker = bench.worker("--exit-when-idle")
    ledger, _ = opened(bench)
    while worker.poll() is None:
        collect.collect(ledger, age_s=0.0, delete=True)
    assert worker.returncode == 0, bench.log()
    assert len(store_files(bench)) == 30
    assert all(row["array"].load().size for row in bench.toy.Value.to_dicts())


def test_gc_removes_nothing_when_a_table_cannot_be_read(bench, monkeypatch):
    seeds(bench, 1)
    work(bench)
    ledger, _ = opened(bench)
    import datajoint as dj

    def broken(*_, **__):
        raise RuntimeError("no")

    monkeypatch.setattr(dj.expression.QueryExpression, "cursor", broken)
    with pytest.raises(RuntimeError, match="no"):
        collect.collect(ledger, age_s=0.0, delete=True)
    assert len(store_files(bench)) == 1


def lose_everything(bench):
    """Drop all schemas and delete the store, as a dead server would."""
    import datajoint as dj

    for suffix in ("toy", "workers"):
        dj.Schema(f"{bench.prefix}_{suffix}", connection=bench.connection).drop(prompt=False)
    location = Path(dj.config.stores["main"]["location"])
    shutil.rmtree(location / "_schema" / f"{bench.prefix}_toy")
    for schema in (bench.toy.schema, bench.tables.schema):
        schema.database = schema.connection = None
    bench.connection.dependencies.clear()


def activate(bench):
    bench.toy.activate(prefix=bench.prefix)
    bench.tables.activate(bench.prefix)


def test_a_backup_under_load_restores_to_an_empty_server_and_goes_on(bench, tmp_path):
    seeds(bench, 24, pause_s=0.1)
    worker = bench.worker("--lease", 2)
    bench.wait(lambda: len(bench.toy.Value()) >= 5)
    code, said = inception(bench, "backup", tmp_path / "saved", "--json")
    assert code == 0, said
    worker.kill()
    worker.wait()
    saved = json.loads((tmp_path / "saved" / "manifest.json").read_text())
    rows = saved["tables"][f"{bench.prefix}_toy.__value"]["rows"]
    assert 5 <= rows < 24
    lose_everything(bench)
    restored = backup.restore(bench.connection, tmp_path / "saved")
    assert restored == saved
    activate(bench)
    ledger, _ = opened(bench)
    values = bench.toy.Value.to_dicts()
    assert len(values) == rows  # I1 to I4: the rows of one moment, with their parts and files
    assert all(row["value"] == bench.toy.digest(row["number"]) for row in values)
    assert len(bench.toy.Value.Piece()) == 3 * rows
    assert len(bench.toy.Value.Piece() - bench.toy.Value.proj()) == 0
    assert all((row["array"].load() == row["number"]).all() for row in values)
    work(bench, lease_s=2.0)  # what is missing is computed, to the same hashes
    for row in bench.toy.Value.to_dicts():
        assert row["value"] == bench.toy.digest(row["number"])
    assert len(bench.toy.Value()) == len(bench.toy.Noop()) == len(bench.toy.Twice()) == 24
    collect.collect(ledger, age_s=0.0, delete=True)
    assert len(store_files(bench)) == 24
    with pytest.raises(DataError, match="holds these schemas already"):
        backup.restore(bench.connection, tmp_path / "saved")


def test_odd_values_survive_backup_and_restore_bit_by_bit(bench, tmp_path):
    odd = ["it's; \\ \" \n end", "π\u2028%s ;\n", "\t"]
    bench.toy.Seed.insert(zip((1, 2, 3), (0.1, 1e-300, -2.5), odd, strict=True))
    ledger, _ = opened(bench)
    before = backup.backup(ledger, tmp_path / "saved")
    rows_before = bench.toy.Seed.to_dicts(order_by="number")
    import datajoint as dj

    for suffix in ("toy", "workers"):
        dj.Schema(f"{bench.prefix}_{suffix}", connection=bench.connection).drop(prompt=False)
    bench.connection.dependencies.clear()
    backup.restore(bench.connection, tmp_path / "saved")
    activate(bench)
    assert bench.toy.Seed.to_dicts(order_by="number") == rows_before
    again = backup.backup(opened(bench)[0], tmp_path / "again")
    assert again["tables"] == before["tables"]


def test_a_damaged_backup_is_refused_before_anything_is_touched(bench, tmp_path):
    seeds(bench, 1)
    work(bench)
    ledger, _ = opened(bench)
    backup.backup(ledger, tmp_path / "saved")
    (stored,) = (tmp_path / "saved" / "store").rglob("*.npy")
    content = bytearray(stored.read_bytes())
    content[-1] ^= 1
    stored.write_bytes(content)
    with pytest.raises(DataError, match="is damaged"):
        backup.restore(bench.connection, tmp_path / "saved")
    with pytest.raises(DataError, match="is no backup"):
        backup.verify(tmp_path)
    with pytest.raises(DataError, match="exists already"):
        backup.backup(ledger, tmp_path / "saved")


def test_recompute_finds_equal_rows_equal_and_writes_nothing(bench):
    seeds(bench, 4)
    work(bench)
    ledger, loaded = opened(bench)
    before = [len(table()) for table in (bench.toy.Value, bench.toy.Twice, bench.toy.Noop)]
    files = store_files(bench)
    found = recompute.check(ledger, loaded, 100)
    assert len(found) == 12
    assert {row["verdict"] for row in found} == {"equal"}
    assert {row["same_device"] for row in found} == {True}
    again = recompute.check(ledger, loaded, 5, seed=1)
    assert [row["key"] for row in again] == [
        row["key"] for row in recompute.check(ledger, loaded, 5, seed=1)
    ]
    assert [len(t()) for t in (bench.toy.Value, bench.toy.Twice, bench.toy.Noop)] == before
    assert store_files(bench) == files
    with pytest.raises(LookupError, match="no computed table"):
        recompute.check(ledger, loaded, 1, table="toy_tables.None")


def test_recompute_leaves_the_gpu_to_its_queue_as_workers_do(bench, monkeypatch):
    seeds(bench, 1)
    work(bench)
    computed, devices = bench.toy.Value.make_compute, []

    def watched(self, *given):
        devices.append(os.environ.get("INCEPTION_DEVICE"))
        return computed(self, *given)

    monkeypatch.setattr(bench.toy.Value, "make_compute", watched)
    monkeypatch.delenv("INCEPTION_DEVICE", raising=False)
    (row,) = recompute.check(*opened(bench), 1, table="toy_tables.Value")
    assert (row["verdict"], devices) == ("equal", ["cpu"])
    assert "INCEPTION_DEVICE" not in os.environ


def test_recompute_finds_what_has_changed(bench):
    seeds(bench, 2)
    work(bench)
    bench.toy.Value.update1({"number": 1, "value": "0" * 16})
    code, said = inception(bench, "recompute", "--check", 9, "--table", "toy_tables.Value")
    assert code == 1
    assert "1 equal, 0 close, 1 differs" in said
    (bench.toy.Value.Piece & {"number": 0, "piece": 2}).delete_quick()
    found = recompute.check(*opened(bench), 9, table="toy_tables.Value")
    assert {row["verdict"] for row in found} == {"differs"}


def test_differences_are_relative_to_the_largest_value_and_nan_equals_nan():
    first = np.array([1.0, -100.0, np.nan])
    assert recompute.difference(first, first.copy()) == 0.0
    assert recompute.difference(first, np.array([1.0001, -100.0, np.nan])) == pytest.approx(1e-6)
    assert recompute.difference(first, np.array([1.0, np.nan, np.nan])) == float("inf")
    assert recompute.difference(first, first[:2]) == float("inf")
    assert recompute.difference({"a": [1, 2.0]}, {"a": (1, 2.0)}) == 0.0
    assert recompute.difference({"a": [1, 2.0]}, {"a": (1, 2.5)}) == pytest.approx(0.25)
    assert recompute.difference("x", "y") == float("inf")
    assert recompute.difference(None, None) == 0.0
