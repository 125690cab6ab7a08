"""R3 to R6: paused servers, cut networks, stopped workers, takeover in time, no stealing."""

import signal
import time

import datajoint as dj
import psutil
import pytest
from invariants import check_all
from servers import Network

pytestmark = pytest.mark.tables
full = pytest.mark.reliability


def family(process):
    """Return a worker and its computing processes."""
    main = psutil.Process(process.pid)
    return [main, *main.children(recursive=True)]


def claimed(fleet, count=1):
    """Wait until so many jobs run; return them."""
    fleet.wait(lambda: len(fleet.jobs("status='running'")) >= count)
    return fleet.jobs("status='running'")


@pytest.mark.parametrize(
    ("keys", "pause_s", "lease_s"),
    [(16, 3.0, 2), pytest.param(200, 30.0, 10, marks=full)],
    ids=["quarter", "full"],
)
def test_r3_a_paused_server_loses_nothing(fleet, server, record, keys, pause_s, lease_s):
    fleet.seeds(keys, pause_s=0.3)
    crew = [fleet.worker("--lease", lease_s) for _ in range(2)]
    fleet.wait(lambda: fleet.count() >= 4)
    with server.paused():
        time.sleep(pause_s)
    fleet.wait(lambda: fleet.count() == keys and not fleet.jobs(), timeout_s=120)
    assert [process.poll() for process in crew] == [None, None]
    record(check_all(range(keys)))


@pytest.mark.parametrize(
    ("keys", "lease_s"), [(4, 2), pytest.param(100, 10, marks=full)], ids=["quarter", "full"]
)
def test_r3_a_worker_cut_off_from_the_network_commits_nothing(fleet, record, keys, lease_s):
    """It holds a job when the cable is pulled for two leases; another worker does that job."""
    database = dj.config.database
    wire = Network(database.host, database.port)
    through_wire = {
        "DJ_HOST": "127.0.0.1",
        "DJ_PORT": str(wire.port),
        "DJ_USER": database.user,
        "DJ_PASS": dj.config["database.password"] or "",
        "DJ_BACKEND": database.backend,
        "DJ_DATABASE_NAME": database.name or "",
        "DJ_USE_TLS": "false",
    }
    try:
        other = fleet.worker("--lease", lease_s)
        fleet.wait(lambda: fleet.ready(other))  # a start may take longer than the cut
        other.send_signal(signal.SIGSTOP)
        fleet.seeds(1, start=1000, pause_s=1.5 * lease_s)
        lonely = fleet.worker("--lease", lease_s, **through_wire)
        (cut_off,) = claimed(fleet)
        wire.cut()
        other.send_signal(signal.SIGCONT)
        fleet.seeds(keys, pause_s=0.2)
        time.sleep(2 * lease_s)
        wire.mend()
        fleet.wait(lambda: fleet.count() == keys + 1 and not fleet.jobs(), timeout_s=120)
        fleet.wait(lambda: "fenced" in outcomes(fleet, cut_off["job_id"]), timeout_s=30)
        assert lonely.poll() is other.poll() is None  # nobody gave up
    finally:
        wire.close()
    assert sorted(outcomes(fleet, cut_off["job_id"])) == ["done", "fenced"]
    record(check_all([*range(keys), 1000]))


def outcomes(fleet, job_id):
    return [attempt["outcome"] for attempt in fleet.attempts() if attempt["job_id"] == job_id]


@pytest.mark.parametrize("lease_s", [1, pytest.param(5, marks=full)], ids=["quarter", "full"])
def test_r4_a_zombie_commits_nothing(fleet, record, lease_s):
    """Stopped for three leases, it wakes up, computes on and finds its token refused."""
    fleet.seeds(1, pause_s=1.5 * lease_s)
    zombie = fleet.worker("--lease", lease_s)
    (job,) = claimed(fleet)
    stopped = family(zombie)
    for process in stopped:
        process.send_signal(signal.SIGSTOP)
    fleet.worker("--lease", lease_s)
    time.sleep(3 * lease_s)
    fleet.wait(lambda: fleet.count() == 1, timeout_s=30)
    for process in reversed(stopped):
        process.send_signal(signal.SIGCONT)
    fleet.wait(lambda: outcomes(fleet, job["job_id"]) == ["fenced", "done"], timeout_s=30)
    assert zombie.poll() is None
    record(check_all([0]))


@pytest.mark.parametrize(
    ("rounds", "victims_each", "lease_s"),
    [(1, 2, 2), pytest.param(5, 4, 10, marks=full)],
    ids=["quarter", "full"],
)
def test_r5_a_dead_workers_job_runs_elsewhere_within_one_and_a_half_leases(
    fleet, record, rounds, victims_each, lease_s
):
    """Some workers a round, killed right after their claim or after some heartbeats."""
    delays = []
    for turn in range(rounds):
        start = turn * victims_each
        victims = [fleet.worker("--lease", lease_s) for _ in range(victims_each)]
        fleet.wait(lambda victims=victims: all(map(fleet.ready, victims)))
        rescuer = fleet.worker("--lease", lease_s, "--processes", victims_each)
        fleet.wait(lambda rescuer=rescuer: fleet.ready(rescuer))
        rescuer.send_signal(signal.SIGSTOP)  # it is not to have the jobs yet
        fleet.seeds(victims_each, start=start, pause_s=2.0 * lease_s)
        jobs = {job["job_id"]: job for job in claimed(fleet, victims_each)}
        rescuer.send_signal(signal.SIGCONT)
        if turn % 2:  # else before the first heartbeat
            time.sleep(0.8 * lease_s)
        killed = fleet.now()
        for victim in victims:
            victim.kill()
            victim.wait()
        fleet.wait(lambda jobs=jobs: later(fleet, jobs) >= set(jobs), timeout_s=60)
        starts = [a["started_at"] for a in fleet.attempts() if second(a, jobs)]
        delays += [(start - killed).total_seconds() for start in starts]
        fleet.wait(lambda: not fleet.jobs(), timeout_s=120)
        rescuer.terminate()
        assert rescuer.wait(60) == 0
    delays.sort()
    p95 = delays[min(len(delays) - 1, round(0.95 * len(delays)) - 1)]
    record({"delays": len(delays), "p95_s": p95, "most_s": delays[-1]})
    check_all(range(rounds * victims_each))
    assert p95 <= 1.5 * lease_s


def second(attempt, jobs):
    return attempt["job_id"] in jobs and attempt["token"] > jobs[attempt["job_id"]]["token"]


def later(fleet, jobs):
    return {attempt["job_id"] for attempt in fleet.attempts() if second(attempt, jobs)}


@pytest.mark.parametrize("lease_s", [1, pytest.param(3, marks=full)], ids=["quarter", "full"])
def test_r6_a_long_job_is_not_stolen_from_a_healthy_worker(fleet, record, lease_s):
    factor = 10 if lease_s > 1 else 4
    fleet.seeds(2, pause_s=float(factor * lease_s))
    for _ in range(3):
        fleet.worker("--lease", lease_s)
    fleet.wait(lambda: fleet.count() == 2, timeout_s=60 + factor * lease_s)
    figures = check_all([0, 1])
    assert figures["attempts"] == 2
    record(figures)
