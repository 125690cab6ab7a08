"""CPU time of the verbs that ask tables, at any number of jobs.

    python benchmarks/workers/verbs.py [--jobs 0 100000] [--repeats 3] [--json]

Makes an embedded database in a folder of its own, declares all tables, files jobs that are done in
no time (rows of the job table, nothing computes them), and runs every verb as a process of its own.
Reported is user and system time of that process, the least of some runs: others on the machine
make it longer, never shorter. What the database server spends is not in it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from workers.database import embedded
from workers.database.opening import open_tables
from workers.queue import tables

VERBS = (["--help"], ["status"], ["errors"], ["forecast"])


def cpu_s(home: Path, words: list[str]) -> float:
    """Run a verb; return its user and system time (s)."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-m", "workers.cli", *words],
        env={**os.environ, "INCEPTION_HOME": str(home), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def file_jobs(names: list[str], start: int, stop: int) -> None:
    """Insert jobs of several tables, most of them pending and one in a thousand set aside."""
    rows = (
        {
            "job_id": f"{number:032x}",
            "table_name": names[number % len(names)],
            "job_key": json.dumps({"animal_id": number}),
            "status": "error" if number % 1000 == 0 else "pending",
            "queue": "cpu",
            "priority": 5,
            "stage_order": 0,
            "created_at": "2026-01-01",
            "not_before": "2026-01-01",
            "attempts": 0,
            "crashes": 0,
            "retries": 0,
            "token": 0,
        }
        for number in range(start, stop)
    )
    tables.Job.insert(rows, chunk_size=5000)


def measure(home: Path, jobs: list[int], repeats: int) -> list[dict]:
    """Return a row for every number of jobs and verb."""
    plan = open_tables(embedded.connect(home), "schemas", "inception")
    names, found, there = [task.name for task in plan], [], 0
    for count in sorted(jobs):
        file_jobs(names, there, count)
        there = count
        for words in VERBS:
            taken = min(cpu_s(home, words) for _ in range(repeats))
            found.append({"verb": " ".join(words), "jobs": count, "cpu_s": round(taken, 2)})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, nargs="+", default=[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="inception_verbs_") as folder:
        home = Path(folder)
        try:
            rows = measure(home, options.jobs, options.repeats)
        finally:
            embedded.remove(home)
    if options.json:
        print(json.dumps(rows))
        return
    for row in rows:
        print(f"{row['verb']:<10} {row['jobs']:>8} jobs  {row['cpu_s']:.2f} CPU s")


if __name__ == "__main__":
    main()
