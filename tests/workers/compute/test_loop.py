"""What one worker does with keys, signals and the queue; storms are in tests/reliability."""

import json
import os
import signal
import threading
import time

import numpy as np
import pytest

from workers.compute import make
from workers.compute.worker import Worker, run_worker
from workers.database import embedded, server
from workers.insight import status
from workers.queue import jobs, lease, order, refresh
from workers.queue.lease import Ledger

pytestmark = pytest.mark.tables


def check_values(bench, numbers):
    """Every number has one row with the right hash, three pieces and its array; no more."""
    toy = bench.toy
    rows = {row["number"]: row for row in toy.Value().to_dicts()}
    assert sorted(rows) == sorted(numbers)
    assert all(row["value"] == toy.digest(number) for number, row in rows.items())
    pieces = toy.Value.Piece().to_dicts()
    assert len(pieces) == 3 * len(rows)
    assert all(p["value"] == toy.digest((p["number"], p["piece"])) for p in pieces)
    for number, row in rows.items():
        assert np.all(row["array"].load() == number)


def check_drained(bench):
    """No job is left over; every attempt has an end; done attempts and rows are one to one."""
    assert len(bench.tables.Job & "status in ('pending', 'running')") == 0
    done = (bench.tables.Attempt & "outcome='done'").to_arrays("job_id")
    assert len(done) == len(set(done))


def outcomes(bench, table="toy_tables.Value"):
    found = (bench.tables.Attempt & {"table_name": table}).to_arrays("outcome")
    return sorted(found)


def test_every_key_once_in_the_order_of_the_foreign_keys(bench):
    bench.seeds(20)
    summary = bench.work(processes=2)
    check_values(bench, range(20))
    check_drained(bench)
    assert summary.outcomes == {"done": 60}  # Noop, Value, and Twice after a part of Value
    assert bench.work().outcomes == {}  # nothing is left to do


def test_plan_follows_parts_and_tables_filled_by_hand(bench):
    tasks = order.load("toy_tables", bench.prefix).tasks
    assert tasks["toy_tables.Value"].follows == ("toy_tables.Twice",)
    assert tasks["toy_tables.Value"].rank < tasks["toy_tables.Twice"].rank


def test_bad_data_is_set_aside_at_once_and_the_rest_goes_on(bench):
    bench.seeds(5)
    bench.seeds(1, mood="bad", start=100)
    bench.seeds(1, mood="silent", start=200)
    summary = bench.work()
    check_values(bench, range(5))
    assert summary.quarantined == 2
    ledger = Ledger(bench.connection)
    bad, silent = sorted(
        jobs.errors(ledger, order.load("toy_tables", bench.prefix)),
        key=lambda row: row["key"]["number"],
    )
    assert (bad["class"], bad["attempts"]) == ("data", 1)
    assert bad["input"] == ["toy.Seed: number=100, pause_s=0.0, mood=bad"]
    assert "inception retry" in bad["advice"]
    assert bad["message"] == "frames: trace has no frames; found 0; expected > 0"
    assert silent["key"] == {"number": 200}
    assert "without inserting its row" in silent["message"]
    # repaired, retried, done
    bench.toy.Seed.update1({"number": 100, "mood": "good"})
    assert jobs.retry(ledger, key={"number": 100}) == 1
    assert jobs.ignore(ledger, key={"number": 200}) == 1
    bench.work()
    check_values(bench, [*range(5), 100])
    assert len(bench.tables.Job & "status='ignore'") == 1


def test_poison_costs_three_attempts_each_and_no_worker(bench):
    bench.seeds(10)
    bench.seeds(1, mood="segfault", start=100)
    bench.seeds(1, mood="eat", start=300)
    assert bench.work(processes=2, memory_gb=0.6).quarantined == 2
    bench.seeds(1, mood="hang", start=200)
    assert bench.work(processes=2, job_timeout_s=1.0).quarantined == 1
    check_values(bench, range(10))
    found = {
        row["key"]["number"]: row
        for row in jobs.errors(Ledger(bench.connection), order.load("toy_tables", bench.prefix))
    }
    causes = {number: row["class"] for number, row in found.items()}
    assert causes == {100: "crash", 200: "timeout", 300: "memory"}
    assert all(row["attempts"] == lease.MAX_CRASHES for row in found.values())
    assert "SIGSEGV" in found[100]["message"]
    assert "make_compute" in found[100]["stack"]  # where it happened, from the dead process


@pytest.mark.skipif(bool(os.environ.get("DJ_HOST")), reason="kills the embedded database")
def test_a_killed_database_is_started_again_by_the_worker(bench):
    bench.seeds(30, pause_s=0.1)
    process = bench.worker("--exit-when-idle", "--lease", 5)
    for wanted in (3, 12):
        bench.wait(lambda wanted=wanted: len(bench.toy.Value()) >= wanted)
        killed = embedded.status(bench.home)["pid"]
        os.kill(killed, signal.SIGKILL)
        bench.wait(lambda killed=killed: embedded.status(bench.home)["pid"] not in (None, killed))
        server.revive(bench.connection)
    assert process.wait(60) == 0, bench.log()[-4000:]
    check_values(bench, range(30))
    check_drained(bench)


