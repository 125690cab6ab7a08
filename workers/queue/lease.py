"""Leases on jobs: who may compute what, until when, and what became of it.

All times are the server's, all changes single conditional statements; see `workers.queue.claims`
for the fence that keeps all owners of a job but one from committing.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Sequence

import datajoint as dj

from workers.database import server
from workers.database.datajoint_internals import backend
from workers.queue import tables
from workers.queue.claims import Claim, canonical
from workers.queue.duties import Duties

MAX_CRASHES = 3  # attempts that took their process with them, then the job is quarantined
MAX_RETRIES = 8  # attempts lost to something that may pass
CRASHES = ("crash", "timeout", "memory")
PASSING = ("transient", "lost")
MACHINE = "machine"  # the fault of the place where it ran: no attempt, and never set aside
_WINDOW = 32  # candidates that a claim looks at
_RACES = 4  # of them, those it tries before it looks again
_LOOKS = 8  # looks in a row at which others were quicker every time, then the queue is left alone


class Ledger(Duties):
    """One worker's dealings with the job tables, over a connection that comes back.

    Parameters
    ----------
    connection : dj.Connection
        Used by one thread at a time.
    worker : str
        Unique name of this worker; empty for a mere reader.
    host, version : str
        Written to every attempt.
    lease_s : float
        How long a claim lasts without a heartbeat (s).
    stop : callable
        True ends waiting for a server that is down.
    """

    def __init__(
        self,
        connection: dj.Connection,
        worker: str = "",
        *,
        host: str = "",
        version: str = "",
        lease_s: float = 30.0,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        super().__init__(connection, lease_s=lease_s, stop=stop)
        self.worker, self.host, self.version = worker, host, version
        self._job = tables.Job.full_table_name
        self._attempt = tables.Attempt.full_table_name
        self._worker = tables.Worker.full_table_name

    # ---- workers

    def register(self, *, pid: int, slots: int, queues: str) -> None:
        """Report that this worker starts."""
        self.execute(
            f"INSERT INTO {self._worker} (worker, host, pid, slots, queues, version, state, "
            f"started_at, seen_at) VALUES (%s,%s,%s,%s,%s,%s,'running',{self.now()},{self.now()})",
            (self.worker, self.host, pid, slots, queues, self.version),
        )

    def set_state(self, state: str) -> None:
        """Report that this worker drains or has stopped."""
        self.execute(
            f"UPDATE {self._worker} SET state=%s, seen_at={self.now()} WHERE worker=%s",
            (state, self.worker),
        )

    def heartbeat(self, held: Sequence[Claim]) -> set[str]:
        """Renew the leases of the claims held; return the ids of those still owned.

        Row by row along the primary key: a wider update could deadlock with a job that commits.
        """
        self.execute(
            f"UPDATE {self._worker} SET seen_at={self.now()} WHERE worker=%s", (self.worker,)
        )
        owned = set()
        for claim in held:
            renewed = self.execute(
                f"UPDATE {self._job} SET lease_until={self.now(self.lease_s)} "
                "WHERE job_id=%s AND token=%s AND worker=%s AND status='running'",
                (claim.job_id, claim.token, self.worker),
            )
            if renewed == 1:
                owned.add(claim.job_id)
        return owned

    # ---- claims

    def claim(self, names: Sequence[str], avoid: Sequence[str] = ()) -> Claim | None:
        """Take the first due job of some tables, or None if there is none.

        Parameters
        ----------
        names : sequence of str
            Tables.
        avoid : sequence of str
            Ids of jobs to leave to other workers.

        Looks at a few candidates and takes one by a conditional update: whoever changes the row
        first has it, nobody waits for a lock. Of those that are equally urgent any one is taken,
        so that many workers do not race for the same row. The attempt is written in the same
        transaction, before any work.
        """
        for _ in range(_LOOKS if names else 0):
            candidates = self._candidates(names, avoid)
            if not candidates:
                return None
            equal = [pair for rank, *pair in candidates if rank == candidates[0][0]]
            random.shuffle(equal)
            for claim, old in equal[:_RACES]:
                if self.persist(lambda claim=claim, old=old: self._take(claim, old)):
                    return claim
        return None

    def _candidates(
        self, names: Sequence[str], avoid: Sequence[str]
    ) -> list[tuple[tuple[int, int], Claim, int]]:
        """Return rank, claim to be and present token of the first due jobs, in their order."""
        epoch_ms = (
            "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)"
            if backend(self.connection) == "postgresql"
            else "CAST(UNIX_TIMESTAMP(CURRENT_TIMESTAMP(3)) * 1000 AS SIGNED)"
        )
        marks = ",".join(["%s"] * len(names))
        others = f"AND job_id NOT IN ({','.join(['%s'] * len(avoid))}) " if avoid else ""
        rows = self.rows(
            "SELECT priority, stage_order, job_id, token, table_name, job_key, crashes, retries, "
            f"{epoch_ms} FROM {self._job} WHERE status='pending' AND not_before <= {self.now()} "
            f"AND table_name IN ({marks}) {others}"
            f"ORDER BY priority, stage_order, job_id LIMIT {_WINDOW}",
            [*names, *avoid],
        )
        found = []
        for priority, order, job, token, table, key, crashes, retries, server_ms in rows:
            newer = max(int(token) + 1, int(server_ms))
            claim = Claim(job, newer, table, json.loads(key), int(crashes), int(retries))
            found.append(((int(priority), int(order)), claim, int(token)))
        return found

    def _take(self, claim: Claim, old: int) -> bool:
        with server.transaction(self.connection):
            taken = self.connection.query(
                f"UPDATE {self._job} SET status='running', worker=%s, token=%s, "
                f"attempts=attempts+1, claimed_at={self.now()}, "
                f"lease_until={self.now(self.lease_s)} "
                "WHERE job_id=%s AND token=%s AND status='pending'",
                (self.worker, claim.token, claim.job_id, old),
            )
            if taken.rowcount != 1:
                return self._owns(claim)  # a commit whose answer was lost
            self.connection.query(
                f"INSERT INTO {self._attempt} (job_id, token, table_name, job_key, worker, host, "
                "version, started_at, outcome) "
                f"VALUES (%s,%s,%s,%s,%s,%s,%s,{self.now()},'running')",
                (
                    claim.job_id,
                    claim.token,
                    claim.table_name,
                    canonical(claim.key),
                    self.worker,
                    self.host,
                    self.version,
                ),
            )
        return True

    def _owns(self, claim: Claim) -> bool:
        cursor = self.connection.query(
            f"SELECT 1 FROM {self._job} WHERE job_id=%s AND token=%s AND worker=%s",
            (claim.job_id, claim.token, self.worker),
        )
        return cursor.fetchone() is not None

    def hand_back(self, claim: Claim, reason: str | None = None) -> bool:
        """Return an unfinished job without having burned an attempt; False if it was not ours.

        Parameters
        ----------
        claim : Claim
            The job.
        reason : str, optional
            What this worker's machine lacks; whoever looks at the job reads it.
        """
        change = "status='pending', worker=NULL, lease_until=NULL, attempts=attempts-1"
        values: tuple = ()
        if reason is not None:
            reason = _clean(reason)[:2000]
            change += ", error_class=%s, error_message=%s, error_stack=''"
            values = (MACHINE, reason)
        return self.persist(lambda: self._settle(claim, change, values, "returned", reason))

    def fail(self, claim: Claim, kind: str, message: str, stack: str = "") -> str:
        """Record a failed attempt.

        Parameters
        ----------
        claim : Claim
            What was tried.
        kind : str
            `data`, `error` (quarantined at once), `crash`, `timeout`, `memory` (after
            `MAX_CRASHES`), `transient` (after `MAX_RETRIES`, with growing pauses) or `lost`.
        message, stack : str
            What happened; the end of a long stack is kept.

        Returns
        -------
        str
            `error` if the job is quarantined now, `pending` if it will be tried again,
            `fenced` if it belonged to another worker already.
        """
        crashes = claim.crashes + (kind in CRASHES)
        retries = claim.retries + (kind in PASSING)
        again = (kind in CRASHES and crashes < MAX_CRASHES) or (
            kind in PASSING and retries < MAX_RETRIES
        )
        status = "pending" if again else "error"
        pause = min(2.0**retries, 60.0) if kind == "transient" else float(crashes)
        change = (
            f"status=%s, worker=NULL, lease_until=NULL, not_before={self.now(pause)}, "
            "crashes=%s, retries=%s, error_class=%s, error_message=%s, error_stack=%s"
        )
        values = (status, crashes, retries, kind, _clean(message)[:2000], _clean(stack)[-8000:])
        ours = self.persist(lambda: self._settle(claim, change, values, kind, message))
        return status if ours else "fenced"

    def refused(self, claim: Claim) -> None:
        """Record that the fence kept this attempt from committing."""
        self.execute(
            f"UPDATE {self._attempt} SET outcome='fenced', ended_at={self.now()} "
            "WHERE job_id=%s AND token=%s AND worker=%s AND outcome <> 'cancelled'",
            (claim.job_id, claim.token, self.worker),
        )

    def _settle(
        self, claim: Claim, change: str, values: tuple, outcome: str, message: str | None
    ) -> bool:
        with server.transaction(self.connection):
            changed = self.connection.query(
                f"UPDATE {self._job} SET {change} "
                "WHERE job_id=%s AND token=%s AND worker=%s AND status='running'",
                (*values, claim.job_id, claim.token, self.worker),
            )
            if changed.rowcount != 1:
                return False
            self.connection.query(
                f"UPDATE {self._attempt} SET outcome=%s, message=%s, ended_at={self.now()} "
                "WHERE job_id=%s AND token=%s",
                (outcome, message and _clean(message)[:2000], claim.job_id, claim.token),
            )
        return True

    def adopt_strays(self, held: Iterable[Claim]) -> int:
        """Return jobs in this worker's name that it does not work on, without an attempt burned.

        They come from claims whose commit succeeded while the connection was lost.
        """
        known = {(claim.job_id, claim.token) for claim in held}
        rows = self.rows(
            f"SELECT job_id, token, table_name, job_key FROM {self._job} "
            "WHERE worker=%s AND status='running'",
            (self.worker,),
        )
        strays = [
            Claim(job, int(token), table, json.loads(key))
            for job, token, table, key in rows
            if (job, int(token)) not in known
        ]
        return sum(self.hand_back(stray) for stray in strays)

    def reap(self) -> int:
        """Free jobs whose lease ran out: their worker is dead, cut off or stopped.

        Any worker may do it at any time; each job is freed by one.
        """
        expired = self.rows(
            f"SELECT job_id, token, table_name, job_key, crashes, retries, worker "
            f"FROM {self._job} WHERE status='running' AND lease_until < {self.now()} LIMIT 100"
        )
        freed = 0
        for job, token, table, key, crashes, retries, worker in expired:
            claim = Claim(job, int(token), table, json.loads(key), int(crashes), int(retries))
            freed += self.persist(lambda claim=claim, worker=worker: self._free(claim, worker))
        return freed

    def _free(self, claim: Claim, worker: str) -> bool:
        status = "pending" if claim.retries + 1 < MAX_RETRIES else "error"
        message = f"worker {worker} vanished"
        with server.transaction(self.connection):
            freed = self.connection.query(
                f"UPDATE {self._job} SET status=%s, worker=NULL, lease_until=NULL, "
                f"retries=retries+1, not_before={self.now()}, error_class='lost', "
                "error_message=%s, error_stack='' WHERE job_id=%s AND token=%s "
                f"AND status='running' AND lease_until < {self.now()}",
                (status, message, claim.job_id, claim.token),
            )
            if freed.rowcount != 1:
                return False
            self.connection.query(
                f"UPDATE {self._attempt} SET outcome='lost', message=%s, ended_at={self.now()} "
                "WHERE job_id=%s AND token=%s AND outcome='running'",
                (message, claim.job_id, claim.token),
            )
        return True


def _clean(text: str) -> str:
    return text.replace("\x00", "")  # PostgreSQL stores no NUL in text
