"""The command line: `inception VERB`. Exit codes: 0 success, 2 usage, 1 anything else.

Heavy imports stand inside the verbs, so that `--help` answers at once.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    help="Inception loops: from two-photon scans to most exciting inputs and back.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
db = typer.Typer(help="The embedded database of a home folder.", no_args_is_help=True)
app.add_typer(db, name="db")


def _set_home(home: Path | None) -> Path | None:
    if home is not None:
        os.environ["INCEPTION_HOME"] = str(home.expanduser().resolve())
    return home


Home = Annotated[
    Path | None,
    typer.Option(
        "--home",
        callback=_set_home,
        is_eager=True,
        help="Folder of database and store [INCEPTION_HOME or ~/.inception].",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Scan = Annotated[str, typer.Argument(metavar="SCAN", help="animal/session/scan, such as 1/1/1.")]
Prefix = Annotated[str, typer.Option(help="Prefix of the database schemas.")]
PREFIX = os.environ.get("INCEPTION_PREFIX", "inception")


@app.callback()
def _main(home: Home = None) -> None:
    """Inception loops: from two-photon scans to most exciting inputs and back."""


# ---- putting in


@app.command()
def ingest(
    folder: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Bundle.")],
    home: Home = None,
    prefix: Prefix = PREFIX,
    as_json: Json = False,
) -> None:
    """Check a recording bundle and insert it, all or nothing."""
    _open(prefix)
    from schemas.ingest import ingest_bundle

    key = ingest_bundle(folder)
    _wake(prefix)
    _report(_plain(key), as_json, f"ingested {_slashed(key)} from {folder}")


@app.command("ingest-dataset")
def ingest_dataset(
    path: Annotated[Path, typer.Argument(exists=True, help="npz file or published folder.")],
    home: Home = None,
    prefix: Prefix = PREFIX,
    as_json: Json = False,
) -> None:
    """Insert a prepared data set: images, responses and tiers."""
    _open(prefix)
    from schemas import ingest as entry

    key = entry.ingest_dataset(path)
    _wake(prefix)
    _report(_plain(key), as_json, f"ingested {path}: {_plain(key)}")


@app.command()
def loop(
    scan: Scan,
    recipe: Annotated[str | None, typer.Option(help="Recipe hash [default recipe].")] = None,
    targets: Annotated[int | None, typer.Option(min=1, help="Neurons to target.")] = None,
    minutes: Annotated[float | None, typer.Option(min=0.1, help="Length of day 2.")] = None,
    deadline: Annotated[
        str | None, typer.Option(help="When the package is needed, ISO: 2026-11-24T08:00.")
    ] = None,
    home: Home = None,
    prefix: Prefix = PREFIX,
    as_json: Json = False,
) -> None:
    """Register a loop on a scan: everything up to the package follows by workers."""
    key = _scan_key(scan)
    given = {
        "recipe": recipe,
        "targets": targets,
        "minutes": minutes,
        "deadline": _deadline(deadline),
    }
    _open(prefix)
    from schemas import closed_loop

    made = closed_loop.register_loop(key, **{k: v for k, v in given.items() if v is not None})
    _wake(prefix)
    _report(_plain(made) or key, as_json, f"loop registered on {scan}; run `inception worker` next")


# ---- computing


@app.command()
def worker(
    run_duration: Annotated[float, typer.Option(help="Seconds to run; negative: for ever.")] = -1.0,
    exit_when_idle: Annotated[
        bool, typer.Option("--exit-when-idle", help="End when nothing is left to compute.")
    ] = False,
    queue: Annotated[
        list[str] | None, typer.Option(help="Queue to serve: cpu, gpu or io [all]; repeatable.")
    ] = None,
    sleep_duration: Annotated[float, typer.Option(help="Seconds between looks when idle.")] = 2.0,
    max_idled_cycle: Annotated[int, typer.Option(help="End after so many idle looks.")] = -1,
    processes: Annotated[int, typer.Option(min=1, help="Jobs at a time.")] = 1,
    lease: Annotated[float, typer.Option(min=1.0, help="Seconds until others take over.")] = 30.0,
    grace: Annotated[float, typer.Option(min=0.0, help="Seconds to finish after SIGTERM.")] = 25.0,
    job_timeout: Annotated[float, typer.Option(help="Longest seconds of one job.")] = 6 * 3600.0,
    memory_gb: Annotated[float | None, typer.Option(help="Most memory of one job.")] = None,
    schemas: Annotated[str, typer.Option(help="Module of the tables.", hidden=True)] = "schemas",
    home: Home = None,
    prefix: Prefix = PREFIX,
    as_json: Json = False,
) -> None:
    """Compute what is due, in the order of the foreign keys, until told to stop."""
    import logging

    from workers.loop import NotStartedError, Options, run_worker

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    known = {"cpu", "gpu", "io"}
    if queue and not set(queue) <= known:
        raise typer.BadParameter(f"queues are {sorted(known)}", param_hint="--queue")
    options = Options(
        source=schemas,
        prefix=prefix,
        home=home,
        processes=processes,
        queues=tuple(queue) if queue else None,
        run_duration=run_duration,
        sleep_duration=sleep_duration,
        max_idled_cycle=max_idled_cycle,
        exit_when_idle=exit_when_idle,
        lease_s=lease,
        grace_s=grace,
        job_timeout_s=job_timeout,
        memory_gb=memory_gb,
    )

    def show(outcome: str, table: str, key: dict, seconds: float, _message: str) -> None:
        if outcome != "started" and not as_json:
            where = ", ".join(f"{name}={value}" for name, value in key.items())
            print(f"{outcome:8s} {seconds:8.1f} s  {table}  {where}", flush=True)

    try:
        summary = run_worker(options, show)
    except NotStartedError as error:
        _start_again(str(error))
    outcomes = dict(summary.outcomes)
    text = f"{summary.done} rows computed"
    if summary.quarantined:
        text += f", {summary.quarantined} jobs set aside: see `inception errors`"
    _report({"outcomes": outcomes, "quarantined": summary.quarantined}, as_json, text)
    if exit_when_idle and summary.quarantined:
        raise typer.Exit(1)


def _start_again(reason: str, most: int = 10) -> None:
    """Replace this process by a fresh one: half-activated schemas cannot be activated again."""
    import time

    starts = int(os.environ.get("INCEPTION_STARTS", "1"))
    if starts >= most:
        raise RuntimeError(f"the database goes away whenever a worker starts: {reason}")
    print(f"inception: starting again: {reason}", file=sys.stderr, flush=True)
    time.sleep(1.0)
    os.environ["INCEPTION_STARTS"] = str(starts + 1)
    os.execv(sys.executable, sys.orig_argv)


@app.command()
def declare(home: Home = None, prefix: Prefix = PREFIX) -> None:
    """Make all tables; run it once before the workers of a new deployment start."""
    plan, _ = _open(prefix)
    print(f"{len(plan.tasks)} computed tables ready, prefix {prefix}")


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Where files and report go.")] = Path("demo"),
    seed: Annotated[int, typer.Option(help="Seed of the simulated mouse.")] = 0,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Simulate a mouse and close one loop on it, from TIFF files to scored presentations."""
    from workers.demo import run_demo

    result = run_demo(folder, seed=seed, home=home)
    if as_json:
        print(json.dumps(_plain(result)))


