"""The worker: claims jobs, has them computed in other processes, records what became of them.

The parent never computes. Its main thread gives jobs to slots and hears what they say; a second
thread renews leases over its own connection. Whatever happens to a slot's process costs one
attempt of one job; whatever happens to this process costs the others one lease time.
"""

from __future__ import annotations

import itertools
import logging
import os
import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from workers.compute import environment, gpu, limits
from workers.compute.gpu import Gpu
from workers.compute.options import Options, Summary
from workers.compute.slot import Slot
from workers.database import connection as database
from workers.database import opening
from workers.insight import forecast
from workers.queue import refresh, tables, urgency
from workers.queue.lease import REFRESH, Claim, Ledger
from workers.queue.order import Task
from workers.version import code_version

log = logging.getLogger("inception.worker")

_TICK_S = 0.2  # longest time between two looks at signals, limits and queue (s)
_BEAT_S = 5.0  # longest time between two heartbeats, and until a cancelled job is ended (s)
_PLAN_S = 30.0  # longest time between two looks for what the clock has made due (s)
_FRESH_S = 1.0  # shortest time between two looks for what a finished job made possible (s)
Event = Callable[[str, str, dict[str, Any], float, str], None]


class NotStartedError(RuntimeError):
    """The database went away while the worker started; a new process can start again."""