def test_sigterm_hands_back_without_burning_an_attempt(bench):
    bench.seeds(2, pause_s=60.0)
    process = bench.worker("--grace", 0.2, "--processes", 2)
    bench.wait(lambda: len(bench.tables.Job & "status='running' AND table_name LIKE '%%Value'") > 0)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    left = (bench.tables.Job & {"table_name": "toy_tables.Value"}).to_dicts()
    assert {(job["status"], job["attempts"]) for job in left} == {("pending", 0)}
    assert "returned" in outcomes(bench)


def test_sigterm_lets_a_short_job_finish(bench):
    bench.seeds(5, pause_s=1.0)
    process = bench.worker("--grace", 20)
    bench.wait(lambda: len(bench.tables.Job & "status='running' AND table_name LIKE '%%Value'") > 0)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert outcomes(bench) == ["done"]
    check_values(bench, bench.toy.Value().to_arrays("number"))


def test_a_zombie_commits_nothing(bench):
    """A worker that was stopped for longer than its lease finds the job taken and done."""
    bench.seeds(1, pause_s=2.0)
    zombie = bench.worker("--lease", 1)
    bench.wait(lambda: len(bench.tables.Job & "status='running' AND table_name LIKE '%%Value'") > 0)
    claim = (bench.tables.Job & {"table_name": "toy_tables.Value"}).fetch1()
    zombie.send_signal(signal.SIGSTOP)  # its computing process goes on
    bench.connection.query(  # as another worker would, once the lease is over
        f"UPDATE {bench.tables.Job.full_table_name} SET worker='other', token=token+1, "
        f"lease_until={Ledger(bench.connection).now(3600)} WHERE job_id=%s",
        (claim["job_id"],),
    )
    time.sleep(3.0)
    assert len(bench.toy.Value()) == 0  # computed, refused
    assert len(bench.toy.Value.Piece()) == 0
    zombie.send_signal(signal.SIGCONT)
    bench.wait(lambda: outcomes(bench) == ["fenced"])
    zombie.terminate()
    assert zombie.wait(60) == 0


def test_a_claim_takes_any_of_the_most_urgent_jobs_and_no_other(bench):
    """Workers that took the same first row would race for it, and all but one lose."""
    bench.seeds(40)
    loaded = order.load("toy_tables", bench.prefix)
    ledger = Ledger(bench.connection, "me")
    refresh.refresh_table(ledger, loaded.tasks["toy_tables.Noop"])
    urgent = [f'{{"number":{n}}}' for n in range(6)]
    marks = ",".join(["%s"] * len(urgent))
    ledger.execute(
        f"UPDATE {bench.tables.Job.full_table_name} SET priority=1 WHERE job_key IN ({marks})",
        urgent,
    )
    first = set()
    for _ in range(12):
        claim = ledger.claim(["toy_tables.Noop"])
        first.add(claim.key["number"])
        ledger.hand_back(claim)
    assert first <= set(range(6))
    assert len(first) >= 2  # 6 ** -11: never by chance
    claims = [ledger.claim(["toy_tables.Noop"]) for _ in range(40)]
    numbers = [claim.key["number"] for claim in claims]
    assert sorted(numbers[:6]) == list(range(6))
    assert sorted(numbers) == list(range(40))
    assert ledger.claim(["toy_tables.Noop"]) is None


def test_refresh_adds_ten_thousand_keys_within_three_seconds(bench):
    bench.seeds(10_000)
    loaded = order.load("toy_tables", bench.prefix)
    ledger = Ledger(bench.connection)
    noop = loaded.tasks["toy_tables.Noop"]
    began = time.perf_counter()
    added, _ = refresh.refresh_table(ledger, noop)
    first = time.perf_counter() - began
    assert added == 10_000
    assert refresh.refresh_table(ledger, noop) == (0, 0)
    assert first < 3.0 * slowness()
    assert refresh.DueCounter(ledger, loaded).changed() == [loaded.tasks["toy_tables.Value"]]
    (bench.toy.Seed & "number < 9000").delete_quick()  # what has lost its key loses its job
    assert refresh.refresh_table(ledger, noop) == (0, 9000)


def refreshed_twice(bench, lease_s):
    """Refresh while another worker refreshes and computes; return how the attempts ended.

    The other is at work between what the first one has read and what it inserts.
    """
    bench.seeds(3)
    noop = order.load("toy_tables", bench.prefix).tasks["toy_tables.Noop"]
    slow = Ledger(bench.connection, lease_s=lease_s)
    quick = Ledger(server.new_connection(), "quick")

    def compute():
        while claim := quick.claim([noop.name]):
            make.make(noop.table(), claim, "quick")

    def meanwhile(task, keys):
        refresh.refresh_table(quick, noop)
        compute()
        return refresh.bulk(task, keys)

    assert refresh.refresh_table(slow, noop, refresh.Ranking(meanwhile)) == (3, 0)
    compute()
    assert refresh.refresh_table(quick, noop) == (0, 0)  # the duty is free again
    assert len(bench.toy.Noop()) == 3
    check_drained(bench)
    return outcomes(bench, noop.name)