# ---- looking


@app.command()
def status(home: Home = None, prefix: Prefix = PREFIX, as_json: Json = False) -> None:
    """Show what is done, due, running and wrong, table by table."""
    plan, ledger = _open(prefix)
    from workers import health

    found = health.status(ledger, plan)
    if as_json:
        print(json.dumps(_plain(found)))
        return
    rows = [
        [
            row["table"],
            *(str(row[name] or "") for name in ("done", "due", "running", "error", "ignore")),
            f"{row['seconds']:.2f}" if row["seconds"] is not None else "",
        ]
        for row in found["tables"]
        if row["done"] or row["due"]
    ]
    _table(["table", "done", "due", "running", "error", "ignored", "s / job"], rows)
    for job in found["running"]:
        print(f"running {job['elapsed_s']:.0f} s: {job['table']} {job['key']} on {job['worker']}")
    alive = ", ".join(f"{w['host']}:{w['pid']} ({w['state']})" for w in found["workers"])
    print(f"workers: {alive or 'none'}")


@app.command()
def errors(
    table: Annotated[str | None, typer.Argument(help="Such as imaging.Motion [all].")] = None,
    stack: Annotated[bool, typer.Option("--stack", help="Show where it was raised.")] = False,
    home: Home = None,
    prefix: Prefix = PREFIX,
    as_json: Json = False,
) -> None:
    """List the jobs that were set aside, with key and message."""
    _, ledger = _open(prefix)
    from workers import health

    found = health.errors(ledger, table)
    if as_json:
        print(json.dumps(_plain(found)))
        return
    for row in found:
        print(f"{row['table']} {json.dumps(row['key'])}")
        print(f"    {row['class']} after {row['attempts']} attempt(s): {row['message']}")
        if stack:
            print("    " + (row["stack"] or "").replace("\n", "\n    "))
    print(f"{len(found)} jobs set aside" + ("; `inception retry` tries again" if found else ""))