class Worker:
    """One worker; `run` returns when it is told to stop or has nothing left to do.

    Parameters
    ----------
    options : Options
        Behavior.
    on_event : callable, optional
        Called with `(outcome, table, key, seconds, message)` after `started` and after every end
        of an attempt.
    """

    def __init__(self, options: Options, on_event: Event | None = None) -> None:
        self.options = options
        self.summary = Summary()
        self.name = f"{socket.gethostname()[:24]}-{uuid.uuid4().hex}"
        self._tell = on_event or (lambda *_: None)
        self._stop_at: float | None = None  # monotonic time by which the slots must be free
        self._signals = 0
        self._failure: Exception | None = None  # of the heartbeat
        self._stolen: set[int] = set()  # tokens of claims that others hold by now
        self._dirty: set[str] = set()  # tables that a finished job may have given new keys
        self._settled = False  # a job was done that others need not wait for any more
        self._ended = False  # a job was done since all tables were looked at
        self._starved = False  # the last claim found nothing; look again after sleep_duration
        self._refreshes = self._seen_reconnects = self._born_dead = 0
        self._slots: list[Slot] = []
        self._finished = threading.Event()
        self._beat_at = time.monotonic()  # of the last heartbeat that reached the database

    def life(self) -> dict[str, Any]:
        """Say how the worker is: `alive`, seconds since the last heartbeat, jobs, outcomes."""
        silent = time.monotonic() - self._beat_at
        return {
            "alive": self._failure is None and silent < 2 * self.options.lease_s,
            "heartbeat_s": round(silent, 1),
            "jobs": [slot.claim.table_name for slot in self._slots if slot.claim is not None],
            "draining": self.stopping,
            "outcomes": dict(self.summary.outcomes),
        }

    def stop(self, grace_s: float | None = None) -> None:
        """Claim nothing more and return once the running jobs end or the grace is over."""
        grace_s = self.options.grace_s if grace_s is None else grace_s
        deadline = time.monotonic() + grace_s
        self._stop_at = deadline if self._stop_at is None else min(self._stop_at, deadline)

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._stop_at is not None

    # ---- run

    def run(self) -> Summary:
        """Work until told to stop, or until `run_duration`, `max_idled_cycle` or idleness.

        Raises
        ------
        NotStartedError
            If the database went away before the worker had begun.
        """
        try:
            pulse = self._open()
        except Exception as error:
            if database.is_connection_error(error):
                raise NotStartedError(" ".join(str(error).split())) from error
            raise
        previous = self._catch_signals()
        beat = threading.Thread(target=self._heartbeat, args=(pulse,), daemon=True)
        try:
            setup, variables, memory = self._slot_arguments()
            gpus = gpu.names() or [None]
            shared = itertools.islice(itertools.cycle(gpus), self.options.processes)
            self._slots = [Slot(setup, variables, memory, name and Gpu(name)) for name in shared]
            beat.start()
            self._loop()
        except database.Stopped:
            log.warning("stopped while the database did not answer")
        finally:
            self._close()
            self._finished.set()
            for number, handler in previous.items():
                signal.signal(number, handler)
            if beat.is_alive():
                beat.join(timeout=5.0)
        if self._failure is not None:
            raise RuntimeError("no more heartbeats: the worker has stopped") from self._failure
        return self.summary

    def _open(self) -> Ledger:
        """Connect, make missing tables, register; return the heartbeat's ledger."""
        options = self.options
        connection = database.wait_for_server(options.home)
        self._plan = opening.open_tables(connection, options.source, options.prefix)
        self._tasks = {task.name: task for task in self._plan.select(options.queues)}
        self._priority = urgency.Urgency(self._plan)
        self._ledger = self._new_ledger(connection, self._out_of_time)
        self._counter = refresh.DueCounter(self._ledger, self._plan)
        self._ledger.register(
            pid=os.getpid(), slots=options.processes, queues=",".join(options.queues or ())
        )
        self._ledger.wake()
        return self._new_ledger(
            database.new_connection(), lambda: self._finished.is_set() or self._out_of_time()
        )

    def _new_ledger(self, connection: Any, stop: Callable[[], bool]) -> Ledger:
        return Ledger(
            connection,
            self.name,
            host=socket.gethostname()[:64],
            version=code_version(),
            lease_s=self.options.lease_s,
            stop=stop,
        )

    def _slot_arguments(self) -> tuple[dict[str, Any], dict[str, str], int]:
        options = self.options
        setup = {
            "source": options.source,
            "prefix": options.prefix,
            "home": options.home and str(options.home),
            "worker": self.name,
            "environment": environment.register(self._ledger),
            "log_level": log.getEffectiveLevel(),
        }
        threads = max(1, limits.usable_cores() // options.processes)
        paths = [str(Path(__file__).resolve().parents[2]), *filter(None, sys.path)]
        variables = {
            **os.environ,
            **limits.thread_environment(threads),
            **limits.memory_environment(),
            "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)),  # what this process can import
        }
        share = 0.9 * limits.usable_memory() / options.processes
        memory = int(options.memory_gb * 2**30 if options.memory_gb else share)
        return setup, variables, memory

    def _catch_signals(self) -> dict[int, Any]:
        if threading.current_thread() is not threading.main_thread():
            return {}  # the owner of the main thread calls `stop`
        return {
            number: signal.signal(number, self._on_signal)
            for number in (signal.SIGTERM, signal.SIGINT)
        }

    def _on_signal(self, number: int, _frame: object) -> None:
        self._signals += 1
        if self._signals > 1:
            self.stop(0.0)  # the second time is meant
        else:  # a person at the keyboard does not want to wait
            self.stop(min(self.options.grace_s, 3.0) if number == signal.SIGINT else None)

    def _out_of_time(self) -> bool:
        return self._stop_at is not None and time.monotonic() > self._stop_at

    def _loop(self) -> None:
        options = self.options
        end = time.monotonic() + options.run_duration if options.run_duration >= 0 else None
        look, reap, fresh, idled = 0.0, 0.0, 0.0, 0
        draining = False
        while True:
            self._collect()
            now = time.monotonic()
            if end is not None and now > end and not self.stopping:
                self.stop()
            if self.stopping:
                if not draining:
                    draining = True
                    self._ledger.set_state("draining")
                if self._out_of_time() or not any(slot.claim for slot in self._slots):
                    return
                continue
            if now > reap:
                reap = now + options.lease_s / 2
                self._reap()
            free = [slot for slot in self._slots if slot.free]
            if self._dirty and (now > fresh or self._settled):
                self._settled = False
                self._refresh_dirty()
                fresh = time.monotonic() + max(_FRESH_S, 5 * (time.monotonic() - now))
            if free and (now > look or not self._starved):
                idle = not self._fill(free)
                if idle and self._ended:  # nothing else to do: see at once what has become due
                    self._refresh_changed()
                    idle = not self._fill(free)
                self._starved = idle
            if now > look:
                look = now + options.sleep_duration
                self._elected_refresh()
                busy = any(slot.claim for slot in self._slots)
                idled = 0 if busy or not self._starved else idled + 1
                if 0 <= options.max_idled_cycle < idled:
                    return
                if options.exit_when_idle and idled and self._drained():
                    self.summary.plans_due = forecast.coming(self._ledger, self._plan)
                    return

    # ---- slots

    def _collect(self) -> None:
        """Hear what the slots say, for at most one tick."""
        by_link = {slot.link: slot for slot in self._slots}
        for link in wait(list(by_link), timeout=_TICK_S):
            self._hear(by_link[link])
        for slot in self._slots:
            if slot.claim is not None and slot.claim.token in self._stolen:
                slot.kill("lost: another worker has taken the job")
            slot.check()

    def _hear(self, slot: Slot) -> None:
        claim = slot.claim
        kind, *rest = slot.answer()
        if kind == "ready":
            slot.ready = True
            return
        if kind == "broken":  # could not import or connect: nothing to do with any job
            if not rest[0]:
                raise RuntimeError(f"the computing process cannot start: {rest[1]}\n{rest[2]}")
            slot.replace()
            return
        seconds = time.monotonic() - slot.started
        slot.finish()
        if kind == "died" and claim is None:
            self._born_dead += not slot.ready
            if self._born_dead >= 3:
                raise RuntimeError(f"the computing process does not start: {rest[1]}\n{rest[2]}")
            slot.replace()
            return
        if kind == "done":
            self._dirty.update(self._follows(claim))
            self._settle(self._plan.tasks[claim.table_name])
            self._ended = True
            self._count("done" if rest[0] else "present", claim, seconds, "")
        elif kind == "fenced":
            self._ledger.refused(claim)
            self._count("fenced", claim, seconds, "another worker has taken the job")
        elif kind == "died":
            slot.replace()  # first, so that the next job need not wait for the database
            self._failed(claim, rest[0], rest[1], rest[2], seconds)
        else:
            error_class, message, stack, lost = rest
            if lost:
                slot.replace()
            self._failed(claim, error_class, message, stack, seconds)
        self._starved = False

    def _failed(self, claim: Claim, kind: str, message: str, stack: str, seconds: float) -> None:
        became = self._ledger.fail(claim, kind, message, stack)
        if became == "fenced":
            kind = "fenced"
            self._ledger.refused(claim)
        self.summary.quarantined += became == "error"
        self._count(kind, claim, seconds, message)
        if became != "fenced":
            level = logging.ERROR if became == "error" else logging.WARNING
            verdict = "set aside" if became == "error" else "will be tried again"
            log.log(level, "%s %s: %s (%s)", claim.table_name, claim.key, message, verdict)

    def _count(self, outcome: str, claim: Claim, seconds: float, message: str) -> None:
        self.summary.outcomes[outcome] += 1
        self._tell(outcome, claim.table_name, claim.key, seconds, message)

    def _fill(self, free: list[Slot]) -> bool:
        """Give jobs to free slots; False if there were fewer jobs than slots."""
        found_none = False
        for slot in free:
            if not slot.free:  # the caller's list is older than its last call
                continue
            reconnects = self._ledger.reconnects
            claim = self._ledger.claim(self._names(slot))
            if self._ledger.reconnects != reconnects:
                held = [s.claim for s in self._slots if s.claim] + [claim] * (claim is not None)
                self._ledger.adopt_strays(held)
            if claim is None:
                if slot.gpu is None:
                    return False
                slot.gpu.release()
                found_none = True  # another slot's GPU may be free
                continue
            task = self._tasks[claim.table_name]
            if slot.gpu is not None and task.queue != "gpu":
                slot.gpu.release()
            slot.give(claim, task.timeout_s or self.options.job_timeout_s)
            self._tell("started", claim.table_name, claim.key, 0.0, "")
        return not found_none

    def _names(self, slot: Slot) -> list[str]:
        """Return the tables a slot may work on: those of the queue `gpu` if its GPU is free."""
        if slot.gpu is None or slot.gpu.acquire():
            return list(self._tasks)
        return [name for name, task in self._tasks.items() if task.queue != "gpu"]

    # ---- queue

    def _follows(self, claim: Claim) -> list[str]:
        task = self._plan.tasks[claim.table_name]
        return [name for name in task.follows if name in self._tasks]

    def _settle(self, task: Task) -> None:
        """See at once which jobs nobody waits for any more, before one of them is claimed."""
        if task.settles:
            self._dirty.update(name for name in task.settles if name in self._tasks)
            self._priority.forget()
            self._settled = True

    def _refresh_dirty(self) -> None:
        due, self._dirty = self._dirty, set()
        self._refresh([task for task in self._tasks.values() if task.name in due])

    def _refresh(self, tasks: Iterable[Task]) -> bool:
        """Refresh tables, those that another worker is at later; tell whether jobs were added."""
        added, missed = refresh.refresh(self._ledger, tasks, self._priority)
        self._dirty.update(name for name in missed if name in self._tasks)
        if added:
            self._starved = False
        return added > 0

    def _refresh_changed(self) -> None:
        """See what has become due anywhere: a key source may hang on more than foreign keys."""
        self._ended = False
        self._dirty.clear()
        self._refresh(self._counter.changed())

    def _elected_refresh(self) -> None:
        """Once in a while, for all workers, see what was put in from outside."""
        every = min(max(5.0, 2 * self.options.sleep_duration), _PLAN_S)
        if not self._ledger.elected(REFRESH, every):
            return
        moved = self._ledger.persist(self._priority.changed)
        exact = moved or self._refreshes % 60 == 0
        self._refreshes += 1
        self._refresh(list(self._plan) if exact else self._counter.changed())

    def _reap(self) -> None:
        """Free others' expired jobs, but not right after an outage: nobody could renew then."""
        if self._ledger.reconnects != self._seen_reconnects:
            self._seen_reconnects = self._ledger.reconnects
        elif self._ledger.reap():
            self._starved = False

    def _drained(self) -> bool:
        """Tell whether nothing is due, waiting or running in the queues served."""
        if self._refresh(self._tasks.values()) or self._dirty:
            return False
        marks = ",".join(["%s"] * len(self._tasks))
        open_jobs = self._ledger.rows(
            f"SELECT COUNT(*) FROM {tables.Job.full_table_name} "
            f"WHERE status IN ('pending','running') AND table_name IN ({marks})",
            list(self._tasks),
        )
        return int(open_jobs[0][0]) == 0

    # ---- heartbeat and end

    def _heartbeat(self, ledger: Ledger) -> None:
        """Renew leases until the worker has finished; the thread's connection is its own."""
        try:
            while not self._finished.wait(min(self.options.lease_s / 3, _BEAT_S)):
                held = [claim for slot in self._slots if (claim := slot.claim) is not None]
                owned = ledger.heartbeat(held)
                if (hold := self._ledger.held) is not None:  # of the other thread
                    ledger.keep(hold)
                self._beat_at = time.monotonic()
                time.sleep(_TICK_S)  # the last word of a slot that has just ended may be on its way
                self._stolen |= {claim.token for claim in held if claim.job_id not in owned}
        except database.Stopped:
            pass  # the worker ends, and with it the need for leases
        except Exception as error:
            self._failure = error
            self.stop()
        finally:
            ledger.connection.close()

    def _close(self) -> None:
        for slot in self._slots:
            claim = slot.claim
            slot.close()  # first: its transaction is over, one way or the other
            if claim is not None:
                self._return(claim)
        self._slots = []
        self._ledger._stop = lambda: True  # one try: who waits for a dead server at the end?
        try:
            self._ledger.set_state("stopped")
        except Exception as error:
            log.warning("could not report the end of this worker: %s", error)

    def _return(self, claim: Claim) -> None:
        deadline = time.monotonic() + 5.0
        self._ledger._stop = lambda: time.monotonic() > deadline
        try:
            back = self._ledger.hand_back(claim)
        except database.Stopped:
            log.warning("%s %s stays leased: no database", claim.table_name, claim.key)
            return
        self._count("returned" if back else "done", claim, 0.0, "")


def run_worker(options: Options, on_event: Event | None = None) -> Summary:
    """Run one worker in this process; see `Options` and `Worker`."""
    return Worker(options, on_event).run()
