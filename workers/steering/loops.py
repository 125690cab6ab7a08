"""Stop a loop and go on with it: its jobs wait, what other loops wait for is computed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import datajoint as dj

from pipeline.errors import DataError
from schemas import clock, closed_loop
from workers.queue import jobs, tables
from workers.queue.lease import Ledger
from workers.queue.stopped import STOPPED, stopped
from workers.steering.decide import scan_of

KEY = ("animal_id", "session", "scan_idx", "recipe_hash")


def find_loop(name: str) -> dict[str, Any]:
    """Return the key of the loop that a person names.

    Parameters
    ----------
    name : str
        Its scan, such as `1/1/1`, if that has one loop; or the id of its plan.

    Raises
    ------
    DataError
        If there is no such loop, or several are on the scan.
    """
    if re.fullmatch(r"[0-9a-f]{16}", name):
        found = (closed_loop.PlanTask & {"plan_id": name}).to_dicts()
        if not found:
            raise DataError("no such plan", field="loop", found=name, expected=_known())
        return {column: found[0][column] for column in KEY}
    parts = name.split("/")
    if len(parts) != 3 or not all(part.isdigit() for part in parts):
        raise DataError(
            "names no loop",
            field="loop",
            found=name,
            expected="animal/session/scan, such as 1/1/1, or the 16 characters of a plan",
        )
    scan = scan_of(dict(zip(KEY[:3], parts, strict=True)))
    loops = (closed_loop.Loop & scan).to_dicts(order_by=("registered DESC", "recipe_hash"))
    if not loops:
        raise DataError(f"no loop is registered on {name}", remedy=f"run `inception loop {name}`")
    if len(loops) > 1:
        plans = (closed_loop.PlanTask & scan).to_dicts(order_by="plan_id")
        raise DataError(
            f"{len(loops)} loops are registered on {name}",
            field="loop",
            found=", ".join(row["plan_id"] for row in plans),
            expected="one",
            remedy="name it by its plan",
        )
    return {column: loops[0][column] for column in KEY}


def _known() -> str:
    plans = closed_loop.PlanTask().to_arrays("plan_id", order_by="plan_id", limit=5).tolist()
    return ", ".join(plans) or "a plan; there is none"


def stop(loop: Mapping[str, Any], *, who: str, running: bool = False) -> dict[str, int]:
    """Have no job of a loop taken any more, unless another loop waits for it.

    Parameters
    ----------
    loop : mapping
        Key of `closed_loop.Loop`.
    who : str
        Who stops it.
    running : bool
        Stop the jobs under way, too: nothing of them is committed. Otherwise they end.

    Returns
    -------
    dict
        `waiting`, the jobs that were set aside; `running`, those under way that were stopped, or
        else are left.

    Raises
    ------
    DataError
        If there is no such loop.
    """
    key = expect_loop(loop)
    connection = closed_loop.Loop().connection
    row = {**key, "who": who[:64], "stopped_at": clock.now(connection)}
    closed_loop.StoppedLoop.insert1(row, skip_duplicates=True)
    ledger, held = Ledger(dj.conn()), stopped()
    why = f"its loop was stopped by {who}; `inception resume` goes on"[:2000]
    counts = {"waiting": 0, "running": 0}
    for job, token, text, state in ledger.rows(
        f"SELECT job_id, token, job_key, status FROM {tables.Job.full_table_name} "
        "WHERE status IN ('pending', 'running') ORDER BY job_id"
    ):
        if not held.holds(json.loads(text)):
            continue
        if state == "pending":
            counts["waiting"] += _set_aside(ledger, job, why, "pending")
        elif not running:
            counts["running"] += 1
        elif ledger.persist(lambda job=job, token=token: jobs.stop_one(ledger, job, int(token))):
            counts["running"] += _set_aside(ledger, job, why, "ignore")
    return counts


def _set_aside(ledger: Ledger, job: str, why: str, state: str) -> int:
    return ledger.execute(
        f"UPDATE {tables.Job.full_table_name} SET status='ignore', error_class=%s, "
        "error_message=%s WHERE job_id=%s AND status=%s",
        (STOPPED, why, job, state),
    )


def resume(loop: Mapping[str, Any]) -> int:
    """Go on with a loop that was stopped; return how many jobs wait again.

    Raises
    ------
    DataError
        If there is no such loop, or it is not stopped.
    """
    key = expect_loop(loop)
    if not closed_loop.StoppedLoop & key:
        raise DataError(
            "the loop is not stopped", field="loop", found="/".join(map(str, key.values()))
        )
    (closed_loop.StoppedLoop & key).delete(prompt=False)
    ledger, held = Ledger(dj.conn()), stopped()
    changed = 0
    for job, text in ledger.rows(
        f"SELECT job_id, job_key FROM {tables.Job.full_table_name} "
        "WHERE status='ignore' AND error_class=%s ORDER BY job_id",
        (STOPPED,),
    ):
        if not held.holds(json.loads(text)):
            changed += ledger.execute(
                f"UPDATE {tables.Job.full_table_name} SET status='pending', error_class=NULL, "
                f"error_message=NULL, not_before={ledger.now()} "
                "WHERE job_id=%s AND status='ignore' AND error_class=%s",
                (job, STOPPED),
            )
    ledger.wake()
    return changed


def expect_loop(loop: Mapping[str, Any]) -> dict[str, Any]:
    """Return the key of a loop that exists, or raise DataError."""
    key = {name: loop[name] for name in KEY}
    if not closed_loop.Loop & key:
        raise DataError("no such loop", field="loop", found="/".join(map(str, key.values())))
    return key
