# ruff: noqa: D101 - the first line of a definition says what the table holds
"""The workers' own tables: what is due, who works on it, what was tried."""

from __future__ import annotations

import datajoint as dj

from workers.database import schema_version

schema = dj.Schema()


@schema
class Job(dj.Manual):
    definition = """
    # A computation that is due, under way, failed or set aside; done, its row is deleted
    job_id             : char(32)       # hash of table and key
    ---
    table_name         : varchar(64)    # such as imaging.Motion
    job_key            : varchar(1000)  # primary key of the row to compute, canonical JSON
    status             : varchar(12)    # pending, running, error or ignore
    queue              : varchar(16)    # cpu, gpu or io
    priority           : int16          # lower runs first
    stage_order        : int16          # minus the table's rank: what is nearly done runs first
    created_at         : datetime(3)    # (UTC, server time)
    not_before         : datetime(3)    # (UTC, server time) when it may run, later after a failure
    attempts           : int32          # claims, less those handed back
    crashes            : int32          # attempts that took the process with them
    retries            : int32          # attempts lost to something that may pass
    token              : int64          # fencing token, grows with every claim
    worker=null        : varchar(64)    # owner while running
    claimed_at=null    : datetime(3)    # (UTC, server time)
    lease_until=null   : datetime(3)    # (UTC, server time) when others may take it
    error_class=null   : varchar(16)    # see workers.queue.jobs, or cancelled, late
    error_message=null : varchar(2000)  # of the last failure
    error_stack=null   : varchar(8000)  # of the last failure, its end
    INDEX(status, priority, stage_order, job_id)
    INDEX(table_name, status)
    INDEX(worker, status)
    """


@schema
class Attempt(dj.Manual):
    definition = """
    # One try at one job
    job_id          : char(32)       # hash of table and key
    token           : int64          # fencing token of the claim
    ---
    table_name      : varchar(64)    # such as imaging.Motion
    job_key         : varchar(1000)  # canonical JSON
    worker          : varchar(64)    # who tried
    host            : varchar(64)    # where
    version         : varchar(64)    # commit or release of the code
    started_at      : datetime(3)    # (UTC, server time)
    ended_at=null   : datetime(3)    # (UTC, server time)
    outcome         : varchar(12)    # running, done, present, returned, fenced, cancelled or class
    duration_s=null : float64        # (s) time inside make
    message=null    : varchar(2000)  # of a failure
    INDEX(table_name, outcome)
    """


@schema
class Environment(dj.Manual):
    definition = """
    # Packages that results were computed with
    environment_hash : char(16)     # hash of the columns below
    ---
    python           : varchar(16)
    platform         : varchar(64)  # system, processor family, C library
    packages         : json         # name and version of every installed package
    """


@schema
class Provenance(dj.Manual):
    definition = """
    # What computed a row, written in the transaction of the row itself; join it with Attempt
    -> Attempt
    ---
    -> Environment
    device : varchar(64)   # cuda and the name of the GPU, or cpu and the processor's
    """


@schema
class Worker(dj.Manual):
    definition = """
    # A worker that has reported itself
    worker     : varchar(64)   # unique for every start
    ---
    host       : varchar(64)
    pid        : int32
    slots      : int16         # jobs at a time
    queues     : varchar(64)   # comma-separated, empty for all
    version    : varchar(64)   # commit or release of the code
    state      : varchar(12)   # running, draining or stopped
    started_at : datetime(3)   # (UTC, server time)
    seen_at    : datetime(3)   # (UTC, server time) last heartbeat
    """


@schema
class Duty(dj.Manual):
    definition = """
    # Work that one worker does for all
    duty        : varchar(16)   # refresh, or refresh and the hash of a table
    ---
    next_at     : datetime(3)   # (UTC, server time) when somebody should do it again
    holder=null : char(32)      # who alone may free it before, unique for every time
    """


@schema
class SchemaVersion(dj.Manual):
    definition = """
    # Versions that the tables of this deployment have been brought to; the highest is theirs
    schema_version : int32
    ---
    recorded_at : datetime(3)   # (UTC, server time)
    code        : varchar(64)   # commit or release that did it
    """


@schema
class Deployment(dj.Manual):
    definition = """
    # Identity of this database; its store and its home bear the same id
    deployment_id  : char(32)      # random
    ---
    made_at        : datetime(3)   # (UTC, server time)
    marked_at=null : datetime(3)   # (UTC, server time) when store and home bore it
    """


ALL = (Job, Attempt, Environment, Provenance, Worker, Duty, SchemaVersion, Deployment)


def activate(prefix: str = "inception", connection: dj.Connection | None = None) -> None:
    """Bind the tables to the schema `{prefix}_workers`, declaring them where missing.

    Where there were none, they are of this code's version, and that is written down.
    """
    connection = connection or dj.conn()
    new = schema_version.installed(connection, prefix) is None
    schema.activate(f"{prefix}_workers", connection=connection)
    if new and SchemaVersion().is_declared:
        schema_version.record(connection, prefix)


def declare() -> None:
    """Make sure that every table exists in the database."""
    for table in ALL:
        if not table().is_declared:
            table().declare()
