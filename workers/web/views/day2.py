"""Day 2 of a loop: audit, matches, verdict, and the figures of the report."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from pipeline.errors import DataError
from workers.report.context import LoopPage
from workers.web.queries import day2
from workers.web.queries.loops import LOOP_KEY
from workers.web.site import LOOP, site_of
from workers.web.views.field import loop_page
from workers.web.views.loops import chosen, tabs


def show(request: Request) -> Response:
    """Show every recording in which a plan of the loop was on the monitor."""
    site, page = site_of(request), loop_page(site_of(request), request)
    found = site.desk.recent(("day2", *_key(page).values()), lambda: day2.recordings(page), 3.0)
    head = tabs(site, chosen(site, request), "Day 2")
    return site.page(request, "day2.html.j2", **head, recordings=found)


def live(request: Request) -> Response:
    """Return the part that changes while day 2 is computed."""
    site, page = site_of(request), loop_page(site_of(request), request)
    found = site.desk.recent(("day2", *_key(page).values()), lambda: day2.recordings(page), 3.0)
    head = tabs(site, chosen(site, request), "Day 2")
    return site.page(request, "day2_live.html.j2", **head, recordings=found)


def _key(page: LoopPage) -> dict[str, Any]:
    return {name: page.loop[name] for name in LOOP_KEY}


def matches(request: Request) -> Response:
    """Return both fields of a match and their pairs."""
    site, names = site_of(request), request.path_params
    page = loop_page(site, request)
    scan = {**page.scan, "session": names["session2"], "scan_idx": names["scan_idx2"]}
    return JSONResponse(site.desk.ask(lambda: day2.matches(page, scan, names["match_hash"])))


def figures(request: Request) -> Response:
    """Return the report's figures, or that they are being drawn."""
    site, page = site_of(request), loop_page(site_of(request), request)
    state = site.desk.recent(
        ("figures", *_key(page).values()), lambda: day2.state_of_figures(page), 3.0
    )
    drawn = site.figures.look(state, _key(page))
    head = tabs(site, chosen(site, request), "Day 2")
    return site.page(request, "figures.html.j2", **head, drawn=drawn)


def figure(request: Request) -> Response:
    """Return one of these figures."""
    site, page = site_of(request), loop_page(site_of(request), request)
    state = site.desk.recent(
        ("figures", *_key(page).values()), lambda: day2.state_of_figures(page), 3.0
    )
    drawn = site.figures.look(state, _key(page))
    known = {p["file"] for section in drawn["sections"] for p in section["pictures"]}
    name = request.path_params["name"]
    if name not in known:
        raise DataError("no such figure", field="figure", found=name)
    return FileResponse(drawn["folder"] / name, headers={"cache-control": "private, no-cache"})


ROUTES = [
    Route(LOOP + "/day2", show),
    Route(LOOP + "/day2/live", live),
    Route(LOOP + "/day2/figures", figures),
    Route(LOOP + "/day2/figures/{name}", figure),
    Route("/api" + LOOP + "/matches/{session2:int}/{scan_idx2:int}/{match_hash}", matches),
]
