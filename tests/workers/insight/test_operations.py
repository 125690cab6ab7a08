"""What a person sees and does: status, forecast, errors, cancel, explain, doctor."""

import itertools
import json
import signal

import datajoint as dj
import pytest

from schemas import clock
from schemas.whole import declared_whole
from workers.compute import environment
from workers.insight import ancestry, doctor, forecast, status
from workers.insight.forecast import Places, Work
from workers.queue import claims, jobs
from workers.queue.lease import Ledger

pytestmark = pytest.mark.tables


def test_a_canceled_job_commits_nothing_and_its_process_ends(bench):
    bench.seeds(1, pause_s=120.0)
    worker = bench.worker("--lease", 3, "--exit-when-idle")
    running = "status='running' AND table_name LIKE '%%Value'"
    bench.wait(lambda: len(bench.tables.Job & running) > 0)
    ledger, loaded = bench.opened()
    (job,) = forecast.running(ledger, {"toy_tables.Value": 120.0})
    assert job["key"] == {"number": 0}
    assert 110.0 < job["left_s"] <= 120.0
    assert jobs.cancel(ledger, "toy_tables.Noop") == 0
    code, said = bench.inception("cancel", "toy_tables.Value", "--json")
    assert (code, json.loads(said.splitlines()[-1])) == (0, {"cancelled": 1})
    assert worker.wait(30) == 0, bench.log()[-4000:]  # it killed its child and found no more work
    row = (bench.tables.Job & {"table_name": "toy_tables.Value"}).fetch1()
    assert (row["status"], row["error_class"]) == ("ignore", "cancelled")
    tried = (bench.tables.Attempt & {"job_id": row["job_id"]}).fetch1()
    assert tried["outcome"] == "cancelled"
    assert len(bench.toy.Value()) == 0
    bench.toy.Seed.update1({"number": 0, "pause_s": 0.0})
    assert jobs.retry(ledger, key={"number": 0}) == 1
    bench.work()
    assert len(bench.toy.Value()) == 1
    steps = ancestry.ancestry(ledger, loaded, "toy_tables.Value", {"number": 0})
    assert steps[-1]["rows"][0]["computed"]["attempt"] == 2


def test_a_row_that_is_done_cannot_be_canceled(bench):
    bench.seeds(1)
    bench.work()
    assert jobs.cancel(Ledger(bench.connection)) == 0
    assert len(bench.toy.Value()) == 1


def test_explain_follows_every_foreign_key_with_what_computed_it(bench):
    bench.seeds(2)
    bench.work()
    ledger, loaded = bench.opened()
    steps = ancestry.ancestry(ledger, loaded, "toy_tables.twice", {"number": 1})
    rows = {step["table"]: step["rows"] for step in steps}
    assert list(rows) == ["toy.Seed", "toy_tables.Value", "toy.Value.Piece", "toy_tables.Twice"]
    assert rows["toy.Seed"] == [
        {"key": {"number": 1}, "values": {"pause_s": 0.0, "mood": "good"}, "computed": None}
    ]
    made = rows["toy_tables.Twice"][0]["computed"]
    assert made["attempt"] == 1
    assert made["environment"] == environment.environment_hash()
    assert made["device"].startswith("cpu ")
    assert made["duration_s"] > 0
    with pytest.raises(LookupError, match="no row"):
        ancestry.ancestry(ledger, loaded, "toy_tables.Twice", {"number": 7})
    with pytest.raises(LookupError, match="no table"):
        ancestry.ancestry(ledger, loaded, "toy_tables.Nothing", {})
    code, said = bench.inception("explain", "toy_tables.Twice", '{"number": 1}')
    assert code == 0
    assert f"packages {environment.environment_hash()}" in said


