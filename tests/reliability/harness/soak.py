"""R16, the soak: jobs arrive for hours while workers are killed; nothing may grow.

    python tests/reliability/harness/soak.py --minutes 120 --jobs 20000 --home /tmp/soak

One worker is never killed: its memory, and that of its computing process, must not grow. The other
is killed every `--kill-every` seconds, in the middle of a job, in turn as a whole and by its
computing process alone.
"""

import argparse
import json
import random
import time
from pathlib import Path

import psutil
from fleet import Fleet
from invariants import check_all

BATCH_S = 30.0  # keys arrive this often


def soak(fleet, *, minutes, jobs, kill_every_s=30.0, lease_s=10.0, say=lambda _: None):
    """Run the soak; return its figures (memory in MiB), with every invariant asserted."""
    began = time.monotonic()
    end = began + 60 * minutes
    dice = random.Random(0)
    arguments = ("--lease", lease_s)
    survivor, victim = fleet.worker(*arguments), fleet.worker(*arguments)
    inserted = kills = 0
    next_batch, next_kill = began, began + kill_every_s
    samples = []
    while (now := time.monotonic()) < end:
        if now >= next_batch:
            share = min(1.0, (now + BATCH_S - began) / (end - began))
            count = min(jobs, round(jobs * share)) - inserted
            fleet.seeds(count, start=inserted, pause_s=lambda _: dice.uniform(0.2, 0.4))
            inserted += count
            next_batch += BATCH_S
            sample = _sample(fleet, survivor, now - began)
            samples.append({**sample, "inserted": inserted, "kills": kills})
            say(samples[-1])
        if now >= next_kill and fleet.busy([victim]):  # keys arrive as often: it is often idle
            victim = _kill(fleet, victim, arguments, whole=kills % 3 != 2)
            kills += 1
            next_kill += kill_every_s
        assert survivor.poll() is None, fleet.log()[-4000:]
        time.sleep(0.2)
    fleet.wait(lambda: fleet.count() == jobs, timeout_s=300 + 0.1 * jobs, every_s=2.0)
    for process in (survivor, victim):
        process.terminate()
    codes = [process.wait(60) for process in (survivor, victim)]
    assert codes == [0, 0], fleet.log()[-4000:]
    return {
        **_growth(samples),
        "minutes": (time.monotonic() - began) / 60,
        "kills": kills,
        **check_all(range(jobs), sample=500),
    }


def _kill(fleet, victim, arguments, *, whole):
    if whole:
        victim.kill()
        victim.wait()
        return fleet.worker(*arguments)
    for child in psutil.Process(victim.pid).children():
        child.kill()
    return victim


def _sample(fleet, survivor, elapsed_s):
    parent = psutil.Process(survivor.pid)
    children = parent.children()
    return {
        "elapsed_s": round(elapsed_s),
        "parent_mib": parent.memory_info().rss / 2**20,
        "child_mib": sum(child.memory_info().rss for child in children) / 2**20,
        "connections": connections(fleet),
        "rows": fleet.count(),
    }


def connections(fleet):
    """Return the number of connections to the database server."""
    if fleet.connection.adapter.backend == "postgresql":
        sql = "SELECT COUNT(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
    else:
        sql = "SELECT COUNT(*) FROM information_schema.processlist WHERE command <> 'Daemon'"
    return fleet.asked(lambda: int(fleet.connection.query(sql).fetchone()[0]))


def _growth(samples):
    """Compare the last tenth of the run with the second: the first is warming up."""
    tenth = max(1, len(samples) // 10)
    early, late = samples[tenth : 2 * tenth] or samples, samples[-tenth:]
    figures = {}
    for name in ("parent_mib", "child_mib", "connections"):
        before, after = (_median([s[name] for s in part]) for part in (early, late))
        figures[name] = round(after, 1)
        figures[f"{name}_growth"] = round(after / before - 1, 4)
    figures["connections_most"] = max(s["connections"] for s in samples)
    return figures


def _median(values):
    return sorted(values)[len(values) // 2]


def assert_flat(figures):
    """Assert that memory grew by a tenth at most and connections not at all."""
    assert figures["parent_mib_growth"] <= 0.10, figures
    assert figures["child_mib_growth"] <= 0.10, figures
    assert figures["connections_growth"] <= 0.0, figures


def main():
    """Run a soak from the command line; the last line printed is its result as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=120.0)
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--kill-every", type=float, default=30.0)
    parser.add_argument("--home", type=Path, required=True)
    given = parser.parse_args()
    given.home.mkdir(parents=True, exist_ok=True)
    fleet = Fleet(given.home)
    try:
        figures = soak(
            fleet,
            minutes=given.minutes,
            jobs=given.jobs,
            kill_every_s=given.kill_every,
            say=lambda sample: print(json.dumps(sample), flush=True),
        )
    finally:
        fleet.close()
    print(json.dumps(figures), flush=True)
    assert_flat(figures)


if __name__ == "__main__":
    main()
