"""What a worker does with its slots: give them jobs, hear what they say, record the outcome."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable
from multiprocessing.connection import wait
from typing import Any

from workers.compute import gpu
from workers.compute.faults.pauses import Pauses
from workers.compute.gpu import Gpu
from workers.compute.lookout import Lookout
from workers.compute.options import Options, Summary
from workers.compute.schedule import Schedule
from workers.compute.slot import Slot
from workers.database import server
from workers.queue.claims import Claim
from workers.queue.lease import MACHINE, Ledger
from workers.queue.order import Task

log = logging.getLogger("inception.worker")

TICK_S = 0.2  # longest time between two looks at signals, limits and queue (s)
_RETURN_S = 5.0  # longest time to give one job back at the end, if the database is down (s)
Event = Callable[[str, str, dict[str, Any], float, str], None]


class Crew:
    """The slots of one worker and the jobs in them.

    The main thread calls everything but `claims` and `lose`, which the heartbeat's thread calls.

    Parameters
    ----------
    options : Options
        Number of slots and limits of a job.
    tasks : dict
        Tables of the queues served, by name.
    ledger : Ledger
        Of the main thread.
    schedule : Schedule
        Hears when a slot became free.
    lookout : Lookout
        Hears of new rows.
    summary : Summary
        Gets the outcomes.
    on_event : callable
        Called with `(outcome, table, key, seconds, message)`.
    """

    def __init__(
        self,
        options: Options,
        tasks: dict[str, Task],
        ledger: Ledger,
        schedule: Schedule,
        lookout: Lookout,
        summary: Summary,
        on_event: Event,
    ) -> None:
        self._options, self._tasks = options, tasks
        self._ledger, self._schedule, self._lookout = ledger, schedule, lookout
        self._summary, self._tell = summary, on_event
        self._slots: list[Slot] = []
        self._stolen: set[int] = set()  # tokens of claims that others hold by now
        self._born_dead = 0
        self.pauses = Pauses()

    def start(
        self, setup: dict[str, Any], variables: dict[str, str], paths: list[str], memory: int
    ) -> None:
        """Start the processes, each with its share of the GPUs; see `Slot`."""
        gpus = gpu.names() or [None]
        shared = itertools.islice(itertools.cycle(gpus), self._options.processes)
        self._slots = [Slot(setup, variables, paths, memory, name and Gpu(name)) for name in shared]

    def claims(self) -> list[Claim]:
        """Return the jobs in the slots."""
        return [claim for slot in self._slots if (claim := slot.claim) is not None]

    def lose(self, claims: list[Claim]) -> None:
        """Note jobs that others hold by now: their processes are ended at the next `collect`."""
        self._stolen |= {claim.token for claim in claims}

    @property
    def busy(self) -> bool:
        """Whether any slot has a job."""
        return any(slot.claim for slot in self._slots)

    def free(self) -> list[Slot]:
        """Return the slots that could take a job."""
        return [slot for slot in self._slots if slot.free]

    # ---- jobs that end

    def collect(self) -> None:
        """Hear what the slots say, for at most one tick."""
        by_link = {slot.link: slot for slot in self._slots}
        for link in wait(list(by_link), timeout=TICK_S):
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
            self.pauses.succeeded(claim.table_name)
            self._lookout.row_made(claim.table_name)
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
        self._schedule.job_ended()

    def _failed(self, claim: Claim, kind: str, message: str, stack: str, seconds: float) -> None:
        if kind == MACHINE:
            self._left_to_others(claim, message, seconds)
            return
        became = self._ledger.fail(claim, kind, message, stack)
        if became == "fenced":
            kind = "fenced"
            self._ledger.refused(claim)
        self._summary.quarantined += became == "error"
        self._count(kind, claim, seconds, message)
        if became != "fenced":
            level = logging.ERROR if became == "error" else logging.WARNING
            verdict = "set aside" if became == "error" else "will be tried again"
            log.log(level, "%s %s: %s (%s)", claim.table_name, claim.key, message, verdict)

    def _left_to_others(self, claim: Claim, reason: str, seconds: float) -> None:
        """Hand back what this machine cannot do; nothing is set aside for it."""
        back = self._ledger.hand_back(claim, reason)
        self.pauses.failed(claim.table_name, claim.job_id, reason)
        self._count("returned" if back else "fenced", claim, seconds, reason)
        log.warning("%s %s: %s (handed back: %s)", claim.table_name, claim.key, reason, MACHINE)

    def _count(self, outcome: str, claim: Claim, seconds: float, message: str) -> None:
        self._summary.outcomes[outcome] += 1
        self._tell(outcome, claim.table_name, claim.key, seconds, message)

    # ---- jobs that begin

    def fill(self, free: list[Slot]) -> bool:
        """Give jobs to free slots; False if there were fewer jobs than slots."""
        found_none = False
        avoid = self.pauses.avoided()
        for slot in free:
            if not slot.free:  # the caller's list is older than its last call
                continue
            reconnects = self._ledger.reconnects
            claim = self._ledger.claim(self._names(slot), avoid)
            if self._ledger.reconnects != reconnects:
                self._ledger.adopt_strays(self.claims() + [claim] * (claim is not None))
            if claim is None:
                if slot.gpu is None:
                    return False
                slot.gpu.release()
                found_none = True  # another slot's GPU may be free
                continue
            task = self._tasks[claim.table_name]
            if slot.gpu is not None and task.queue != "gpu":
                slot.gpu.release()
            slot.give(claim, task.timeout_s or self._options.job_timeout_s)
            self._tell("started", claim.table_name, claim.key, 0.0, "")
        return not found_none

    def _names(self, slot: Slot) -> list[str]:
        """Return the tables a slot may work on: those of the queue `gpu` if its GPU is free."""
        names = [name for name in self._tasks if self.pauses.allows(name)]
        if slot.gpu is None or slot.gpu.acquire():
            return names
        return [name for name in names if self._tasks[name].queue != "gpu"]

    # ---- the end

    def close(self) -> None:
        """End the processes and give back what they had not finished."""
        for slot in self._slots:
            claim = slot.claim
            slot.close()  # first: its transaction is over, one way or the other
            if claim is not None:
                self._return(claim)
        self._slots = []

    def _return(self, claim: Claim) -> None:
        self._ledger.give_up_after(_RETURN_S)
        try:
            back = self._ledger.hand_back(claim)
        except server.Stopped:
            log.warning("%s %s stays leased: no database", claim.table_name, claim.key)
            return
        self._count("returned" if back else "done", claim, 0.0, "")