def test_provenance_of_every_row_can_be_queried_with_datajoint(bench):
    bench.seeds(3)
    bench.work()
    tables = bench.tables
    rows = (tables.Provenance * tables.Attempt * tables.Environment).to_dicts()
    assert sorted(row["table_name"] for row in rows) == sorted(
        [f"toy_tables.{name}" for name in ("Value", "Noop", "Twice")] * 3
    )
    assert {row["outcome"] for row in rows} == {"done"}
    assert all("datajoint" in row["packages"] for row in rows)
    assert len({row["host"] for row in rows}) == 1


def test_status_forecast_and_errors_from_the_command_line(bench):
    bench.seeds(4)
    bench.seeds(1, mood="bad", start=50)
    bench.work()
    bench.seeds(1, start=60)
    code, said = bench.inception("status", "--json")
    assert code == 0
    found = json.loads(said.splitlines()[-1])
    stage = {row["stage"]: row for row in found["stages"]}["toy_tables"]
    assert (stage["done"], stage["error"]) == (4 + 5 + 4, 1)
    assert found["ahead"]["slots"] == 0
    code, said = bench.inception("status")
    assert code == 0
    assert "1 jobs set aside: see `inception errors`" in said
    code, said = bench.inception("errors")
    assert "toy.Seed: number=50" in said
    assert "repair or replace the input" in said
    code, said = bench.inception("forecast")
    assert (code, "nobody works" in said) == (0, True)


def test_running_jobs_are_shown_with_what_is_left(bench):
    bench.seeds(3, pause_s=0.3)
    bench.work()
    bench.seeds(1, pause_s=60.0, start=10)
    worker = bench.worker("--grace", 0)
    bench.wait(lambda: len(bench.tables.Job & "status='running' AND table_name LIKE '%%Value'") > 0)
    found = status.status(*bench.opened())
    (job,) = [job for job in found["running"] if job["table"] == "toy_tables.Value"]
    assert job["left_s"] <= 2.0  # three jobs took 0.3 s
    (alive,) = found["workers"]
    assert (alive["slots"], alive["state"]) == (1, "running")
    assert found["ahead"]["slots"] == 1
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 0


def test_makespan_waits_for_what_is_upstream_and_uses_every_slot(bench):
    _, loaded = bench.opened()
    value, twice = loaded.tasks["toy_tables.Value"], loaded.tasks["toy_tables.Twice"]
    noop = loaded.tasks["toy_tables.Noop"]
    works = [Work(value, 4, 10.0), Work(twice, 1, 5.0), Work(noop, 3, 1.0)]
    one, two = Places((None,), (0.0,)), Places((None, None), (0.0, 0.0))
    assert forecast.makespan(loaded, works, one)[0] == 48.0
    span, after = forecast.makespan(loaded, works, two)
    assert 25.0 <= span <= 28.0  # Noop before, between or after the others
    assert max(after.free_s) == span
    busy = Places((None,), (100.0,))
    assert forecast.makespan(loaded, works, busy)[0] == 148.0
    gpu_only = Places((frozenset({"gpu"}),), (0.0,))
    assert forecast.makespan(loaded, works, gpu_only)[0] == float("inf")
    many = [Work(noop, 123_457, 0.5)]
    assert forecast.makespan(loaded, many, two)[0] == pytest.approx(123_457 / 4, rel=0.01)


def test_doctor_finds_what_is_there_and_changes_nothing(bench):
    bench.work()
    checks = {c["check"]: c for c in doctor.doctor(bench.home, bench.prefix, "toy_tables")}
    failed = [name for name, check in checks.items() if not check["ok"]]
    assert failed in ([], ["disk"])
    assert checks["tables"]["found"].startswith("12 declared")
    fresh = {c["check"]: c for c in doctor.doctor(bench.home, bench.prefix + "x", "toy_tables")}
    assert "at first use" in fresh["tables"]["found"]
    bench.toy.schema.database = bench.toy.schema.connection = None
    databases = bench.connection.query("SELECT schema_name FROM information_schema.schemata")
    assert not [row for row in databases.fetchall() if row[0].startswith(bench.prefix + "x")]


