"""How far one database server goes: 100,000 keys and up to 64 workers whose jobs do nothing.

    DJ_HOST=... DJ_USER=... DJ_PASS=... python benchmarks/workers/scale.py --keys 100000
        --workers 1 4 16 64

The workers are the real ones (leases, heartbeats, refresh, the fence in the transaction) on toy
tables, with one thing changed: processes are forked from one that has imported everything, since
128 processes that each import it would take minutes of CPU and 16 GB. For each number of workers,
the most first, jobs are counted for some seconds by the attempts in the database: jobs that do
nothing, then jobs that sleep for a second, which is what a pipeline with many workers looks like.
A worker has three connections: MySQL's default of 151 is too few for 64. `--json` for machines.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil
import toy

TABLES = '''
import time

import datajoint as dj

schema = dj.Schema()


def activate(prefix="scale"):
    schema.activate(f"{prefix}_scale")


@schema
class Number(dj.Manual):
    definition = """
    number : int32
    ---
    pause_s : float64   # (s)
    """


@schema
class Result(dj.Computed):
    definition = """
    -> Number
    """

    def make(self, key):
        time.sleep((Number & key).fetch1("pause_s"))
        self.insert1(key)
'''


class Forked:
    """A forked process with the face of `subprocess.Popen` that a slot knows."""

    def __init__(self, work: Callable[[], None]) -> None:
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.setsid()
                work()
            finally:
                os._exit(0)

    def wait(self) -> int:
        """Wait for the end of the process."""
        if self.returncode is None:
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.returncode


def forked_slot() -> type:
    """Return the workers' slot, with a forked process in place of a fresh interpreter."""
    from workers.compute import child
    from workers.compute.slot import Slot

    class ForkedSlot(Slot):
        def _start(self) -> None:
            ours, theirs = socket.socketpair()
            numbered = theirs.fileno()

            def work() -> None:
                ours.close()
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, 1)
                os.dup2(null, 2)
                sys.argv = ["child", str(numbered)]
                import datajoint as dj

                dj.conn().connect()  # a link of its own under the same tables
                child.main()

            self.process = Forked(work)
            theirs.close()
            self.link = Connection(ours.detach())
            self.link.send(self._setup)
            self.ready, self.cause, self.born = False, None, time.monotonic()

    return ForkedSlot


def work(home: Path, prefix: str) -> None:
    """Be one worker until SIGTERM."""
    from workers.compute import crew, worker
    from workers.compute.options import Options

    crew.Slot = forked_slot()
    os.nice(5)  # whoever measures, and the server, come first
    with contextlib.suppress(SystemExit):
        worker.Worker(Options("scale_tables", prefix, home, grace_s=3.0)).run()


