"""What all views share: the desk, the templates, how numbers and times are written."""

from __future__ import annotations

import datetime
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from pipeline import __version__
from pipeline.plotting.style import name_of
from workers.version import code_version
from workers.web.desk import Desk
from workers.web.figures import Figures
from workers.web.guard import Keys

KEY = "{animal_id:int}/{session:int}/{scan_idx:int}"
LOOP = f"/loops/{KEY}/{{recipe_hash}}"


class Site:
    """The page of one deployment.

    Attributes
    ----------
    desk : Desk
    keys : Keys
    figures : Figures
    """

    def __init__(self, desk: Desk, keys: Keys) -> None:
        self.desk, self.keys = desk, keys
        self.figures = Figures(desk.prefix)
        self._templates = Environment(
            loader=PackageLoader("workers.web"),
            autoescape=True,  # what a recording is called is text, whatever it holds
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters |= {
            "span": span,
            "number": number,
            "clock": clock,
            "stimulus": name_of,
            "jobs": lambda n: f"{n:,} job" + "s" * (n != 1),
            "short": lambda text: str(text)[:8],
        }
        self._templates.globals["code"] = f"{__version__}, {code_version()}"

    def page(
        self, request: Request, template: str, *, status_code: int = 200, **values: Any
    ) -> Response:
        """Fill a template; `may_change` in it says whether its buttons do something."""
        text = self._templates.get_template(template).render(
            request=request,
            writes=self.desk.writes,
            may_change=self.desk.writes and self.keys.with_cookie(request.headers),
            opened=self.keys.with_cookie(request.headers),
            **values,
        )
        return HTMLResponse(text, status_code)


def site_of(request: Request) -> Site:
    """Return the site that a request is for."""
    return request.app.state.site


def span(seconds: float | None) -> str:
    """Write a time span for people: `12 s`, `3 min`, `5.2 h`, `4 d`."""
    if seconds is None:
        return "unknown"
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.0f} d"


def number(value: Any, digits: int = 2) -> str:
    """Write a number for people; a dash where there is none."""
    if value is None or value != value:
        return "–"
    if isinstance(value, bool | str):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.{digits}f}" if abs(value) >= 10**-digits or value == 0 else f"{value:.1e}"


def clock(moment: datetime.datetime | str | None) -> str:
    """Write a time of day, with the date unless it is today."""
    if moment is None:
        return "–"
    when = datetime.datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    when = when.astimezone()
    today = when.date() == datetime.datetime.now().astimezone().date()
    return f"{when:%H:%M}" if today else f"{when:%Y-%m-%d %H:%M}"
