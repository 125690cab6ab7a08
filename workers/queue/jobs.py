"""Jobs that a person deals with: what failed and why, try again, set aside, stop."""

from __future__ import annotations

import getpass
import json
import os
import socket
from collections.abc import Sequence
from typing import Any

import datajoint as dj

from workers.database import server
from workers.database.datajoint_internals import ForeignKeys, plain_columns
from workers.insight import ancestry
from workers.queue import lease, tables
from workers.queue.lease import Ledger
from workers.queue.order import TaskOrder
from workers.queue.refresh import LEFT_BEHIND
from workers.queue.stopped import STOPPED

_ADVICE = {
    "data": "repair or replace the input and `inception retry`, or `inception ignore` the key",
    "error": "a fault of the program or its parameters: see `inception errors --stack`, then "
    "`inception retry` after an update, or report it",
    "crash": f"the process died {lease.MAX_CRASHES} times: the stack shows where; look for "
    "damaged files, then `inception retry`",
    "memory": "needs more memory: `inception retry`, with `inception worker --memory-gb` higher "
    "or fewer --processes",
    "timeout": "takes too long: `inception retry` with `inception worker --job-timeout` higher, "
    "if the input is really that large",
    "transient": f"failed {lease.MAX_RETRIES} times though it might have passed: check disk and "
    "database by `inception doctor`, then `inception retry`",
    "lost": "its workers vanished again and again: were they out of memory, or shut down? "
    "`inception retry` when that is solved",
}


def errors(
    ledger: Ledger,
    plan: TaskOrder,
    table: str | None = None,
    key: dict[str, Any] | None = None,
    *,
    most: int | None = None,
    skip: int = 0,
) -> list[dict[str, Any]]:
    """List quarantined jobs, the newest last; one page of them the newest first.

    Parameters
    ----------
    ledger : Ledger
        Job tables.
    plan : TaskOrder
        The pipeline, to look up the input.
    table : str, optional
        Readable name of a table.
    key : dict, optional
        Part of a key.
    most, skip : int
        Size of a page, and how many newer jobs to leave out; by default all are listed.

    Returns
    -------
    list of dict
        `job_id, table, key, class, message, attempts, stack`; `input`, a line for every row that
        the job hangs on; and `advice`.
    """
    where, args = ("AND table_name=%s", (table,)) if table else ("", ())
    order, page = "", ""
    if most is not None:
        order, page = " DESC", f" LIMIT {int(most)} OFFSET {int(skip)}"
    rows = ledger.rows(
        "SELECT job_id, table_name, job_key, error_class, error_message, attempts, error_stack "
        f"FROM {tables.Job.full_table_name} WHERE status='error' {where} "
        f"ORDER BY not_before{order}, job_id{order}{page}",
        args,
    )
    names = ("job_id", "table", "key", "class", "message", "attempts", "stack")
    found = [dict(zip(names, row, strict=True)) for row in rows]
    found = [{**row, "key": json.loads(row["key"])} for row in found]
    return [
        {**row, "input": _input(ledger, plan, row), "advice": _ADVICE.get(row["class"], "")}
        for row in found
        if (key or {}).items() <= row["key"].items()
    ]


def _input(ledger: Ledger, plan: TaskOrder, row: dict[str, Any]) -> list[str]:
    """Describe the rows that the foreign keys of a failed key point to, one line each."""
    task = plan.tasks.get(row["table"])
    if task is None:  # of an older version of the pipeline
        return []
    names = ancestry.table_names(plan, ledger.connection)
    lines = []
    for parent, pairs in ForeignKeys(ledger.connection).parents(task.table.full_table_name):
        columns = {theirs: ours for ours, theirs in pairs.items()}
        if not set(columns.values()) <= row["key"].keys():
            continue
        wanted = {theirs: row["key"][ours] for theirs, ours in columns.items()}
        query = dj.FreeTable(ledger.connection, parent) & wanted
        plain = plain_columns(query)
        shown = ledger.persist(lambda query=query, plain=plain: query.proj(*plain).to_dicts())
        lines += [f"{names[parent]}: {ancestry.sentence(values)}" for values in shown]
    return lines


