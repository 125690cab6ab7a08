"""Two things beside each other: loops, recipes, ensembles."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pipeline.errors import DataError
from workers.report.context import LoopPage
from workers.web.queries import compare, images, loops
from workers.web.site import Site, site_of

WHAT = ("loops", "recipes", "ensembles")


def show(request: Request) -> Response:
    """Show two things of one sort, and a form to choose others."""
    site, asked = site_of(request), request.query_params
    what = asked.get("what", WHAT[0])
    if what not in WHAT:
        raise DataError("cannot be compared", field="what", found=what, expected=" or ".join(WHAT))
    choices = _choices(site, what)
    first, second = asked.get("a", ""), asked.get("b", "")
    if not first and not second and len(choices) > 1:
        first, second = choices[0][0], choices[1][0]
    found = _compared(site, what, first, second) if first and second else None
    return site.page(
        request,
        "compare.html.j2",
        title="Compare",
        what=what,
        every=WHAT,
        choices=choices,
        names=dict(choices),
        first=first,
        second=second,
        found=found,
    )


def _choices(site: Site, what: str) -> list[tuple[str, str]]:
    """Return what can be chosen: (value, text)."""
    desk = site.desk
    if what == "recipes":
        rows = desk.ask(compare.recipe_names)
        return [(row["recipe_hash"], row["recipe_name"] or row["recipe_hash"]) for row in rows]
    if what == "ensembles":
        return [
            (
                row["ensemble_hash"],
                f"{row['ensemble_kind']} {row['ensemble_hash'][:8]} of {row['dataset_hash'][:8]}",
            )
            for row in desk.ask(compare.all_ensembles)
        ]
    rows = desk.recent("loops", lambda: loops.all_loops(desk.ledger, desk.plan))
    return [(_value(row), f"{row['scan']}, recipe {row['name']}") for row in rows]


def _value(row: dict[str, Any]) -> str:
    return "/".join(str(row[name]) for name in loops.LOOP_KEY)


def _compared(site: Site, what: str, first: str, second: str) -> dict[str, Any]:
    desk, name = site.desk, ("compared", what, first, second)
    if what == "recipes":
        return desk.ask(
            lambda: {
                "differences": compare.differences(compare.recipe(first), compare.recipe(second))
            }
        )
    if what == "ensembles":
        return desk.recent(name, lambda: compare.ensembles(first, second), 5.0)
    rows = desk.recent("loops", lambda: loops.all_loops(desk.ledger, desk.plan))
    known = {_value(row): row for row in rows}
    for value in (first, second):
        if value not in known:
            raise DataError("no such loop", field="loop", found=value)

    def question() -> dict[str, Any]:
        pages = [LoopPage(known[value], images.NOWHERE, "") for value in (first, second)]
        return compare.loops(*pages)

    return desk.recent(name, question, 5.0)


ROUTES = [Route("/compare", show)]
