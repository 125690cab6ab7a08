"""How the pipeline is doing: what is done, due, running and wrong; and whether it could run."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from workers import embedded, limits, refresh, tables
from workers.database import exclusive
from workers.lease import Ledger
from workers.plan import Plan

_COLUMNS = ("pending", "running", "error", "ignore")


def status(ledger: Ledger, plan: Plan) -> dict[str, Any]:
    """Count every table's rows and jobs.

    Parameters
    ----------
    ledger : Ledger
        Job tables.
    plan : Plan
        Tables to count.

    Returns
    -------
    dict
        `tables`: one dict each with `table, done, due, pending, running, error, ignore,
        seconds` (median duration of a job); `running`: jobs under way with `elapsed_s`;
        `workers`: those seen in the last two minutes; `jobs_error`: their number.
    """
    job, attempt = tables.Job.full_table_name, tables.Attempt.full_table_name
    counts: dict[str, dict[str, int]] = {}
    for name, state, n in ledger.rows(
        f"SELECT table_name, status, COUNT(*) FROM {job} GROUP BY table_name, status"
    ):
        counts.setdefault(name, {})[state] = int(n)
    durations: dict[str, list[float]] = {}
    for name, seconds in ledger.rows(
        f"SELECT table_name, duration_s FROM {attempt} WHERE outcome='done'"
    ):
        durations.setdefault(name, []).append(float(seconds))
    listed = []
    for task in plan:
        own = counts.get(task.name, {})
        spent = sorted(durations.get(task.name, []))
        listed.append(
            {
                "table": task.name,
                "done": ledger.persist(lambda task=task: len(task.table())),
                "due": ledger.persist(lambda task=task: len(refresh.due(task))),
                **{state: own.get(state, 0) for state in _COLUMNS},
                "seconds": spent[len(spent) // 2] if spent else None,
            }
        )
    return {
        "tables": listed,
        "running": _running(ledger),
        "workers": _workers(ledger),
        "jobs_error": sum(row["error"] for row in listed),
    }


def tally(prefix: str = "inception") -> tuple[dict[str, tuple[int, float]], int, list[str]]:
    """Count jobs over this process's DataJoint connection, cheaply enough to do it twice a second.

    Parameters
    ----------
    prefix : str
        Prefix of the database schemas.

    Returns
    -------
    done : dict
        Table name to number of jobs done and time spent in them (s).
    waiting : int
        Jobs pending.
    running : list of str
        Table name of every job under way.
    """
    import datajoint as dj

    ledger = Ledger(dj.conn()) if tables.schema.database else _first_ledger(dj.conn(), prefix)
    done = ledger.rows(
        "SELECT table_name, COUNT(*), SUM(duration_s) FROM "
        f"{tables.Attempt.full_table_name} WHERE outcome='done' GROUP BY table_name"
    )
    jobs = ledger.rows(
        f"SELECT table_name, status FROM {tables.Job.full_table_name} "
        "WHERE status IN ('pending', 'running')"
    )
    return (
        {name: (int(count), float(seconds)) for name, count, seconds in done},
        sum(state == "pending" for _, state in jobs),
        [name for name, state in jobs if state == "running"],
    )


def _first_ledger(connection: Any, prefix: str) -> Ledger:
    with exclusive(connection, "inception_declare"):  # a worker may be declaring them just now
        tables.activate(prefix)
        tables.declare()
    return Ledger(connection)


def _running(ledger: Ledger) -> list[dict[str, Any]]:
    rows = ledger.rows(
        f"SELECT table_name, job_key, worker, claimed_at, attempts, {ledger.now()} "
        f"FROM {tables.Job.full_table_name} WHERE status='running' ORDER BY claimed_at"
    )
    return [
        {
            "table": name,
            "key": json.loads(key),
            "worker": worker,
            "elapsed_s": (now - claimed).total_seconds(),
            "attempt": int(attempts),
        }
        for name, key, worker, claimed, attempts, now in rows
    ]


def _workers(ledger: Ledger) -> list[dict[str, Any]]:
    rows = ledger.rows(
        f"SELECT worker, host, pid, slots, queues, version, state FROM "
        f"{tables.Worker.full_table_name} WHERE state <> 'stopped' AND "
        f"seen_at > {ledger.now(-120.0)} ORDER BY started_at"
    )
    names = ("worker", "host", "pid", "slots", "queues", "version", "state")
    return [dict(zip(names, row, strict=True)) for row in rows]


def errors(ledger: Ledger, table: str | None = None) -> list[dict[str, Any]]:
    """List quarantined jobs, newest last: table, key, class, message, attempts, stack."""
    where, args = ("AND table_name=%s", (table,)) if table else ("", ())
    rows = ledger.rows(
        "SELECT job_id, table_name, job_key, error_class, error_message, attempts, error_stack "
        f"FROM {tables.Job.full_table_name} WHERE status='error' {where} "
        "ORDER BY not_before, job_id",
        args,
    )
    names = ("job_id", "table", "key", "class", "message", "attempts", "stack")
    found = [dict(zip(names, row, strict=True)) for row in rows]
    return [{**row, "key": json.loads(row["key"])} for row in found]


def retry(ledger: Ledger, table: str | None = None, key: dict[str, Any] | None = None) -> int:
    """Put quarantined and ignored jobs back into the queue; return their number."""
    return _change(
        ledger, ("error", "ignore"), table, key, "status='pending', crashes=0, retries=0"
    )


def ignore(ledger: Ledger, table: str | None = None, key: dict[str, Any] | None = None) -> int:
    """Set quarantined and pending jobs aside for good; return their number."""
    return _change(ledger, ("error", "pending"), table, key, "status='ignore'")


def _change(
    ledger: Ledger,
    states: Sequence[str],
    table: str | None,
    key: dict[str, Any] | None,
    change: str,
) -> int:
    marks = ",".join(["%s"] * len(states))
    where, args = ("AND table_name=%s", [table]) if table else ("", [])
    rows = ledger.rows(
        f"SELECT job_id, job_key FROM {tables.Job.full_table_name} "
        f"WHERE status IN ({marks}) {where}",
        [*states, *args],
    )
    wanted = (key or {}).items()
    chosen = [job for job, text in rows if wanted <= json.loads(text).items()]
    changed = 0
    for job in sorted(chosen):
        changed += ledger.execute(
            f"UPDATE {tables.Job.full_table_name} SET {change}, not_before={ledger.now()} "
            f"WHERE job_id=%s AND status IN ({marks})",
            [job, *states],
        )
    ledger.wake()
    return changed


def doctor(home: str | os.PathLike | None = None) -> list[dict[str, Any]]:
    """Check what the pipeline needs; each check has `check, ok, found, remedy`."""
    checks: list[tuple[str, Callable[[], str], str]] = [
        ("python packages", _packages, "pip install -c constraints.txt -e ."),
        (
            "database",
            lambda: _database(home),
            "inception db start, or check DJ_HOST, DJ_USER, DJ_PASS",
        ),
        ("tables can be made", _grants, "grant CREATE on the schemas inception_*"),
        ("store", _store, "check the location of store 'main' and its permissions"),
        ("disk", lambda: _disk(home), "free at least 5 GB, or use another --home"),
        ("device", _device, "torch must be importable"),
        ("cores and memory", _machine, "4 GB are enough for the demo"),
    ]
    results = []
    for name, check, remedy in checks:
        try:
            found, ok = check(), True
        except Exception as error:  # a doctor reports what it finds
            found, ok = " ".join(f"{type(error).__name__}: {error}".split()), False
        results.append({"check": name, "ok": ok, "found": found, "remedy": "" if ok else remedy})
    return results


def _packages() -> str:
    names = ("datajoint", "numpy", "torch", "opencv-python-headless", "numba")
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)


def _database(home: str | os.PathLike | None) -> str:
    connection = embedded.connect(home)
    server = connection.query("SELECT version()").fetchone()[0]
    kind = "embedded" if embedded.is_embedded() else "configured"
    name = "" if "PostgreSQL" in server else "MySQL "
    return f"{kind} {name}{server.split(' on ')[0]} at {connection.conn_info['host']}"


def _grants() -> str:
    import datajoint as dj

    schema = dj.Schema("inception_doctor_check")
    schema.drop(prompt=False)
    return "yes"


def _store() -> str:
    import datajoint as dj

    store = dj.config.stores["main"]
    if store["protocol"] == "file":
        with tempfile.NamedTemporaryFile(dir=store["location"]) as probe:
            probe.write(b"x")
    return f"{store['protocol']} {store['location']}"


def _disk(home: str | os.PathLike | None) -> str:
    free = shutil.disk_usage(embedded.home_folder(home)).free
    if free < 5e9:
        raise OSError(f"{free / 1e9:.1f} GB free")
    return f"{free / 1e9:.0f} GB free"


def _device() -> str:
    from pipeline.device import pick_device

    return str(pick_device())


def _machine() -> str:
    memory = limits.usable_memory()
    if memory < 4e9:
        raise MemoryError(f"{memory / 1e9:.1f} GB of memory")
    return f"{limits.usable_cores()} cores, {memory / 1e9:.0f} GB"


def store_folder() -> Path | None:
    """Return the folder of the store `main`, or None if it is not one of files."""
    import datajoint as dj

    store = dj.config.stores.get("main", {})
    return Path(store["location"]) if store.get("protocol") == "file" else None