_TableArg = Annotated[str | None, typer.Argument(help="Such as imaging.Motion [all].")]
_KeyOpt = Annotated[str | None, typer.Option(help='Part of a key, JSON: {"animal_id": 1}.')]


@app.command()
def retry(
    table: _TableArg = None,
    key: _KeyOpt = None,
    home: Home = None,
    prefix: Prefix = PREFIX,
    as_json: Json = False,
) -> None:
    """Put jobs that were set aside or ignored back into the queue."""
    part = _json_key(key)
    _, ledger = _open(prefix)
    from workers import health

    changed = health.retry(ledger, table, part)
    _report({"retried": changed}, as_json, f"{changed} jobs will be tried again")


@app.command()
def ignore(
    table: _TableArg = None,
    key: _KeyOpt = None,
    home: Home = None,
    prefix: Prefix = PREFIX,
    as_json: Json = False,
) -> None:
    """Set failed or waiting jobs aside for good (`retry` brings them back)."""
    if table is None and key is None:
        raise typer.BadParameter("name a table or a --key: otherwise everything would be ignored")
    part = _json_key(key)
    _, ledger = _open(prefix)
    from workers import health

    changed = health.ignore(ledger, table, part)
    _report({"ignored": changed}, as_json, f"{changed} jobs are ignored")


@app.command()
def doctor(home: Home = None, as_json: Json = False) -> None:
    """Check packages, database, store, disk and device."""
    from workers import health

    checks = health.doctor(home)
    if as_json:
        print(json.dumps(checks))
    else:
        for check in checks:
            print(f"{'ok  ' if check['ok'] else 'FAIL'}  {check['check']}: {check['found']}")
            if not check["ok"]:
                print(f"      {check['remedy']}")
    if not all(check["ok"] for check in checks):
        raise typer.Exit(1)


# ---- taking out


@app.command()
def package(
    scan: Scan,
    out: Annotated[Path, typer.Argument(help="Folder to write.")],
    home: Home = None,
    prefix: Prefix = PREFIX,
    as_json: Json = False,
) -> None:
    """Write the stimulus package of a loop for the rig."""
    key = _scan_key(scan)
    _open(prefix)
    from workers.package import write

    plan_id = write(key, out)
    _report({"plan": plan_id, "folder": str(out)}, as_json, f"package {plan_id} written to {out}")


@app.command()
def report(
    out: Annotated[Path, typer.Argument(help="Folder to write.")],
    home: Home = None,
    prefix: Prefix = PREFIX,
    as_json: Json = False,
) -> None:
    """Write report/index.html: figures and numbers of every loop."""
    _open(prefix)
    from workers.report import write_report

    result = write_report(out)
    _report(_plain(result), as_json, f"report written to {out / 'index.html'}")


