"""A storm: keys come in, workers compute, and something is killed again and again."""

import random
import time
from dataclasses import dataclass

from invariants import check_all


@dataclass(frozen=True)
class Size:
    """How hard a storm blows."""

    keys: int  # a multiple of four
    workers: int
    every_s: float
    seconds: float
    restarts: int = 0
    lease_s: float = 3.0


QUARTER = Size(keys=32, workers=2, every_s=1.5, seconds=6.0, restarts=1, lease_s=2.0)
FULL = Size(keys=200, workers=4, every_s=2.0, seconds=60.0, restarts=3)


def storm(fleet, size, *, server=None, seed=0, drain_s=120.0):
    """Kill a worker every `every_s` seconds, and the server a few times; return the figures.

    Keys come in four parts, so that there is work until the storm is over. Asserts that no worker
    ends by itself, that the rest is drained in time, and every invariant.
    """
    dice = random.Random(seed)
    arguments = ("--lease", size.lease_s)
    crew = [fleet.worker(*arguments) for _ in range(size.workers)]
    fleet.seeds(size.keys // 4, pause_s=lambda _: dice.uniform(0.2, 0.5))
    fleet.wait(lambda: fleet.count() >= 1)
    began = time.monotonic()
    arrivals = [(began + i * size.seconds / 4, i * size.keys // 4) for i in (1, 2, 3)]
    restarts = [
        began + (i + 1) * size.seconds / (size.restarts + 1)
        for i in range(size.restarts if server is not None else 0)
    ]
    kills, back = 0, []
    while time.monotonic() - began < size.seconds or restarts:
        time.sleep(size.every_s)
        now = time.monotonic()
        if arrivals and now >= arrivals[0][0]:
            _, start = arrivals.pop(0)
            fleet.seeds(size.keys // 4, start=start, pause_s=lambda _: dice.uniform(0.2, 0.5))
        if restarts and now >= restarts[0]:
            restarts.pop(0)
            back.append(_restart(fleet, server))
        busy = fleet.busy(crew)
        victim = dice.choice(busy or range(size.workers))  # a kill that costs nothing shows little
        assert crew[victim].poll() is None, f"a worker ended by itself\n{fleet.log()[-4000:]}"
        crew[victim].kill()
        crew[victim].wait()
        crew[victim] = fleet.worker(*arguments)
        kills += 1
    for _, start in arrivals:
        fleet.seeds(size.keys // 4, start=start, pause_s=lambda _: dice.uniform(0.2, 0.5))
    calm = time.monotonic()
    fleet.wait(lambda: not fleet.jobs() and fleet.count() == size.keys, timeout_s=drain_s)
    drained_s = time.monotonic() - calm
    assert all(process.poll() is None for process in crew), fleet.log()[-4000:]
    # the last one may be so young that no line of Python has run yet to hear a signal
    fleet.wait(lambda: all(fleet.ready(process) for process in crew))
    for process in crew:
        process.terminate()
    assert [process.wait(60) for process in crew] == [0] * size.workers
    figures = {"kills": kills, "drained_s": round(drained_s, 1), **check_all(range(size.keys))}
    if back:
        figures["back_s"] = [round(seconds, 1) for seconds in back]
    again = figures["attempts"] - figures["done"] - figures.get("present", 0)
    assert again <= kills + len(back) * size.workers, figures
    return figures


def _restart(fleet, server):
    """Kill the server and start it again; return how long until a worker was heard again (s)."""
    server.kill()
    time.sleep(1.0)
    server.start()
    fleet.reconnect()
    began, back = time.monotonic(), fleet.now()
    fleet.wait(lambda: fleet.last_seen() > back, timeout_s=30.0)
    return time.monotonic() - began