def retry(ledger: Ledger, table: str | None = None, key: dict[str, Any] | None = None) -> int:
    """Put quarantined, ignored and cancelled jobs back into the queue; return their number.

    Those that a plan left behind at its deadline, or of a stopped loop, only if a table or key is
    named.
    """
    left = table is not None or key is not None
    changed = _change(
        ledger, ("error", "ignore"), table, key, "status='pending', crashes=0, retries=0", left
    )
    ledger.wake()
    return changed


def ignore(ledger: Ledger, table: str | None = None, key: dict[str, Any] | None = None) -> int:
    """Set quarantined and pending jobs aside for good; return their number."""
    return _change(ledger, ("error", "pending"), table, key, "status='ignore'")


def cancel(ledger: Ledger, table: str | None = None, key: dict[str, Any] | None = None) -> int:
    """Stop running jobs and set them aside; return their number.

    The fence refuses their commit from now on; at its next heartbeat the worker finds that the
    job is no longer its own, and kills the process. A job that has just ended is not counted.
    """
    chosen = _choose(ledger, ("running",), table, key)
    return sum(ledger.persist(lambda job=job: stop_one(ledger, *job)) for job in chosen)


def stop_one(ledger: Ledger, job: str, token: int) -> bool:
    """Stop one running job; return False if it has just ended or has another owner."""
    who = f"cancelled by {user_name()} on {socket.gethostname()}"
    with server.transaction(ledger.connection):
        ended = ledger.connection.query(
            f"UPDATE {tables.Job.full_table_name} SET status='ignore', worker=NULL, "
            "lease_until=NULL, error_class='cancelled', error_message=%s "
            "WHERE job_id=%s AND token=%s AND status='running'",
            (who, job, token),
        )
        if ended.rowcount != 1:
            return False
        ledger.connection.query(
            f"UPDATE {tables.Attempt.full_table_name} SET outcome='cancelled', message=%s, "
            f"ended_at={ledger.now()} WHERE job_id=%s AND token=%s",
            (who, job, token),
        )
    return True


def user_name() -> str:
    """Return the login of whoever runs this process, or the number of an account without one."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's account without a name
        return f"uid {os.getuid()}"


def _change(
    ledger: Ledger,
    states: Sequence[str],
    table: str | None,
    key: dict[str, Any] | None,
    change: str,
    left_behind: bool = True,
) -> int:
    marks = ",".join(["%s"] * len(states))
    return sum(
        ledger.execute(
            f"UPDATE {tables.Job.full_table_name} SET {change}, not_before={ledger.now()} "
            f"WHERE job_id=%s AND status IN ({marks})",
            [job, *states],
        )
        for job, _ in sorted(_choose(ledger, states, table, key, left_behind))
    )


def _choose(
    ledger: Ledger,
    states: Sequence[str],
    table: str | None,
    key: dict[str, Any] | None,
    left_behind: bool = True,
) -> list[tuple[str, int]]:
    """Return id and token of the jobs in some states that match table and part of a key."""
    marks = ",".join(["%s"] * len(states))
    where, args = ("AND table_name=%s", [table]) if table else ("", [])
    if not left_behind:
        where += " AND (error_class IS NULL OR error_class NOT IN (%s, %s))"
        args += [LEFT_BEHIND, STOPPED]
    rows = ledger.rows(
        f"SELECT job_id, token, job_key FROM {tables.Job.full_table_name} "
        f"WHERE status IN ({marks}) {where}",
        [*states, *args],
    )
    wanted = (key or {}).items()
    return [(job, int(token)) for job, token, text in rows if wanted <= json.loads(text).items()]
