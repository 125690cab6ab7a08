"""Verbs that compute: workers, tables, the demo."""

from __future__ import annotations

import contextlib
import enum
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from workers.commands.common import (
    PREFIX,
    SOURCE,
    Home,
    Json,
    Prefix,
    Source,
    open_existing,
    open_pipeline,
    plain,
    say,
)

app = typer.Typer()


class LogFormat(enum.StrEnum):
    """Log lines for people (`text`) or machines (`json`)."""

    text = "text"
    json = "json"


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
    log_format: Annotated[LogFormat, typer.Option(help="Log lines for people or machines.")] = (
        LogFormat.text
    ),
    health_port: Annotated[
        int | None, typer.Option(help="Answer /healthz on this port [no].")
    ] = None,
    source: Source = SOURCE,
    home: Home = None,
    prefix: Prefix = PREFIX,
    as_json: Json = False,
) -> None:
    """Compute what is due, in the order of the foreign keys, until told to stop."""
    with _leaving_at_once():
        from schemas.clock import written
        from workers.compute import logs
        from workers.compute.options import Options
        from workers.compute.worker import NotStartedError, Worker

        logs.configure(log_format.value)
        known = {"cpu", "gpu", "io"}
        if queue and not set(queue) <= known:
            raise typer.BadParameter(f"queues are {sorted(known)}", param_hint="--queue")
        options = Options(
            source=source,
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

        worker = Worker(
            options, _log_event if log_format == LogFormat.json else _print_event(as_json)
        )
        if health_port is not None:
            _answer_health(worker, health_port)
        try:
            summary = worker.run()
        except NotStartedError as error:
            _start_again(str(error))
    outcomes = dict(summary.outcomes)
    text = f"{summary.done} rows computed"
    if summary.quarantined:
        text += f", {summary.quarantined} jobs set aside: see `inception errors`"
    if summary.plans_due:
        first = written(summary.plans_due[0])
        text += f"; the next plan is made of what is ready at {first}, if a worker runs then"
    if summary.fault:
        text += f"; ended, as this machine cannot do what is left: {summary.fault}"
    due = [written(moment) for moment in summary.plans_due]
    found = {
        "outcomes": outcomes,
        "quarantined": summary.quarantined,
        "plans_due": due,
        "fault": summary.fault,
    }
    say(found, as_json, text)
    if exit_when_idle and (summary.quarantined or summary.fault):
        raise typer.Exit(1)


@contextlib.contextmanager
def _leaving_at_once() -> Iterator[None]:
    """End with 0 on SIGTERM: until the worker itself listens, it holds nothing to hand back."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _print_event(silent: bool) -> Callable[[str, str, dict, float, str], None]:
    def show(outcome: str, table: str, key: dict, seconds: float, _message: str) -> None:
        if outcome != "started" and not silent:
            where = ", ".join(f"{name}={value}" for name, value in key.items())
            print(f"{outcome:8s} {seconds:8.1f} s  {table}  {where}", flush=True)

    return show


def _log_event(outcome: str, table: str, key: dict, seconds: float, message: str) -> None:
    import logging

    fields = {"outcome": outcome, "table": table, "key": key, "seconds": round(seconds, 3)}
    if message:
        fields["cause"] = message
    logging.getLogger("inception.job").info(f"{outcome} {table}", extra=fields)


def _answer_health(worker: Any, port: int) -> None:
    from workers.insight.metrics import serve

    def page() -> tuple[int, str, str]:
        life = worker.life()
        return 200 if life["alive"] else 503, "application/json", json.dumps(life) + "\n"

    serve({"/healthz": page}, "0.0.0.0", port)


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
def declare(
    adopt_store: Annotated[
        bool, typer.Option("--adopt-store", help="Take the store for this database's own.")
    ] = False,
    home: Home = None,
    prefix: Prefix = PREFIX,
    source: Source = SOURCE,
) -> None:
    """Make all tables; run it once before the workers of a new deployment start."""
    plan, _ = open_pipeline(prefix, source, adopt_store=adopt_store)
    print(f"{len(plan.tasks)} computed tables ready, prefix {prefix}")


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Where files and report go.")] = Path("demo"),
    seed: Annotated[int, typer.Option(help="Seed of the simulated mouse.")] = 0,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="A smaller, less noisy mouse: two and a half minutes."),
    ] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Simulate a mouse and close one loop on it, from TIFF files to scored presentations."""
    from workers.demo.run import QUICK, run_demo

    result = run_demo(folder, seed=seed, home=home, scale=QUICK if quick else None)
    if as_json:
        print(json.dumps(plain(result)))


@app.command()
def metrics(
    port: Annotated[int, typer.Option(help="Port to answer on.")] = 9464,
    host: Annotated[str, typer.Option(help="Address to answer on.")] = "127.0.0.1",
    home: Home = None,
    prefix: Prefix = PREFIX,
    source: Source = SOURCE,
) -> None:
    """Answer /metrics (Prometheus), /loops (forecasts) and /healthz until stopped."""
    from workers.database import server
    from workers.insight.metrics import pages, serve

    plan, _ = open_existing(prefix, source)
    pages_server = serve(pages(server.new_connection(), plan), host, port)
    print(f"http://{host}:{pages_server.server_port}/metrics", flush=True)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    stop.wait()
    pages_server.shutdown()
