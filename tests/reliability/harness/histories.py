"""R11: random histories of leases, and a judge that knows only what was promised.

Many threads with connections of their own claim, renew, stall beyond their lease, commit, fail and
hand back the same few jobs. Every answer of the ledger is written down; afterwards the judge looks
for what must never be in such a log.
"""

import random
import threading
import time
from dataclasses import dataclass

import datajoint as dj
from storm_tables import PIECES, Value, digest

from workers.database import server
from workers.queue import claims, order, refresh
from workers.queue.lease import Ledger

LEASE_S = 0.25


@dataclass(frozen=True)
class Event:
    """What the ledger answered to one thread, between two moments of one clock (s)."""

    began: float
    ended: float
    kind: str  # claim, renewed, unrenewed, commit, refused, failed, returned or forgotten
    job: str
    token: int
    worker: str


def write(fleet, *, seed, jobs=12, threads=4, seconds=3.0):
    """Let threads fight over some jobs until all are done; return the log of events."""
    fleet.seeds(jobs)
    loaded = order.load("storm_tables", fleet.prefix)
    refresh.refresh(Ledger(fleet.connection), loaded)
    log, errors = [], []
    end = time.monotonic() + seconds
    crew = [
        threading.Thread(target=_fight, args=(f"w{i}", random.Random((seed, i).__repr__()), log))
        for i in range(threads)
    ]
    for thread in crew:
        thread.end, thread.errors = end, errors
        thread.start()
    for thread in crew:
        thread.join(timeout=seconds + 60)
    assert not errors, errors
    return sorted(log, key=lambda event: event.ended)


def _fight(name, dice, log):
    me = threading.current_thread()
    try:
        ledger = Ledger(server.new_connection(), name, lease_s=LEASE_S)
        while time.monotonic() < me.end:
            ledger.reap()
            began = time.monotonic()
            claim = ledger.claim(["storm_tables.Value"])
            if claim is None:
                time.sleep(0.05)
                continue

            def note(kind, began, claim=claim):
                log.append(Event(began, time.monotonic(), kind, claim.job_id, claim.token, name))

            note("claim", began)
            _work(ledger, claim, dice, note)
        ledger.connection.close()
    except Exception as error:  # of a thread: the test shows it
        me.errors.append(error)


def _work(ledger, claim, dice, note):
    """Compute for a while, with heartbeats or without; then end the job in one of four ways."""
    for _ in range(dice.randrange(4)):
        time.sleep(dice.choice([0.02, 0.1, 1.5 * LEASE_S]))  # the last: a stalled worker
        if dice.random() < 0.7:
            began = time.monotonic()
            owned = claim.job_id in ledger.heartbeat([claim])
            note("renewed" if owned else "unrenewed", began)
    end, began = dice.random(), time.monotonic()
    if end < 0.15:
        became = ledger.fail(claim, "lost", "of a random history")
        note("refused" if became == "fenced" else "failed", began)
    elif end < 0.35:
        note("returned" if ledger.hand_back(claim) else "refused", began)
    elif end < 0.45:
        note("forgotten", began)  # as if killed: the lease runs out
    else:
        done = ledger.persist(lambda: _commit(ledger, claim))
        note("commit" if done else "refused", began)


def _commit(ledger, claim):
    number = claim.key["number"]
    connection = ledger.connection
    array = connection.adapter.quote_identifier("array")  # a word of PostgreSQL's own
    value, piece = Value.full_table_name, Value.Piece.full_table_name
    try:
        with server.transaction(connection):
            connection.query(
                f"INSERT INTO {value} (number, value, {array}) VALUES (%s, %s, %s)",
                (number, digest(number), "{}"),
            )
            for i in range(PIECES):
                connection.query(
                    f"INSERT INTO {piece} (number, piece, value) VALUES (%s, %s, %s)",
                    (number, i, digest((number, i))),
                )
            claims.fence(connection, claim, ledger.worker, 0.0)
    except (claims.Fenced, dj.errors.DuplicateError):
        return False
    return True


def judge(log, attempts):
    """Return every violation: an empty list is a history as promised.

    `attempts` are the rows of the ledger's own log.
    """
    wrong, claims, commits = [], {}, {}
    for event in (event for event in log if event.kind == "claim"):
        known = claims.setdefault(event.job, {})
        if event.token in known:
            wrong.append(f"a token given twice: {event}, {known[event.token]}")
        known[event.token] = event
    for event in log:
        newer = [c for token, c in claims[event.job].items() if token > event.token]
        if event.kind == "commit":
            if event.job in commits:
                wrong.append(f"two commits of one job: {event}, {commits[event.job]}")
            if newer:
                wrong.append(f"committed with an older token: {event}, {newer}")
            commits[event.job] = event
        if event.kind in ("renewed", "returned", "failed"):
            before = [claim for claim in newer if claim.ended < event.began]
            if before:
                wrong.append(f"{event.kind} with a token older than one seen: {event}, {before}")
    done = [(a["job_id"], a["token"]) for a in attempts if a["outcome"] == "done"]
    if sorted(done) != sorted((e.job, e.token) for e in commits.values()):
        wrong.append(f"commits and attempts marked done differ: {done}, {commits}")
    return [*wrong, *judge_attempts(attempts)]


def judge_attempts(attempts):
    """Judge the ledger's own log alone: what storms of real workers leave behind."""
    wrong, by_job = [], {}
    for attempt in attempts:
        by_job.setdefault(attempt["job_id"], []).append(attempt)
    for job, tries in by_job.items():
        tries.sort(key=lambda attempt: attempt["token"])
        starts = [attempt["started_at"] for attempt in tries]
        if starts != sorted(starts):
            wrong.append(f"{job}: an older token was given out later")
        # `present` computes nothing: a refresh has made a job for a key that was done meanwhile
        ends = [attempt["outcome"] for attempt in tries if attempt["outcome"] != "present"]
        if ends.count("done") > 1 or ("done" in ends and ends[-1] != "done"):
            wrong.append(f"{job}: committed, and then tried again: {ends}")
    return wrong
