"""What a worker claims: a job with its fencing token, and the fence that lets one owner commit.

A claim raises the job's token. The row computed, the token's check and the job's end are one
transaction: of two owners of a job, one commits.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import datajoint as dj

from schemas.clock import now_sql
from workers.queue import tables


class Fenced(RuntimeError):
    """The job belongs to another worker by now; nothing was committed."""


@dataclass(frozen=True)
class Claim:
    """A job that this worker may compute."""

    job_id: str
    token: int
    table_name: str
    key: dict[str, Any]
    crashes: int = 0
    retries: int = 0


def canonical(key: dict[str, Any]) -> str:
    """Return a key as canonical JSON; dates and decimals as text, which restricts alike."""
    return json.dumps(key, sort_keys=True, separators=(",", ":"), default=_plain)


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else str(value)


def job_id(table_name: str, key_text: str) -> str:
    """Return the job's id: 32 hex digits of SHA-256 over table and canonical key."""
    return hashlib.sha256(f"{table_name}\n{key_text}".encode()).hexdigest()[:32]


def fence(
    connection: dj.Connection,
    claim: Claim,
    worker: str,
    duration_s: float,
    site: tuple[str, str] | None = None,
    outcome: str = "done",
) -> None:
    """End a job inside the transaction that inserts its row, or refuse.

    Parameters
    ----------
    connection : dj.Connection
        In the transaction.
    claim : Claim
        The job.
    worker : str
        Its owner.
    duration_s : float
        Time spent in `make` (s).
    site : tuple, optional
        Hash of the environment and name of the device, for the row's provenance.
    outcome : str
        `done`, or `present` if the row was there already.

    Raises
    ------
    Fenced
        If the claim is no longer the job's newest; the caller must roll back.
    """
    job, attempt = tables.Job.full_table_name, tables.Attempt.full_table_name
    ended = connection.query(
        f"DELETE FROM {job} WHERE job_id=%s AND token=%s AND worker=%s AND status='running'",
        (claim.job_id, claim.token, worker),
    )
    if ended.rowcount != 1:
        raise Fenced(f"{claim.table_name} {canonical(claim.key)} has another owner")
    connection.query(
        f"UPDATE {attempt} SET outcome=%s, duration_s=%s, ended_at={now_sql(connection)} "
        "WHERE job_id=%s AND token=%s",
        (outcome, duration_s, claim.job_id, claim.token),
    )
    if site is not None:
        connection.query(
            f"INSERT INTO {tables.Provenance.full_table_name} "
            "(job_id, token, environment_hash, device) VALUES (%s,%s,%s,%s)",
            (claim.job_id, claim.token, *site),
        )
