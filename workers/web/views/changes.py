"""What the page changes: decisions about cells, labels of masks, jobs tried again.

The guard has asked for the token before any of these is called.
"""

from __future__ import annotations

import json
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pipeline.errors import DataError
from schemas import imaging
from workers.queue import jobs
from workers.steering.decide import decide
from workers.web.queries import cells
from workers.web.site import LOOP, site_of
from workers.web.views.field import loop_page

_MOST_NAME = 32  # characters of imaging.MaskLabel.labeler


async def asked(request: Request, **kinds: type | tuple[type, ...]) -> dict[str, Any]:
    """Return what a request asks for, every entry of its kind; those that are left out are None.

    Raises
    ------
    DataError
        If it is no JSON object, or an entry is of another kind or unknown.
    """
    try:
        found = json.loads(await request.body())
    except ValueError as error:
        raise DataError("is no JSON", field="body", found=str(error)) from error
    if not isinstance(found, dict) or set(found) - set(kinds):
        raise DataError("holds something else", field="body", expected=", ".join(kinds))
    for name, kind in kinds.items():
        if found.get(name) is not None and not isinstance(found[name], kind):
            raise DataError("is of another kind", field=name, found=type(found[name]).__name__)
    return {name: found.get(name) for name in kinds}


async def choose(request: Request) -> Response:
    """Include or exclude a cell as a target, or let the rule decide again."""
    wanted = await asked(request, include=bool, why=str, who=str)

    def act() -> None:
        key = cells.unit_key(loop_page(site_of(request), request), request.path_params["unit_id"])
        who, why = wanted["who"] or "", wanted["why"] or ""
        decide(key, include=wanted["include"], why=why, who=who)

    await run_in_threadpool(site_of(request).desk.change, act)
    return JSONResponse({"include": wanted["include"]})


async def label(request: Request) -> Response:
    """Say whether a mask is a cell body; what one person says later replaces the earlier."""
    wanted = await asked(request, is_soma=bool, who=str)
    who = " ".join((wanted["who"] or "").split())
    if not 0 < len(who) <= _MOST_NAME or wanted["is_soma"] is None:
        raise DataError(
            "a label needs a name and an answer", field="who", expected=f"1 to {_MOST_NAME} letters"
        )

    def act() -> None:
        key = cells.unit_key(loop_page(site_of(request), request), request.path_params["unit_id"])
        row = {**key, "labeler": who, "is_soma": wanted["is_soma"]}
        imaging.MaskLabel.insert1(row, skip_duplicates=True)
        imaging.MaskLabel.update1(row)

    await run_in_threadpool(site_of(request).desk.change, act)
    return JSONResponse({"is_soma": wanted["is_soma"]})


async def retry(request: Request) -> Response:
    """Put jobs that were set aside back into the queue: all, of a table, or one."""
    wanted = await asked(request, table=str, key=dict)
    desk, table, key = site_of(request).desk, wanted["table"], wanted["key"]
    if table is not None and table not in desk.plan.tasks:
        raise DataError("no such table computes anything", field="table", found=table)
    if key and not table:
        raise DataError("a key alone names no job", field="key", expected="a table as well")
    changed = await run_in_threadpool(
        desk.change, lambda: jobs.retry(desk.ledger, table, key or None)
    )
    return JSONResponse({"retried": changed})


ROUTES = [
    Route("/api" + LOOP + "/cells/{unit_id:int}/decide", choose, methods=["POST"]),
    Route("/api" + LOOP + "/cells/{unit_id:int}/label", label, methods=["POST"]),
    Route("/api/retry", retry, methods=["POST"]),
]
