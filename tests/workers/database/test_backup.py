"""What keeps a deployment clean and safe: gc, backup, restore."""

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from pipeline.errors import DataError
from workers.database import backup, collect
from workers.queue.lease import Ledger

pytestmark = pytest.mark.tables


def leave_behind(bench, name, age_s):
    """Write what a killed job leaves: a file that no row points to."""
    file = bench.store_files()[0].with_name(name)
    file.write_bytes(b"x" * 100)
    moment = time.time() - age_s
    os.utime(file, (moment, moment))
    return file


def test_gc_removes_old_orphans_only_and_nothing_in_a_dry_run(bench):
    bench.seeds(3)
    bench.work()
    ledger, _ = bench.opened()
    kept = bench.store_files()
    assert len(kept) == 3
    old = leave_behind(bench, "array_old.npy", 3600.0)
    half = leave_behind(bench, "array_half.npy.saving", 3600.0)
    young = leave_behind(bench, "array_young.npy", 10.0)
    found = collect.collect(ledger, age_s=600.0)
    assert (found["stored"], found["referenced"], found["young"]) == (6, 3, 1)
    assert [Path(path).name for path in found["orphans"]] == [half.name, old.name]
    assert found["orphan_bytes"] == 200
    assert len(bench.store_files()) == 6
    code, said = bench.inception("gc", "--age-hours", 0.1)
    assert (code, "2 orphans" in said) == (0, True)
    code, said = bench.inception("gc", "--age-hours", 0.1, "--delete")  # nobody is there to ask
    assert (code, "Nothing was changed" in said) == (1, True)
    assert len(bench.store_files()) == 6
    code, said = bench.inception("gc", "--age-hours", 0.1, "--delete", "--yes")
    assert (code, "2 removed" in said) == (0, True)
    assert bench.store_files() == sorted([*kept, young])
    assert all((bench.toy.Value & {"number": n}).fetch1("array").load().size for n in range(3))


def test_gc_keeps_what_a_running_job_may_have_written(bench):
    bench.seeds(1)
    bench.work()
    ledger, loaded = bench.opened()
    orphan = leave_behind(bench, "array_orphan.npy", 5.0)
    bench.seeds(1, start=1)
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
    bench.seeds(30, pause_s=0.05)
    worker = bench.worker("--exit-when-idle")
    ledger, _ = bench.opened()
    while worker.poll() is None:
        collect.collect(ledger, age_s=0.0, delete=True)
    assert worker.returncode == 0, bench.log()
    assert len(bench.store_files()) == 30
    assert all(row["array"].load().size for row in bench.toy.Value.to_dicts())


def test_gc_removes_nothing_when_a_table_cannot_be_read(bench, monkeypatch):
    bench.seeds(1)
    bench.work()
    ledger, _ = bench.opened()
    import datajoint as dj

    def broken(*_, **__):
        raise RuntimeError("no")

    monkeypatch.setattr(dj.expression.QueryExpression, "cursor", broken)
    with pytest.raises(RuntimeError, match="no"):
        collect.collect(ledger, age_s=0.0, delete=True)
    assert len(bench.store_files()) == 1


def lose_everything(bench):
    """Drop all schemas and delete the store, as a dead server would."""
    import datajoint as dj

    bench.drop()
    location = Path(dj.config.stores["main"]["location"])
    shutil.rmtree(location / "_schema" / f"{bench.prefix}_toy")
    bench.connection.dependencies.clear()


def test_a_backup_under_load_restores_to_an_empty_server_and_goes_on(bench, tmp_path):
    bench.seeds(24, pause_s=0.1)
    worker = bench.worker("--lease", 2)
    bench.wait(lambda: len(bench.toy.Value()) >= 5)
    code, said = bench.inception("backup", tmp_path / "saved", "--json")
    assert code == 0, said
    worker.kill()
    worker.wait()
    saved = json.loads((tmp_path / "saved" / "manifest.json").read_text())
    rows = saved["tables"][f"{bench.prefix}_toy.__value"]["rows"]
    assert 5 <= rows < 24
    lose_everything(bench)
    restored = backup.restore(bench.connection, tmp_path / "saved")
    assert restored == saved
    bench.activate()
    ledger, _ = bench.opened()
    values = bench.toy.Value.to_dicts()
    assert len(values) == rows  # I1 to I4: the rows of one moment, with their parts and files
    assert all(row["value"] == bench.toy.digest(row["number"]) for row in values)
    assert len(bench.toy.Value.Piece()) == 3 * rows
    assert len(bench.toy.Value.Piece() - bench.toy.Value.proj()) == 0
    assert all((row["array"].load() == row["number"]).all() for row in values)
    bench.work(lease_s=2.0)  # what is missing is computed, to the same hashes
    for row in bench.toy.Value.to_dicts():
        assert row["value"] == bench.toy.digest(row["number"])
    assert len(bench.toy.Value()) == len(bench.toy.Noop()) == len(bench.toy.Twice()) == 24
    collect.collect(ledger, age_s=0.0, delete=True)
    assert len(bench.store_files()) == 24
    with pytest.raises(DataError, match="holds these schemas already"):
        backup.restore(bench.connection, tmp_path / "saved")


