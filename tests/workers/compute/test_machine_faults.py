"""A machine that lacks something hands its jobs back: nobody's work is set aside for it."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from workers.insight import status
from workers.queue import jobs

pytestmark = pytest.mark.tables


def outcomes(bench, table="toy_tables.Value"):
    return sorted((bench.tables.Attempt & {"table_name": table}).to_arrays("outcome"))


def test_a_worker_without_the_share_leaves_its_jobs_to_one_that_has_it(bench, tmp_path):
    bench.seeds(12, mood="share")
    bench.environment["SHARE"] = str(tmp_path / "not mounted")
    without = bench.worker()
    ledger, loaded = bench.opened()
    bench.wait(lambda: outcomes(bench).count("returned") >= 3)
    waiting = (bench.tables.Job & {"table_name": "toy_tables.Value"}).to_dicts()
    assert {job["status"] for job in waiting} <= {"pending", "running"}
    assert {job["attempts"] for job in waiting if job["status"] == "pending"} == {0}
    found = status.status(ledger, loaded)
    assert found["jobs_handed_back"] >= 3
    assert "Stale file handle" in found["machine_fault"]
    bench.environment["SHARE"] = str(tmp_path)
    assert bench.worker("--exit-when-idle").wait(120) == 0, bench.log()
    assert len(bench.toy.Value()) == len(bench.toy.Twice()) == 12
    assert jobs.errors(ledger, loaded) == []
    assert set(outcomes(bench)) == {"done", "returned"}
    without.terminate()
    assert without.wait(60) == 0


def test_a_worker_that_can_do_nothing_stops_taking_and_ends_when_it_is_to(
    bench, tmp_path, monkeypatch
):
    monkeypatch.setenv("SHARE", str(tmp_path / "not mounted"))
    bench.seeds(30, mood="share")
    summary = bench.work()
    assert "Stale file handle" in summary.fault
    assert summary.quarantined == 0
    tried = outcomes(bench)
    assert set(tried) == {"returned"}
    assert len(tried) <= 12  # of 30: it does not go through the queue
    assert len(bench.toy.Noop()) == 30  # the jobs that need no share
    code, said = bench.inception("worker", "--exit-when-idle", "--sleep-duration", 0.3)
    assert code == 1
    assert "ended, as this machine cannot do what is left: OSError" in said
    monkeypatch.setenv("SHARE", str(tmp_path))
    assert bench.work().fault is None
    assert len(bench.toy.Value()) == 30


@pytest.mark.skipif(bool(os.environ.get("DJ_HOST")), reason="makes the whole server read-only")
def test_a_server_that_is_read_only_for_a_while_costs_no_attempt(bench):
    bench.seeds(20, pause_s=0.05)
    process = bench.worker("--exit-when-idle", "--lease", 2)
    bench.wait(lambda: len(bench.toy.Value()) >= 3)
    own = bench.connection.query
    own("SET SESSION default_transaction_read_only = off")
    own("ALTER SYSTEM SET default_transaction_read_only = on")
    try:
        own("SELECT pg_reload_conf()")
        bench.wait(lambda: "takes no rows" in bench.log())
        time.sleep(4.0)  # two leases
        assert process.poll() is None, bench.log()
    finally:
        own("ALTER SYSTEM RESET default_transaction_read_only")
        own("SELECT pg_reload_conf()")
    assert process.wait(120) == 0, bench.log()
    assert len(bench.toy.Value()) == 20
    assert set(outcomes(bench)) <= {"done", "returned"}


def test_what_lies_in_the_working_folder_is_not_taken_for_a_module(bench, tmp_path):
    bench.seeds(2)
    for name in ("queue", "psutil", "datajoint", "toy"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('a file of the lab')\n")
    for name in ("pipeline", "workers", "schemas"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('of the lab')\n")
    verb = ["worker", "--exit-when-idle", "--schemas", "toy_tables", "--prefix", bench.prefix]
    program = Path(sys.executable).with_name("inception")
    done = subprocess.run(
        [program, *verb], cwd=tmp_path, env=bench.environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert len(bench.toy.Value()) == 2


def test_what_lies_first_on_the_path_of_the_worker_does_not_come_first_in_its_child(
    bench, tmp_path, monkeypatch
):
    bench.seeds(2)
    (tmp_path / "queue.py").write_text("raise RuntimeError('a file of the lab')\n")
    (tmp_path / "faulthandler.py").write_text("raise RuntimeError('a file of the lab')\n")
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline" / "__init__.py").write_text("raise RuntimeError('of the lab')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.chdir(tmp_path)
    assert bench.work().done == 6
