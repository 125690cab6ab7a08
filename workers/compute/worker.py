"""The worker: claims jobs, has them computed in other processes, records what became of them.

The parent never computes. Its main thread asks `Schedule` what is due, has `Lookout` do it in the
queue, and `Crew` with the slots; a second thread renews leases over its own connection. Whatever
happens to a slot's process costs one attempt of one job; whatever happens to this process costs the
others one lease time.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from workers.compute import environment, limits
from workers.compute.crew import TICK_S, Crew, Event
from workers.compute.lookout import Lookout
from workers.compute.options import Options, Summary
from workers.compute.schedule import Schedule
from workers.compute.slot import Slot
from workers.database import opening, server
from workers.insight import forecast
from workers.queue.lease import Ledger
from workers.version import code_version

log = logging.getLogger("inception.worker")

_BEAT_S = 5.0  # longest time between two heartbeats, and until a cancelled job is ended (s)


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
        self._crew: Crew | None = None  # once the database is open
        self._finished = threading.Event()
        self._beat_at = time.monotonic()  # of the last heartbeat that reached the database

    def life(self) -> dict[str, Any]:
        """Say how the worker is: `alive`, seconds since the last heartbeat, jobs, outcomes."""
        silent = time.monotonic() - self._beat_at
        return {
            "alive": self._failure is None and silent < 2 * self.options.lease_s,
            "heartbeat_s": round(silent, 1),
            "jobs": [claim.table_name for claim in self._crew.claims()] if self._crew else [],
            "draining": self.stopping,
            "outcomes": dict(self.summary.outcomes),
            "fault": self._crew.pauses.reason if self._crew else None,
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
            if server.is_connection_error(error):
                raise NotStartedError(" ".join(str(error).split())) from error
            raise
        previous = self._catch_signals()
        beat = threading.Thread(target=self._heartbeat, args=(pulse,), daemon=True)
        try:
            self._crew.start(*self._slot_arguments())
            beat.start()
            self._loop()
        except server.Stopped:
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
        connection = server.wait_for_server(options.home)
        self._plan = opening.open_tables(connection, options.source, options.prefix)
        tasks = {task.name: task for task in self._plan.select(options.queues)}
        self._ledger = self._new_ledger(connection, self._out_of_time)
        self._schedule = Schedule(options)
        self._lookout = Lookout(
            self._ledger, self._plan, tasks, self._schedule, options.sleep_duration
        )
        self._crew = Crew(
            options,
            tasks,
            self._ledger,
            self._schedule,
            self._lookout,
            self.summary,
            self._tell,
        )
        self._ledger.register(
            pid=os.getpid(), slots=options.processes, queues=",".join(options.queues or ())
        )
        self._ledger.wake()
        return self._new_ledger(
            server.new_connection(), lambda: self._finished.is_set() or self._out_of_time()
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

    def _slot_arguments(self) -> tuple[dict[str, Any], dict[str, str], list[str], int]:
        options = self.options
        setup = {
            "source": options.source,
            "prefix": options.prefix,
            "home": options.home and str(options.home),
            "worker": self.name,
            "environment": environment.record_environment(self._ledger),
            "log_level": log.getEffectiveLevel(),
        }
        threads = max(1, limits.usable_cores() // options.processes)
        paths = [str(Path(__file__).resolve().parents[2]), *filter(None, sys.path)]
        variables = {
            **os.environ,
            **limits.thread_environment(threads),
            **limits.memory_environment(),
        }
        share = 0.9 * limits.usable_memory() / options.processes
        memory = int(options.memory_gb * 2**30 if options.memory_gb else share)
        return setup, variables, list(dict.fromkeys(paths)), memory

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
        schedule, lookout, crew = self._schedule, self._lookout, self._crew
        schedule.begin(time.monotonic())
        draining = False
        while True:
            crew.collect()
            now = time.monotonic()
            if schedule.is_over(now) and not self.stopping:
                self.stop()
            if self.stopping:
                if not draining:
                    draining = True
                    self._ledger.set_state("draining")
                if self._out_of_time() or not crew.busy:
                    return
                continue
            if schedule.reap_is_due(now):
                lookout.reap()
            free = crew.free()
            if schedule.refresh_is_due(now):
                lookout.refresh_dirty()
                schedule.refreshed(now, time.monotonic())
            if free and schedule.claim_is_due(now):
                self._claim(free)
            if schedule.look_is_due(now) and self._look():
                return

    def _claim(self, free: list[Slot]) -> None:
        """Give jobs to free slots; where there are none, see at once what has become due."""
        all_busy = self._crew.fill(free)
        if not all_busy and self._schedule.take_ended():
            self._lookout.refresh_changed()
            all_busy = self._crew.fill(free)
        self._schedule.claimed(all_busy=all_busy)

    def _look(self) -> bool:
        """See what was put in from outside; tell whether the worker has nothing left to do."""
        self._lookout.refresh_elected()
        self._schedule.looked(busy=self._crew.busy)
        if self._schedule.idled_enough:
            return True
        if self.options.exit_when_idle and self._schedule.idle and self._lookout.is_drained():
            self.summary.plans_due = forecast.coming(self._ledger, self._plan)
            return True
        pauses = self._crew.pauses
        if self.options.exit_when_idle and pauses.hopeless and not self._crew.busy:
            self.summary.fault = pauses.reason
            return True
        return False

    # ---- heartbeat and end

    def _heartbeat(self, ledger: Ledger) -> None:
        """Renew leases until the worker has finished; the thread's connection is its own."""
        try:
            while not self._finished.wait(min(self.options.lease_s / 3, _BEAT_S)):
                held = self._crew.claims()
                owned = ledger.heartbeat(held)
                if (hold := self._ledger.held) is not None:  # of the other thread
                    ledger.keep(hold)
                self._beat_at = time.monotonic()
                time.sleep(TICK_S)  # the last word of a slot that has just ended may be on its way
                self._crew.lose([claim for claim in held if claim.job_id not in owned])
        except server.Stopped:
            pass  # the worker ends, and with it the need for leases
        except Exception as error:
            self._failure = error
            self.stop()
        finally:
            ledger.connection.close()

    def _close(self) -> None:
        self._crew.close()
        self._ledger.give_up_after(0.0)  # one try: who waits for a dead server at the end?
        try:
            self._ledger.set_state("stopped")
        except Exception as error:
            log.warning("could not report the end of this worker: %s", error)


def run_worker(options: Options, on_event: Event | None = None) -> Summary:
    """Run one worker in this process; see `Options` and `Worker`."""
    return Worker(options, on_event).run()