@app.command()
def export(
    table: Annotated[str, typer.Argument(help="Such as closed_loop.Outcome.Unit.")],
    out: Annotated[Path, typer.Argument(help="File to write: .csv, .json or .parquet.")],
    home: Home = None,
    prefix: Prefix = PREFIX,
    as_json: Json = False,
) -> None:
    """Write the rows of a table (numbers and text, no arrays) to a file."""
    _open(prefix)
    from workers.export import write_table

    rows = write_table(table, out)
    _report({"rows": rows, "file": str(out)}, as_json, f"{rows} rows written to {out}")


# ---- embedded database


@db.command("start")
def db_start(home: Home = None, as_json: Json = False) -> None:
    """Start the embedded database."""
    from workers import embedded

    embedded.start(home)
    found = embedded.status(home)
    _report(found, as_json, f"running on port {found['port']}, data in {found['data']}")


@db.command("stop")
def db_stop(home: Home = None, as_json: Json = False) -> None:
    """Stop the embedded database."""
    from workers import embedded

    ran = embedded.stop(home)
    _report({"stopped": ran}, as_json, "stopped" if ran else "was not running")


@db.command("status")
def db_status(home: Home = None, as_json: Json = False) -> None:
    """Say whether the embedded database runs, and where its data are."""
    from workers import embedded

    found = embedded.status(home)
    state = f"running on port {found['port']}" if found["running"] else "not running"
    _report(found, as_json, f"{found['home']}: {state}, data in {found['data']}")


@db.command("url")
def db_url(home: Home = None) -> None:
    """Print the URL of the embedded database, password included."""
    from workers import embedded

    print(embedded.url(home))


# ---- helpers


def _open(prefix: str, source: str = "schemas") -> tuple[Any, Any]:
    """Connect, declare what is missing, and return plan and ledger."""
    from workers import embedded
    from workers.database import exclusive

    connection = embedded.connect()
    from workers import plan, tables
    from workers.lease import Ledger

    with exclusive(connection, "inception_declare"):
        loaded = plan.load(source, prefix)
        tables.activate(prefix)
        tables.declare()
    return loaded, Ledger(connection)


def _wake(prefix: str) -> None:
    """Have a running worker look for new keys at once."""
    import datajoint as dj

    from workers.lease import Ledger

    Ledger(dj.conn()).wake()


def _scan_key(scan: str) -> dict[str, int]:
    parts = scan.split("/")
    if len(parts) != 3 or not all(part.isdigit() for part in parts):
        raise typer.BadParameter(f"{scan!r} is not animal/session/scan, such as 1/1/1")
    return dict(zip(("animal_id", "session", "scan_idx"), map(int, parts), strict=True))


def _deadline(text: str | None) -> Any:
    from datetime import datetime

    if text is None:
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not ISO, such as 2026-11-24T08:00") from error


def _json_key(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        key = json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not JSON") from error
    if not isinstance(key, dict):
        raise typer.BadParameter(f"{text!r} is not a JSON object")
    return key


def _slashed(key: Any) -> str:
    names = ("animal_id", "session", "scan_idx")
    if isinstance(key, dict) and all(name in key for name in names):
        return "/".join(str(key[name]) for name in names)
    return str(key)


def _plain(value: Any) -> Any:
    """Return a value as JSON types."""
    return json.loads(
        json.dumps(value, default=lambda v: v.item() if hasattr(v, "item") else str(v))
    )


def _report(value: Any, as_json: bool, text: str) -> None:
    print(json.dumps(value) if as_json else text)


def _table(header: list[str], rows: Iterable[list[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for i, name in enumerate(header):
        table.add_column(name, justify="left" if i == 0 else "right")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def main() -> None:
    """Run the command line; a known error is one line, not a traceback."""
    from pipeline.errors import DataError

    try:
        app()
    except KeyboardInterrupt:
        print("inception: stopped; the same command continues", file=sys.stderr)
        sys.exit(1)
    except (DataError, ValueError, LookupError, OSError, RuntimeError) as error:
        if os.environ.get("INCEPTION_TRACEBACK"):
            raise
        print(f"inception: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(1)
    except Exception as error:
        if not type(error).__module__.startswith(("datajoint", "pymysql", "psycopg2")):
            raise
        print(f"inception: database: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
