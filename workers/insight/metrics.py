"""Figures for Prometheus and a sign of life, over HTTP, from a connection of its own.

Everything comes from the workers' few tables: a scrape costs five short queries, whatever the
pipeline has grown to. Tables of results are not counted; `done` counts jobs that workers ended.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from workers.insight import forecast, status
from workers.queue import tables
from workers.queue.lease import Ledger
from workers.queue.order import TaskOrder

log = logging.getLogger("inception.metrics")
TEXT = "text/plain; version=0.0.4; charset=utf-8"
Page = Callable[[], tuple[int, str, str]]
"""Returns status code, content type and text."""


def metrics(ledger: Ledger, plan: TaskOrder) -> str:
    """Return the figures in Prometheus' text format.

    Parameters
    ----------
    ledger : Ledger
        Job tables.
    plan : TaskOrder
        Says which queue a table belongs to.
    """
    job, attempt = tables.Job.full_table_name, tables.Attempt.full_table_name
    states = ledger.rows(
        f"SELECT table_name, queue, status, COUNT(*) FROM {job} GROUP BY table_name, queue, status"
    )
    ended = ledger.rows(
        f"SELECT table_name, outcome, COUNT(*), COALESCE(SUM(duration_s), 0) FROM {attempt} "
        "WHERE outcome <> 'running' GROUP BY table_name, outcome"
    )
    ((oldest, lease),) = ledger.rows(
        "SELECT MIN(CASE WHEN status='pending' THEN created_at END), "
        f"SUM(CASE WHEN status='running' AND lease_until < {ledger.now()} THEN 1 ELSE 0 END) "
        f"FROM {job}"
    )
    ((now,),) = ledger.rows(f"SELECT {ledger.now()}")
    alive = status.workers(ledger)
    waiting = {task.queue: 0 for task in plan}
    for _, queue, state, n in states:
        if state == "pending":
            waiting[queue] = waiting.get(queue, 0) + int(n)
    lines = [
        *_family(
            "jobs",
            "gauge",
            "Jobs by table and state.",
            [({"table": t, "queue": q, "state": s}, int(n)) for t, q, s, n in states],
        ),
        *_family(
            "pending_jobs",
            "gauge",
            "Jobs that wait, by queue (scale workers on this).",
            [({"queue": queue}, n) for queue, n in sorted(waiting.items())],
        ),
        *_family(
            "attempts_total",
            "counter",
            "Attempts ended, by table and outcome.",
            [({"table": t, "outcome": o}, int(n)) for t, o, n, _ in ended],
        ),
        *_family(
            "job_seconds_total",
            "counter",
            "Time in jobs that were done (s), by table.",
            [({"table": t}, float(s)) for t, o, _, s in ended if o == "done"],
        ),
        *_family(
            "oldest_pending_seconds",
            "gauge",
            "How long the oldest waiting job waits (s).",
            [({}, (now - oldest).total_seconds() if oldest else 0.0)],
        ),
        *_family(
            "expired_leases",
            "gauge",
            "Running jobs whose worker has vanished.",
            [({}, int(lease or 0))],
        ),
        *_family(
            "workers",
            "gauge",
            "Workers alive, by state.",
            [({"state": s}, sum(w["state"] == s for w in alive)) for s in ("running", "draining")],
        ),
        *_family(
            "worker_slots",
            "gauge",
            "Jobs that can run at a time.",
            [({}, sum(worker["slots"] for worker in alive))],
        ),
    ]
    return "\n".join(lines) + "\n"


def loop_metrics(ledger: Ledger, plan: TaskOrder) -> str:
    """Return the forecasts of the open loops: costs more, so it is asked for less often."""
    ahead = forecast.forecast(ledger, plan, status.workers(ledger))
    rows = [
        ({"scan": loop["scan"], "plan": loop["plan_id"]}, loop["seconds"])
        for loop in ahead["loops"]
        if loop["seconds"] is not None
    ]
    late = [
        ({"scan": loop["scan"], "plan": loop["plan_id"]}, int(not loop["in_time"]))
        for loop in ahead["loops"]
        if loop["in_time"] is not None
    ]
    lines = [
        *_family("loop_ready_seconds", "gauge", "Seconds until the package is ready.", rows),
        *_family("loop_late", "gauge", "1 if the package will miss its deadline.", late),
    ]
    return "\n".join(lines) + "\n" if lines else ""


def _family(name: str, kind: str, meaning: str, samples: Iterable[tuple[dict, float]]) -> list[str]:
    samples = list(samples)
    if not samples:
        return []
    head = [f"# HELP inception_{name} {meaning}", f"# TYPE inception_{name} {kind}"]
    return head + [
        f"inception_{name}{_labels(labels)} {value:g}"
        if isinstance(value, float)
        else f"inception_{name}{_labels(labels)} {value}"
        for labels, value in samples
    ]


def _labels(labels: dict[str, str]) -> str:
    if not labels:
        return ""
    escaped = {
        name: str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        for name, value in labels.items()
    }
    return "{" + ",".join(f'{name}="{value}"' for name, value in escaped.items()) + "}"


def pages(connection: Any, plan: TaskOrder, patience_s: float = 3.0) -> dict[str, Page]:
    """Return what `serve` shows for a deployment: `/metrics`, `/loops` and `/healthz`.

    Parameters
    ----------
    connection : dj.Connection
        Of its own; it comes back after the database was away.
    plan : TaskOrder
        The pipeline.
    patience_s : float
        How long a page waits for the database (s).
    """
    lock = threading.Lock()  # one connection, one question at a time
    until = 0.0
    ledger = Ledger(connection, stop=lambda: time.monotonic() > until)

    def page(write: Callable[[], str], kind: str) -> Page:
        def answer() -> tuple[int, str, str]:
            nonlocal until
            with lock:
                until = time.monotonic() + patience_s
                return 200, kind, write()

        return answer

    def health_text() -> str:
        alive = status.workers(ledger)
        return json.dumps({"database": "ok", "workers": len(alive)}) + "\n"

    return {
        "/metrics": page(lambda: metrics(ledger, plan), TEXT),
        "/loops": page(lambda: loop_metrics(ledger, plan), TEXT),
        "/healthz": page(health_text, "application/json"),
    }


def serve(shown: dict[str, Page], host: str, port: int) -> ThreadingHTTPServer:
    """Answer GET requests from a thread of its own; `shutdown()` of what is returned ends it.

    Parameters
    ----------
    shown : dict
        Path to page. A page that raises is answered by 503 and one line.
    host, port : str, int
        Where to listen; port 0 takes a free one (`.server_port`).
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = shown.get(self.path.split("?")[0])
            if page is None:
                self._answer(404, "text/plain", f"there is {', '.join(shown)}\n")
                return
            try:
                code, kind, text = page()
            except Exception as error:
                code, kind = 503, "text/plain"
                text = f"{type(error).__name__}: {' '.join(str(error).split())}\n"
                log.warning("%s: %s", self.path, text.strip())
            self._answer(code, kind, text)

        def _answer(self, code: int, kind: str, text: str) -> None:
            content = text.encode()
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, text: str, *args: Any) -> None:
            log.debug(text, *args)

    server = ThreadingHTTPServer((host, port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True, name="http").start()
    return server
