"""What workers cost: overhead of a job that does nothing, refresh of many keys, idle queries.

    python benchmarks/workers/overhead.py                       # the embedded database
    DJ_HOST=... DJ_USER=... DJ_PASS=... python benchmarks/workers/overhead.py

Prints a line for each figure with its bar; --json for machines. Tables are made under a prefix
of their own and dropped at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import toy

BARS = {"noop_ms": 30.0, "refresh_s": 3.0, "idle_queries_per_s": 2.0}
_START_S = 15.0  # starting, and asking for every heading once
TABLES = '''
import datajoint as dj

schema = dj.Schema()


def activate(prefix="bench"):
    schema.activate(f"{prefix}_bench")


@schema
class Number(dj.Manual):
    definition = """
    number : int32
    """


@schema
class Noop(dj.Computed):
    definition = """
    -> Number
    """

    def make(self, key):
        self.insert1(key)
'''


def measure(
    home: Path, plan: Any, jobs: int, keys: int, slots: int, idle_s: float
) -> dict[str, Any]:
    """Return the figures of `BARS`, and `datajoint_ms`: its own reserving populate, for a job."""
    import bench_tables
    import datajoint as dj

    from workers.compute.options import Options
    from workers.compute.worker import Worker
    from workers.queue import refresh
    from workers.queue.lease import Ledger

    ledger = Ledger(dj.conn())
    noop = plan.tasks["bench_tables.Noop"]
    options = Options(plan.source, plan.prefix, home, processes=slots)
    bench_tables.Number.insert([(n,) for n in range(jobs)])
    refresh.refresh_table(ledger, noop)
    ends: list[float] = []
    Worker(
        Options(**{**vars(options), "exit_when_idle": True, "sleep_duration": 0.5}),
        lambda outcome, *_: ends.append(time.perf_counter()) if outcome == "done" else None,
    ).run()
    assert len(bench_tables.Noop()) == jobs
    skip = len(ends) // 10  # until every process has started
    noop_ms = 1e3 * (ends[-1] - ends[skip]) / (len(ends) - 1 - skip)
    bench_tables.Number.insert([(n,) for n in range(jobs, jobs + keys)])
    began = time.perf_counter()
    added, _ = refresh.refresh_table(ledger, noop)
    refresh_s = time.perf_counter() - began
    assert added == keys
    (bench_tables.Number - bench_tables.Noop.proj()).delete_quick()
    datajoint_ms = _reserve_path(bench_tables, jobs + keys, max(jobs // 8, 20))
    refresh.refresh_table(ledger, noop)  # no job is left
    idle = _idle_queries(Worker(Options(**{**vars(options), "run_duration": idle_s})), idle_s)
    return {
        "noop_ms": noop_ms,
        "refresh_s": refresh_s,
        "idle_queries_per_s": idle,
        "datajoint_ms": datajoint_ms,
    }


def _reserve_path(bench_tables: Any, first: int, jobs: int) -> float:
    """Return what DataJoint's own reserving populate takes for a job here and now (ms)."""
    bench_tables.Number.insert([(first + n,) for n in range(jobs)])
    began = time.perf_counter()
    bench_tables.Noop.populate(reserve_jobs=True)
    return 1e3 * (time.perf_counter() - began) / jobs


def _idle_queries(worker: Any, seconds: float) -> float:
    """Run a worker with nothing to do; return its queries a second, the start left out."""
    import datajoint as dj

    asked, query = [], dj.Connection.query

    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        asked.append(time.monotonic())
        return query(self, *args, **kwargs)

    dj.Connection.query = counted
    try:
        worker.run()
    finally:
        dj.Connection.query = query
    span = seconds - _START_S
    end = asked[-1] - 0.5  # then it says good-bye
    return len([moment for moment in asked if end - span < moment <= end]) / span


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=1000, help="jobs that do nothing")
    parser.add_argument("--keys", type=int, default=10_000, help="new keys to refresh")
    parser.add_argument("--slots", type=int, default=1, help="jobs at a time")
    parser.add_argument("--idle", type=float, default=35.0, help="seconds of an idle worker, > 15")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with toy.home("bench_tables", TABLES) as home, toy.deployment(home, "bench_tables") as plan:
        found = measure(home, plan, arguments.jobs, arguments.keys, arguments.slots, arguments.idle)
        server = "MySQL" if os.environ.get("DJ_HOST") else "embedded PostgreSQL"
    if arguments.json:
        print(json.dumps({"server": server, **found}))
        return
    load = os.getloadavg()[0]
    print(f"{server}, {arguments.slots} slot(s), load of the machine {load:.1f}")
    for name, value in found.items():
        if name not in BARS:
            print(f"{name:20s} {value:8.2f}  for comparison")
            continue
        verdict = "holds" if value <= BARS[name] else "DOES NOT HOLD"
        print(f"{name:20s} {value:8.2f}  bar {BARS[name]:g}: {verdict}")


if __name__ == "__main__":
    main()
