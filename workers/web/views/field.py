"""The field of a loop with its cells, and the images that they are shown by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pipeline.errors import DataError
from workers.report.context import LoopPage
from workers.web import pictures
from workers.web.queries import cells, fields, images, traces
from workers.web.site import KEY, LOOP, Site, site_of
from workers.web.views.loops import chosen, tabs

FIELD = f"{KEY}/{{imaging_hash}}/{{field:int}}"
_REVALIDATE = "private, no-cache"  # the browser asks whether its copy is still right
_FOR_EVER = "private, max-age=31536000, immutable"  # an image is named by its content


def loop_page(site: Site, request: Request) -> LoopPage:
    """Return the loop that an address names, as reports see it; kept for some seconds."""
    row = chosen(site, request)
    name = ("page", *(row[key] for key in ("animal_id", "session", "scan_idx", "recipe_hash")))
    return site.desk.recent(name, lambda: LoopPage(row, images.NOWHERE, ""), 5.0)


def field(request: Request) -> Response:
    """Show a field of a loop with its masks."""
    site = site_of(request)
    page = loop_page(site, request)
    known = page.imaging
    found = site.desk.ask(lambda: fields.fields(page.scan, known["imaging_hash"])) if known else []
    return site.page(
        request,
        "field.html.j2",
        **tabs(site, chosen(site, request), "Field"),
        fields=found,
        imaging_hash=known["imaging_hash"] if known else "",
        images=list(fields.IMAGES),
    )


def _segmentation(request: Request) -> dict[str, Any]:
    names = request.path_params
    return fields.segmentation(names, names["imaging_hash"], names["field"])


def outlines(request: Request) -> Response:
    """Return the outlines of all masks of a field."""
    desk = site_of(request).desk
    start, pixel, width, units = desk.ask(lambda: fields.masks(_segmentation(request)))

    def content() -> dict[str, Any]:
        packed = pictures.packed_outlines(start.load(), pixel.load(), width)
        return {**packed, "unit_id": units}

    return _kept(request, pictures.tag(start.path, pixel.path), lambda: JSONResponse(content()))


def image(request: Request) -> Response:
    """Return an image of a field as PNG."""
    desk, name = site_of(request).desk, request.path_params["name"]
    reference = desk.ask(lambda: fields.image(_segmentation(request), name))

    def draw() -> Response:
        return Response(pictures.scaled_png(reference.load()), media_type="image/png")

    return _kept(request, pictures.tag(reference.path, "scaled"), draw)


def _kept(request: Request, etag: str, make: Callable[[], Response]) -> Response:
    """Answer that the browser's copy is right, or by a new one that it may keep."""
    headers = {"etag": etag, "cache-control": _REVALIDATE}
    if request.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers=headers)
    answer = make()
    answer.headers.update(headers)
    return answer


def units(request: Request) -> Response:
    """Return what is known of all units of a field of a loop."""
    site, names = site_of(request), request.path_params
    page = loop_page(site, request)
    if page.imaging is None:
        raise DataError("the loop has no imaging task", field="loop", found=page.name)

    def question() -> dict[str, list]:
        key = fields.segmentation(page.scan, page.imaging["imaging_hash"], names["field"])
        return fields.units(page, key)

    return JSONResponse(site.desk.ask(question))


def cell(request: Request) -> Response:
    """Return all that is known of one cell."""
    site = site_of(request)
    page = loop_page(site, request)
    return JSONResponse(site.desk.ask(lambda: cells.cell(page, request.path_params["unit_id"])))


def trace(request: Request) -> Response:
    """Return a stretch of a cell's trace."""
    site = site_of(request)
    page = loop_page(site, request)
    start, span = (_seconds(request, name, usual) for name, usual in (("start", 0), ("span", 30)))
    unit_id = request.path_params["unit_id"]
    return JSONResponse(site.desk.ask(lambda: traces.trace(page, unit_id, start, span)))


def _seconds(request: Request, name: str, usual: float) -> float:
    text = request.query_params.get(name, str(usual))
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 <= value < 1e7:
        raise DataError("is no time", field=name, found=text, expected="seconds from 0")
    return value


def shown(request: Request) -> Response:
    """Return an 8-bit image that was made for a unit, as the monitor shows it."""
    desk, names = site_of(request).desk, request.path_params
    pixels = desk.ask(
        lambda: images.displayed(names["dataset_hash"], names["unit_index"], names["image_hash"])
    )
    return _image(pixels)


def natural(request: Request) -> Response:
    """Return an image of the recording, as the monitor showed it."""
    desk, names = site_of(request).desk, request.path_params
    return _image(desk.ask(lambda: images.presented(names["image_hash"])))


def _image(pixels: Any) -> Response:
    headers = {"cache-control": _FOR_EVER}
    return Response(pictures.gray_png(pixels), media_type="image/png", headers=headers)


ROUTES = [
    Route(LOOP + "/field", field),
    Route("/api" + LOOP + "/fields/{field:int}", units),
    Route("/api" + LOOP + "/cells/{unit_id:int}", cell),
    Route("/api" + LOOP + "/cells/{unit_id:int}/trace", trace),
    Route(f"/api/fields/{FIELD}/outlines", outlines),
    Route(f"/images/fields/{FIELD}/{{name}}.png", image),
    Route("/images/shown/{dataset_hash}/{unit_index:int}/{image_hash}.png", shown),
    Route("/images/{image_hash}.png", natural),
]