def test_what_is_stored_as_now_is_never_later_than_now(bench):
    """A column of milliseconds that rounded would hide a new job for half of one."""
    column = "datetime(3)" if bench.connection.adapter.backend == "mysql" else "timestamp(3)"
    now = clock.now_sql(bench.connection)
    for _ in range(50):
        sql = f"SELECT CAST({now} AS {column}) <= {now}"
        assert bench.connection.query(sql).fetchone()[0] == 1


def test_tables_are_declared_whole_or_not_at_all(bench):
    """A process that ends between two statements leaves no table without its comments."""
    if bench.connection.adapter.backend == "mysql":
        pytest.skip("MySQL commits every table by itself, in one statement")
    name = f"{bench.prefix}_halves"

    def there():
        sql = "SELECT count(*) FROM information_schema.tables WHERE table_schema=%s"
        return bench.connection.query(sql, (name,)).fetchone()[0]

    def declared(then=None):
        schema = dj.Schema(name, connection=bench.connection)

        @schema
        class First(dj.Manual):
            definition = """
            first : int32
            """

        assert there()
        if then is not None:
            raise then

    with pytest.raises(KeyboardInterrupt), declared_whole(bench.connection):
        declared(KeyboardInterrupt())
    assert not there()
    with declared_whole(bench.connection):
        declared()
    assert there()
    dj.Schema(name, connection=bench.connection).drop(prompt=False)


def test_a_lost_race_to_cancel_leaves_the_newer_claim_alone(bench):
    """Between looking and stopping the job may have been handed back and claimed again."""
    bench.seeds(1)
    ledger = Ledger(bench.connection, "w1")
    from workers.queue import refresh

    refresh.refresh(ledger, bench.opened()[1])
    first = ledger.claim(["toy_tables.Value"])
    ledger.hand_back(first)
    second = Ledger(bench.connection, "w2").claim(["toy_tables.Value"])
    assert not jobs.stop_one(ledger, first.job_id, first.token)
    assert jobs.stop_one(ledger, second.job_id, second.token)
    with pytest.raises(claims.Fenced):
        claims.fence(bench.connection, second, "w2", 0.0)


def test_one_job_at_a_time_on_each_gpu_though_more_slots_are_free(bench, monkeypatch, tmp_path):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # other tests' locks are not ours
    monkeypatch.setattr("tempfile.tempdir", None)
    bench.seeds(6, pause_s=0.3, mood="gpu")
    bench.work(processes=4)
    rows = bench.toy.Heavy.to_dicts(order_by="began")
    assert len(rows) == 6
    assert {row["gpu"] for row in rows} == {"0", "1"}
    for gpu in ("0", "1"):
        mine = [row for row in rows if row["gpu"] == gpu]
        assert all(a["ended"] <= b["began"] for a, b in itertools.pairwise(mine))


def test_a_worker_without_the_queue_leaves_the_gpu_jobs(bench):
    bench.seeds(2, mood="gpu")
    bench.work(queues=("cpu",))
    assert len(bench.toy.Heavy()) == 0
    assert len(bench.toy.Value()) == 2
    found = status.status(*bench.opened())["ahead"]
    assert found["queue_s"] == 0.0  # never measured, and nobody works: one worker is assumed
    bench.work(queues=("gpu",))
    assert len(bench.toy.Heavy()) == 2


def test_a_misspelt_table_or_key_is_refused_never_taken_for_nothing_or_all(bench):
    bench.seeds(1)
    code, said = bench.inception("errors", "toy_tables.Valeu")
    assert code == 1
    code, said = bench.inception("errors", "toy_tables.Value")
    assert code == 0, said
    for verb in ("retry", "ignore", "cancel"):
        code, said = bench.inception(verb, "toy_tables.Value", "--key", '{"seeed": 1}')
        assert code == 1, verb
    code, said = bench.inception("explain", "toy_tables.Value", '{"seeed": 1}')
    assert code == 1
