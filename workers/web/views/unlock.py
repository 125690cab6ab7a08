"""Where the token is typed in, and forgotten again."""

from __future__ import annotations

import asyncio
from urllib.parse import parse_qs, urlsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from workers.web.site import site_of

_PAUSE_S = 0.5  # after a wrong token


def ask(request: Request) -> Response:
    """Show the form."""
    return site_of(request).page(request, "unlock.html.j2", title="Unlock", wrong=False, back="/")


async def unlock(request: Request) -> Response:
    """Compare the token, and have the browser remember that it was right."""
    site = site_of(request)
    form = parse_qs((await request.body()).decode("utf-8", "replace"))
    back = own_page(form.get("back", ["/"])[0])
    if not site.keys.fits(form.get("token", [""])[0]):
        await asyncio.sleep(_PAUSE_S)
        return site.page(
            request, "unlock.html.j2", status_code=403, title="Unlock", wrong=True, back=back
        )
    answer = RedirectResponse(back, 303)
    site.keys.remember(answer)
    return answer


def lock(request: Request) -> Response:
    """Have the browser forget the session."""
    answer = RedirectResponse("/", 303)
    answer.delete_cookie(site_of(request).keys.cookie)
    return answer


def own_page(address: str) -> str:
    """Return an address if it is a page of this server, else the first page."""
    parts = urlsplit(address)
    own = not parts.scheme and not parts.netloc and address.startswith("/")
    return address if own and not address.startswith(("//", "/\\")) and "\n" not in address else "/"


ROUTES = [
    Route("/unlock", ask),
    Route("/unlock", unlock, methods=["POST"]),
    Route("/lock", lock, methods=["POST"]),
]
