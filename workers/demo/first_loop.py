"""A small simulated loop for a new deployment: `python -m workers.demo.first_loop FOLDER`.

Records a simulated mouse, ingests it, registers a loop, waits while the deployment's own workers
compute, and writes the package. Safe to run again: what exists is kept.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from schemas.closed_loop import Plan, PlanTask
from schemas.decisions import tasks
from schemas.decisions.ingest import ingest_bundle
from workers.database import embedded
from workers.demo.run import Scale, once, simulate_day1
from workers.insight import status
from workers.package import write
from workers.queue import order, tables

SCALE = Scale(cells=20, singles=400, repeated=20, repeats=6, targets=5, minutes=4.0)
WAIT_S = 3600.0


def main() -> None:
    """Run the loop up to its package, in the folder that the command line names."""
    folder = Path(sys.argv[1])
    prefix = os.environ.get("INCEPTION_PREFIX", "inception")
    embedded.connect()
    order.load("schemas", prefix)
    tables.activate(prefix)
    bundle = folder / "day1"
    print("simulating a recording, unless it is there", flush=True)
    once(bundle, lambda part: simulate_day1(part, 0, SCALE))
    key = ingest_bundle(bundle)
    tasks.register_loop(key, recipe=SCALE.recipe, targets=SCALE.targets, minutes=SCALE.minutes)
    print(f"loop registered on {key}; waiting for the workers", flush=True)
    _wait(key)
    write(key, folder / "package")
    print(f"package written to {folder / 'package'}", flush=True)


def _wait(key: dict[str, int]) -> None:
    deadline, shown = time.monotonic() + WAIT_S, None
    while not Plan & (PlanTask & key):
        done, waiting, running = status.tally()
        state = f"{sum(n for n, _ in done.values())} jobs done, {waiting} waiting, {running}"
        if state != shown:
            print(state, flush=True)
            shown = state
        if time.monotonic() > deadline:
            raise TimeoutError(f"no package after {WAIT_S:.0f} s; see `inception errors`")
        time.sleep(2.0)


if __name__ == "__main__":
    main()
