"""The first page, and the progress of one loop; both are asked for again every few seconds."""

from __future__ import annotations

import datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pipeline.errors import DataError
from workers.web.queries import loops
from workers.web.site import LOOP, Site, site_of


def index(request: Request) -> Response:
    """Show all loops, the workers and the queue."""
    site = site_of(request)
    return site.page(request, "loops.html.j2", title="Loops", **_everything(site))


def index_live(request: Request) -> Response:
    """Return the part of the first page that changes."""
    site = site_of(request)
    return site.page(request, "loops_live.html.j2", **_everything(site))


def _everything(site: Site) -> dict[str, Any]:
    desk = site.desk
    return {
        "loops": desk.recent("loops", lambda: loops.all_loops(desk.ledger, desk.plan)),
        "queue": desk.recent("queue", lambda: loops.queue(desk.ledger, desk.plan)),
        "time_left": loops.time_left,
    }


def loop(request: Request) -> Response:
    """Show how far one loop is."""
    site = site_of(request)
    return site.page(request, "loop.html.j2", **_progress(site, request))


def loop_live(request: Request) -> Response:
    """Return the part of a loop's page that changes."""
    site = site_of(request)
    return site.page(request, "loop_live.html.j2", **_progress(site, request))


def chosen(site: Site, request: Request) -> dict[str, Any]:
    """Return the loop that an address names, as `queries.loops.all_loops` does."""
    key = {name: request.path_params[name] for name in loops.LOOP_KEY}
    found = site.desk.recent("loops", lambda: loops.all_loops(site.desk.ledger, site.desk.plan))
    for row in found:
        if all(row[name] == value for name, value in key.items()):
            return row
    raise DataError("no such loop", field="loop", found=request.url.path)


def tabs(site: Site, row: dict[str, Any], here: str) -> dict[str, Any]:
    """Return what the head of every page of a loop shows."""
    base = "/loops/" + "/".join(str(row[name]) for name in loops.LOOP_KEY)
    return {"chosen": row, "base": base, "here": here, "title": f"{here} of {row['scan']}"}


def _progress(site: Site, request: Request) -> dict[str, Any]:
    desk, row = site.desk, chosen(site, request)
    plan_ids = row["plans"]
    steps = [
        {
            "plan_id": plan_id,
            **desk.recent(
                ("steps", plan_id),
                lambda plan_id=plan_id: loops.steps(desk.ledger, desk.plan, plan_id),
            ),
        }
        for plan_id in plan_ids
    ]
    return {
        **tabs(site, row, "Progress"),
        "steps": steps,
        "answers": desk.ask(lambda: loops.answers(row)),
        "queue": desk.recent("queue", lambda: loops.queue(desk.ledger, desk.plan)),
        "time_left": loops.time_left(row["deadline"]),
    }


def errors(request: Request) -> Response:
    """Show the jobs set aside, a page at a time."""
    site, text = site_of(request), request.query_params.get("page", "0")
    page = int(text) if text.isdigit() and len(text) < 8 else 0
    found = site.desk.ask(lambda: loops.errors(site.desk.ledger, site.desk.plan, page))
    return site.page(request, "errors.html.j2", title="Errors", **found)


def health(request: Request) -> Response:
    """Return a sign of life: the database answers."""
    desk = site_of(request).desk
    desk.ask(lambda: desk.ledger.rows("SELECT 1"))
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return JSONResponse({"database": "ok", "time": now})


ROUTES = [
    Route("/", index),
    Route("/live/loops", index_live),
    Route("/errors", errors),
    Route("/healthz", health),
    Route(LOOP, loop),
    Route(LOOP + "/live", loop_live),
]