def test_a_key_done_while_another_worker_refreshes_gets_no_second_job(bench):
    assert refreshed_twice(bench, lease_s=30.0) == ["done"] * 3


def test_a_second_job_for_a_key_that_is_done_computes_nothing(bench):
    """The lease on the refresh ran out under a stalled worker: the fence finds the row."""
    assert refreshed_twice(bench, lease_s=0.0) == ["done"] * 3 + ["present"] * 3


def test_a_refresh_that_takes_long_keeps_its_duty_as_jobs_keep_their_leases(bench):
    bench.seeds(3)
    noop = order.load("toy_tables", bench.prefix).tasks["toy_tables.Noop"]
    slow, other = Ledger(bench.connection, lease_s=4.0), Ledger(bench.connection)
    pulse = Ledger(server.new_connection(), lease_s=4.0)
    holds, answers = [], []

    def meanwhile(task, keys):
        for _ in range(2):
            time.sleep(2.5)
            pulse.keep(slow.held)
        holds.append(slow.held)
        answers.append(refresh.refresh_table(other, noop))
        return refresh.bulk(task, keys)

    assert refresh.refresh_table(slow, noop, refresh.Ranking(meanwhile)) == (3, 0)
    assert answers == [None]  # after five seconds of a lease of four
    pulse.keep(holds[0])  # too late
    assert refresh.refresh_table(other, noop) == (0, 0)


def test_a_worker_whose_refresh_outlasted_its_lease_leaves_it_to_the_next(bench):
    """It ends while another refreshes, and frees nothing: a third one has to wait."""
    bench.seeds(3)
    noop = order.load("toy_tables", bench.prefix).tasks["toy_tables.Noop"]
    stalled, third = Ledger(bench.connection, lease_s=0.0), Ledger(bench.connection)
    pulse, other = (Ledger(server.new_connection()) for _ in range(2))
    begun, enough = threading.Event(), threading.Event()

    def under_way(task, keys):
        begun.set()
        assert enough.wait(60)
        return refresh.bulk(task, keys)

    taker = threading.Thread(
        target=refresh.refresh_table, args=(other, noop, refresh.Ranking(under_way)), daemon=True
    )

    def stall(task, keys):
        taker.start()
        assert begun.wait(60)
        pulse.keep(stalled.held)  # too late
        return refresh.bulk(task, keys)

    assert refresh.refresh_table(stalled, noop, refresh.Ranking(stall)) == (3, 0)
    assert refresh.refresh_table(third, noop) is None
    enough.set()
    taker.join(60)
    assert refresh.refresh_table(third, noop) == (0, 0)


def slowness():
    """How much slower this machine is now than the one the limits were set on."""
    began = time.perf_counter()
    json.dumps([{"number": i} for i in range(100_000)])
    return max(1.0, (time.perf_counter() - began) / 0.1)


def test_an_idle_worker_asks_at_most_twice_a_second(bench):
    worker = Worker(bench.options(exit_when_idle=False, run_duration=6.0, sleep_duration=2.0))
    asked = []
    query = type(bench.connection).query

    def counted(self, *args, **kwargs):
        asked.append(time.monotonic())
        return query(self, *args, **kwargs)

    type(bench.connection).query = counted
    try:
        worker.run()
    finally:
        type(bench.connection).query = query
    last = [moment for moment in asked if asked[-1] - 4.0 <= moment <= asked[-1] - 0.5]
    assert len(last) / 3.5 <= 2.0


def test_status_counts_rows_and_jobs(bench):
    bench.seeds(4)
    bench.seeds(1, mood="bad", start=50)
    bench.work()
    found = status.status(Ledger(bench.connection), order.load("toy_tables", bench.prefix))
    rows = {row["table"]: row for row in found["tables"]}
    assert rows["toy_tables.Value"]["done"] == 4
    assert rows["toy_tables.Value"]["error"] == rows["toy_tables.Value"]["due"] == 1
    assert rows["toy_tables.Noop"]["due"] == 0
    assert found["jobs_error"] == 1
    assert found["running"] == []
    done, waiting, running = status.tally(bench.prefix)
    assert done["toy_tables.Value"][0] == 4
    assert (waiting, running) == (0, [])


def test_a_worker_ends_after_its_time_or_after_so_many_idle_looks(bench):
    bench.seeds(2)
    patient = bench.options(exit_when_idle=False, max_idled_cycle=2, sleep_duration=0.2)
    assert run_worker(patient).outcomes == {"done": 6}
    began = time.monotonic()
    bench.work(exit_when_idle=False, run_duration=0.5)
    assert time.monotonic() - began < 30.0 * slowness()
