"""The application: routes, templates, answers to errors."""

from __future__ import annotations

import logging
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from workers.web.desk import Desk
from workers.web.guard import Guard, Keys
from workers.web.site import Site
from workers.web.views import changes, compare, day2, field, loops, plan, unlock

log = logging.getLogger("inception.web")
STATIC = Path(__file__).with_name("static")


def make_app(desk: Desk, keys: Keys) -> Starlette:
    """Return the application that shows one deployment.

    Parameters
    ----------
    desk : Desk
        Answers its questions.
    keys : Keys
        Say who may read and who may change.
    """
    routes: list[Route | Mount] = [
        *loops.ROUTES,
        *changes.ROUTES,
        *compare.ROUTES,
        *day2.ROUTES,
        *field.ROUTES,
        *plan.ROUTES,
        *unlock.ROUTES,
        Mount("/static", StaticFiles(directory=STATIC)),
    ]
    app = Starlette(
        routes=routes,
        middleware=[
            Middleware(Guard, keys=keys, writes=desk.writes),
            Middleware(GZipMiddleware, minimum_size=2000, compresslevel=4),
        ],
        exception_handlers={Exception: _failed, ValueError: _refused, LookupError: _refused}
        | {HTTPException: _http},
    )
    app.state.site = Site(desk, keys)
    return app


def _http(request: Request, error: Exception) -> Response:
    assert_http = error if isinstance(error, HTTPException) else HTTPException(500)
    return _answer(request, assert_http.status_code, assert_http.detail)


def _refused(request: Request, error: Exception) -> Response:
    """Answer what cannot be shown: a loop that is not there, a reason that is missing."""
    return _answer(request, 400 if request.method == "POST" else 404, str(error))


def _failed(request: Request, error: Exception) -> Response:
    """Answer a fault, or a database that is away, by one line."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    log.warning("%s %s: %s", request.method, request.url.path, text)
    return _answer(request, 503, text)


def _answer(request: Request, status: int, text: str) -> Response:
    if request.url.path.startswith("/api/"):
        return JSONResponse({"error": text}, status)
    site: Site = request.app.state.site
    return site.page(request, "error.html.j2", status_code=status, title="Not shown", text=text)
