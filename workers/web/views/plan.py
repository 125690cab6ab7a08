"""The plan of a loop, and its package to download."""

from __future__ import annotations

import tempfile
from pathlib import Path

from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from pipeline.errors import DataError
from workers import package
from workers.web.queries import plans
from workers.web.site import LOOP, site_of
from workers.web.views.field import loop_page
from workers.web.views.loops import chosen, tabs


def plan(request: Request) -> Response:
    """Show targets with reasons and images, minutes, and power."""
    site, page = site_of(request), loop_page(site_of(request), request)
    text = request.query_params.get("page", "0")
    number = int(text) if text.isdigit() and len(text) < 8 else 0
    found = site.desk.recent(("plan", page.told), lambda: plans.plan(page))
    targets = site.desk.ask(lambda: plans.targets(page, number)) if found else None
    return site.page(
        request,
        "plan.html.j2",
        **tabs(site, chosen(site, request), "Plan"),
        plan=found,
        targets=targets,
    )


def download(request: Request) -> Response:
    """Write the package of the plan as a zip file, and send it; the database notes its digest."""
    site, page = site_of(request), loop_page(site_of(request), request)
    if page.plan is None:
        raise DataError("the plan is not computed yet", field="loop", found=page.name)
    folder = tempfile.TemporaryDirectory(prefix="inception_web_")
    name = f"package_{page.name.replace('/', '_')}_{page.plan['plan_id']}.zip"
    try:
        path = Path(folder.name) / name
        site.desk.change(lambda: package.write(page.scan, path, page.plan["plan_id"]))
    except BaseException:
        folder.cleanup()
        raise
    return FileResponse(
        path,
        filename=name,
        media_type="application/zip",
        headers={"cache-control": "no-store"},
        background=BackgroundTask(folder.cleanup),
    )


ROUTES = [
    Route(LOOP + "/plan", plan),
    Route(LOOP + "/package", download, methods=["POST"]),
]
