"""R7, R8, R10: poison, orderly stops under load, many workers at once."""

import collections
import signal
import time

import pytest
from invariants import check_all, check_rows, check_store

from workers.queue import lease

pytestmark = pytest.mark.tables
full = pytest.mark.reliability
CAUSES = {"segfault": ("crash", "SIGSEGV"), "eat": ("memory", "GiB"), "hang": ("timeout", "longer")}


@pytest.mark.parametrize(
    ("good", "bad"), [(20, 1), pytest.param(100, 5, marks=full)], ids=["quarter", "full"]
)
def test_r7_poison_costs_three_attempts_each_and_no_worker(fleet, record, good, bad):
    fleet.seeds(good, pause_s=0.1)
    moods = {}
    for start, mood in zip((1000, 2000, 3000), CAUSES, strict=True):
        moods |= dict.fromkeys(fleet.seeds(bad, start=start, mood=mood), mood)
    crew = [fleet.worker("--memory-gb", 0.5, "--job-timeout", 5) for _ in range(2)]
    fleet.wait(lambda: len(fleet.jobs("status='error'")) == 3 * bad, timeout_s=90 + 60 * bad)
    fleet.wait(lambda: fleet.count() == good)
    assert [process.poll() for process in crew] == [None, None]
    check_rows(range(good))
    check_store()
    found = fleet.errors()
    assert set(found) == set(moods)
    tries = collections.Counter(attempt["job_id"] for attempt in fleet.attempts())
    for number, row in found.items():
        kind, words = CAUSES[moods[number]]
        assert (row["class"], row["attempts"]) == (kind, lease.MAX_CRASHES)
        assert words in row["message"]
        assert tries[row["job_id"]] == lease.MAX_CRASHES
    record({"good": good, "poisoned": len(found), "tries": lease.MAX_CRASHES})


@pytest.mark.parametrize(
    ("rounds", "workers"), [(2, 2), pytest.param(20, 4, marks=full)], ids=["quarter", "full"]
)
def test_r8_workers_stopped_under_load_burn_no_attempt(fleet, record, rounds, workers):
    """SIGTERM in the middle of jobs that are done within the grace, and of others that are not."""
    grace_s = 1.5
    short = fleet.seeds(12 * rounds, pause_s=0.3)
    fleet.seeds(2 * rounds, start=5000, pause_s=300.0)
    slowest = 0.0
    for _ in range(rounds):
        crew = [fleet.worker("--grace", grace_s) for _ in range(workers)]
        fleet.wait(lambda: len(fleet.jobs("status='running'")) == workers)
        began = time.monotonic()
        for process in crew:
            process.send_signal(signal.SIGTERM)
        assert [process.wait(60) for process in crew] == [0] * workers, fleet.log()[-4000:]
        slowest = max(slowest, time.monotonic() - began)
        jobs = fleet.jobs()
        assert {job["status"] for job in jobs} == {"pending"}
        assert {job["attempts"] for job in jobs} == {0}
    ends = collections.Counter(attempt["outcome"] for attempt in fleet.attempts())
    assert set(ends) <= {"done", "returned"}
    assert slowest <= grace_s + 5.0
    fleet.forget("number >= 5000")
    for _ in range(workers):
        fleet.worker("--exit-when-idle")
    fleet.wait(lambda: fleet.count() == len(short) and not fleet.jobs(), timeout_s=180)
    record({"stops": rounds * workers, "slowest_s": round(slowest, 1), **check_all(short)})


@pytest.mark.parametrize(
    ("workers", "keys"), [(3, 100), pytest.param(16, 5000, marks=full)], ids=["quarter", "full"]
)
def test_r10_workers_that_start_together_compute_nothing_twice(fleet, record, workers, keys):
    fleet.seeds(keys)
    began = time.monotonic()
    crew = [fleet.worker("--exit-when-idle") for _ in range(workers)]
    fleet.wait(lambda: len(fleet.jobs()) + fleet.count() >= keys, timeout_s=600)
    assert [process.wait(1500) for process in crew] == [0] * workers, fleet.log()[-4000:]
    seconds = time.monotonic() - began
    figures = check_all(range(keys), sample=200)
    assert figures["done"] == keys
    assert figures["attempts"] - figures.get("present", 0) == keys
    record({"seconds": round(seconds, 1), **figures})


@pytest.mark.parametrize(
    ("rounds", "workers"), [(1, 3), pytest.param(20, 8, marks=full)], ids=["quarter", "full"]
)
def test_r19_workers_started_on_an_empty_server_declare_the_tables_once(
    storm_home, record, rounds, workers
):
    from fleet import Fleet

    for _ in range(rounds):
        fleet = Fleet(storm_home, declare=False)
        try:
            crew = [fleet.worker("--exit-when-idle") for _ in range(workers)]
            codes = [process.wait(120) for process in crew]
            assert codes == [0] * workers, fleet.log()[-4000:]
            fleet.bind()
            assert fleet.count() == 0
        finally:
            fleet.close()
    record({"starts": rounds * workers, "exits": 0})