def test_odd_values_survive_backup_and_restore_bit_by_bit(bench, tmp_path):
    odd = ["it's; \\ \" \n end", "π\u2028%s ;\n", "\t"]
    bench.toy.Seed.insert(zip((1, 2, 3), (0.1, 1e-300, -2.5), odd, strict=True))
    ledger, _ = bench.opened()
    before = backup.backup(ledger, tmp_path / "saved")
    rows_before = bench.toy.Seed.to_dicts(order_by="number")
    bench.drop()
    bench.connection.dependencies.clear()
    backup.restore(bench.connection, tmp_path / "saved")
    bench.activate()
    assert bench.toy.Seed.to_dicts(order_by="number") == rows_before
    again = backup.backup(bench.opened()[0], tmp_path / "again")
    assert again["tables"] == before["tables"]


def test_a_damaged_backup_is_refused_before_anything_is_touched(bench, tmp_path):
    bench.seeds(1)
    bench.work()
    ledger, _ = bench.opened()
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


def test_a_backup_with_a_lost_or_damaged_file_is_none_unless_asked_for(bench, tmp_path):
    bench.seeds(3)
    bench.work()
    ledger, _ = bench.opened()
    gone, damaged, _ = bench.store_files()
    kept = gone.read_bytes()
    gone.unlink()
    code, said = bench.inception("backup", tmp_path / "saved")
    assert code == 1
    assert not list(tmp_path.iterdir())
    with pytest.raises(DataError, match=r"1 files that rows refer to .*\(missing\)"):
        backup.backup(ledger, tmp_path / "saved")
    gone.write_bytes(kept)
    content = damaged.read_bytes()
    damaged.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(DataError, match=r"1 files that rows refer to .*\(damaged\)"):
        backup.backup(ledger, tmp_path / "saved")
    gone.unlink()
    code, said = bench.inception("backup", tmp_path / "saved", "--despite-damage")
    assert (code, "but for 2 lost files" in said) == (0, True)
    assert len(list((tmp_path / "saved" / "store").rglob("*.npy"))) == 1
    code, said = bench.inception("verify", "--json")
    found = json.loads(said.splitlines()[-1])
    assert (code, found["objects"], found["without_digest"]) == (1, 3, 0)
    assert [len(found[name]) for name in ("missing", "damaged", "orphans")] == [1, 1, 0]
    assert f"{bench.prefix}_toy.value number=" in found["missing"][0]
    lose_everything(bench)
    restored = backup.restore(bench.connection, tmp_path / "saved")
    assert len(restored["lost"]) == 2
    bench.activate()
    assert len(bench.toy.Value()) == 3


def test_a_backup_whose_rows_lack_their_files_is_refused_before_it_is_loaded(bench, tmp_path):
    bench.seeds(2)
    bench.work()
    ledger, _ = bench.opened()
    saved = backup.backup(ledger, tmp_path / "saved")
    lost = min(saved["files"])
    del saved["files"][lost]
    (tmp_path / "saved" / "store" / lost).unlink()
    (tmp_path / "saved" / "manifest.json").write_text(json.dumps(saved))
    lose_everything(bench)
    with pytest.raises(DataError, match="rows refer to 1 files that are not in the backup"):
        backup.restore(bench.connection, tmp_path / "saved")
    assert not bench.connection.query(
        "SELECT 1 FROM information_schema.schemata WHERE schema_name=%s", (f"{bench.prefix}_toy",)
    ).fetchall()
    restored = backup.restore(bench.connection, tmp_path / "saved", despite_missing=True)
    assert restored["lost"] == [lost]
    bench.activate()


def test_digests_are_written_into_rows_of_before_there_were_any(bench):
    from schemas.datajoint_internals import backend

    bench.seeds(2)
    bench.work()
    without = """"array" = "array" - 'digest'"""
    if backend(bench.connection) == "mysql":
        without = "`array` = JSON_REMOVE(`array`, '$.digest')"
    bench.connection.query(f"UPDATE {bench.toy.Value.full_table_name} SET {without}")
    code, said = bench.inception("verify")
    assert (code, "2 without a digest" in said) == (0, True)
    code, said = bench.inception("verify", "--record")
    assert (code, "2 digests written" in said) == (0, True)
    (file, _) = bench.store_files()
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    code, said = bench.inception("verify")
    assert (code, "0 missing, 1 damaged, 0 without a digest" in said) == (1, True)
    with pytest.raises(DataError, match="is damaged"):
        [row["array"].load() for row in bench.toy.Value.to_dicts()]