class Bench:
    """A deployment with its queue, watched over a connection of its own."""

    def __init__(self, plan: Any) -> None:
        import scale_tables

        from workers.database import server
        from workers.queue import tables
        from workers.queue.lease import Ledger

        self.plan = plan
        self.ledger = Ledger(server.new_connection())
        self.tables, self.toy = tables, scale_tables
        self.server = _server()

    def rows(self, sql: str) -> list[tuple]:
        """Return the rows of a query that says {job}, {attempt} or {worker}."""
        names = {
            "job": self.tables.Job.full_table_name,
            "attempt": self.tables.Attempt.full_table_name,
            "worker": self.tables.Worker.full_table_name,
        }
        return self.ledger.rows(sql.format(**names))

    def fill(self, keys: int, pause_s: float, start: int) -> dict[str, float]:
        """Insert keys and make their jobs; return what both take (s)."""
        from workers.queue import refresh

        task = self.plan.tasks["scale_tables.Result"]
        began = time.perf_counter()
        for first in range(start, start + keys, 10_000):
            last = min(first + 10_000, start + keys)
            self.toy.Number.insert([(n, pause_s) for n in range(first, last)])
        inserted = time.perf_counter()
        cpu = time.process_time() + _cpu(self.server)
        added, _ = refresh.refresh_table(self.ledger, task)
        assert added == keys, (added, keys)
        refreshed = time.perf_counter()
        used = time.process_time() + _cpu(self.server) - cpu
        again = time.perf_counter()
        refresh.refresh_table(self.ledger, task)
        exact = time.perf_counter() - again
        counter = refresh.DueCounter(self.ledger, self.plan)
        counter.changed()
        again = time.perf_counter()
        assert not counter.changed()
        return {
            "keys": keys,
            "insert_s": inserted - began,
            "refresh_s": refreshed - inserted,
            "refresh_cpu_s": used,
            "refresh_nothing_new_s": exact,
            "count_due_s": time.perf_counter() - again,
        }

    def level(self, crew: Crew, pause_s: float, seconds: float) -> dict[str, float]:
        """Count what the crew does in some seconds with jobs that sleep for so long."""
        self.ledger.execute(f"UPDATE {self.toy.Number.full_table_name} SET pause_s={pause_s}")
        time.sleep(3.0 + 2 * pause_s)
        workers = len(crew.pids)
        before, cpu, began = self._figures(), self._cpu(crew), time.monotonic()
        time.sleep(seconds)
        after, cpu = self._figures(), self._cpu(crew) - cpu
        span = time.monotonic() - began
        jobs, server = after["done"] - before["done"], after["server"] - before["server"]
        return {
            "workers": workers,
            "jobs_per_s": jobs / span,
            "worker_cpu_ms": 1e3 * cpu / max(jobs, 1),
            "server_cpu_ms": 1e3 * server / max(jobs, 1),
            "queries_per_s": (after["queries"] - before["queries"]) / span,
            "wall_ms": 1e3 * span * workers / max(jobs, 1),
        }

    def man(self, crew: Crew, workers: int, keys: int) -> float:
        """Have so many workers come up on an empty queue, then fill it; return how long that took.

        On a full one those that are up already would take the cores from the others.
        """
        self.toy.Number.delete_quick()
        self.ledger.execute(f"DELETE FROM {self.tables.Job.full_table_name}")
        began = time.monotonic()
        crew.grow(workers)
        self._until(lambda: self._alive() >= workers)
        up = time.monotonic() - began
        for first in range(0, keys, 10_000):
            self.toy.Number.insert([(n, 1.0) for n in range(first, min(first + 10_000, keys))])
        self._until(lambda: self._made() >= keys)  # the jobs, by the workers themselves
        return up

    def _until(self, condition: Callable[[], bool], timeout_s: float = 300.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"{self._alive()} workers, {self._made()} jobs"
            time.sleep(0.5)

    def _made(self) -> int:
        ((waiting,),) = self.rows("SELECT COUNT(*) FROM {job}")
        return int(waiting) + int(self._figures()["done"])

    def _alive(self) -> int:
        ((n,),) = self.rows("SELECT COUNT(*) FROM {worker} WHERE state='running'")
        return int(n)

    def _figures(self) -> dict[str, float]:
        ((done,),) = self.rows("SELECT COUNT(*) FROM {attempt} WHERE outcome='done'")
        queries = 0
        if self.ledger.connection.adapter.backend == "mysql":
            queries = int(self.rows("SHOW GLOBAL STATUS LIKE 'Questions'")[0][1])
        return {"done": int(done), "queries": queries, "server": _cpu(self.server)}

    def _cpu(self, crew: Crew) -> float:
        total = 0.0
        for pid in crew.pids:
            with contextlib.suppress(psutil.Error):
                parent = psutil.Process(pid)
                for process in [parent, *parent.children(recursive=True)]:
                    with contextlib.suppress(psutil.Error):
                        total += sum(process.cpu_times()[:2])
        return total


class Crew:
    """Workers, forked one by one from a process that is connected to nothing."""

    def __init__(self, home: Path, prefix: str, nursery: Nursery) -> None:
        self.home, self.prefix, self.nursery = home, prefix, nursery
        self.pids: list[int] = []

    def grow(self, workers: int) -> None:
        """Have so many workers."""
        while len(self.pids) < workers:
            self.pids.append(self.nursery.ask((str(self.home), self.prefix)))

    def shrink(self, workers: int) -> None:
        """Have all but so many workers end in order."""
        leaving, self.pids = self.pids[workers:], self.pids[:workers]
        for pid in leaving:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        for pid in leaving:
            self.nursery.ask(pid)


class Nursery:
    """A process that has imported everything and connects to nothing: workers are its forks."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            ours.close()
            try:
                self._serve(Connection(theirs.detach()))
            finally:
                os._exit(0)
        theirs.close()
        self._link = Connection(ours.detach())

    def ask(self, what: Any) -> Any:
        """Ask for a worker by (home, prefix), or for the end of one by its process id."""
        self._link.send(what)
        return self._link.recv()

    def _serve(self, link: Connection) -> None:
        import scale_tables  # noqa: F401 - for the forks

        from workers.compute import worker  # noqa: F401

        while True:
            try:
                order = link.recv()
            except EOFError:
                return
            if isinstance(order, int):  # end that worker
                with contextlib.suppress(ProcessLookupError):
                    os.kill(order, signal.SIGTERM)
                os.waitpid(order, 0)
                link.send(None)
                continue
            home, prefix = order
            link.send(Forked(lambda home=home, prefix=prefix: work(Path(home), prefix)).pid)


def _server() -> list[psutil.Process]:
    """Return the processes of the database server if it runs on this machine."""
    import datajoint as dj

    port = int(dj.config.database.port)
    for process in psutil.process_iter(["pid"]):
        with contextlib.suppress(psutil.Error):
            for link in process.net_connections("tcp"):
                if link.status == psutil.CONN_LISTEN and link.laddr.port == port:
                    return [process]
    return []


def _cpu(processes: list[psutil.Process]) -> float:
    total = 0.0
    for process in processes:
        for one in [process, *process.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                total += sum(one.cpu_times()[:2])
    return total


def measure(home: Path, keys: int, counts: list[int], seconds: float) -> dict[str, Any]:
    """Return the figures of the queue and of every number of workers."""
    nursery = Nursery()  # before anything is connected
    with toy.deployment(home, "scale_tables") as plan:
        bench, crew = Bench(plan), Crew(home, plan.prefix, nursery)
        try:
            return _measure(bench, crew, keys, counts, seconds)
        finally:
            crew.shrink(0)


def _measure(
    bench: Bench, crew: Crew, keys: int, counts: list[int], seconds: float
) -> dict[str, Any]:
    found: dict[str, Any] = {"queue": bench.fill(keys, 0.0, 0), "nothing": [], "sleep_1_s": []}
    print(json.dumps({"queue": found["queue"]}), file=sys.stderr, flush=True)
    found["up_s"] = bench.man(crew, max(counts), keys)
    for workers in sorted(counts, reverse=True):
        crew.shrink(workers)
        for kind, pause in (("nothing", 0.0), ("sleep_1_s", 1.0)):
            found[kind].append(bench.level(crew, pause, seconds))
            print(json.dumps({kind: found[kind][-1]}), file=sys.stderr, flush=True)
    crew.shrink(0)
    left = bench.rows("SELECT status, COUNT(*) FROM {job} GROUP BY status")
    found["left"] = {state: int(n) for state, n in left}
    ((twice,),) = bench.rows(
        "SELECT COUNT(*) FROM (SELECT job_id FROM {attempt} WHERE outcome='done' "
        "GROUP BY job_id HAVING COUNT(*) > 1) AS twice"
    )
    found["computed_twice"] = int(twice)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64])
    parser.add_argument("--seconds", type=float, default=10.0, help="of counting, each")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with toy.home("scale_tables", TABLES) as home:
        found = measure(home, arguments.keys, arguments.workers, arguments.seconds)
    if arguments.json:
        print(json.dumps(found))
        return
    print(f"load of the machine {os.getloadavg()[0]:.1f}")
    print("queue:", ", ".join(f"{name} {value:.3g}" for name, value in found["queue"].items()))
    for kind in ("nothing", "sleep_1_s"):
        print(kind)
        for level in found[kind]:
            print("   ", ", ".join(f"{name} {value:.4g}" for name, value in level.items()))
    print(f"left {found['left']}, computed twice {found['computed_twice']}")


if __name__ == "__main__":
    main()
