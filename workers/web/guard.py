"""Who may read and who may change: the host asked for, where a request comes from, the token.

A page of another site can have a browser send requests to this one, and can have its own name
lead to 127.0.0.1 (DNS rebinding). So every request must name a host that this server goes by;
one that changes something must come from a page of this server and bring the token, as a cookie
that browsers send from here only, or in the header `X-Inception-Token`.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = "x-inception-token"
LOOPBACK = ("localhost", "127.0.0.1", "::1")
READING = ("GET", "HEAD")
MOST_BYTES = 65_536  # of a request's body
_OPEN = ("/unlock", "/static/")  # what is shown to whoever has no token yet
_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


@dataclass(frozen=True)
class Keys:
    """What opens the page, new with every start.

    Attributes
    ----------
    token : str
        Printed at start, typed in by a person.
    session : str
        What the browser keeps instead of it.
    hosts : tuple of str
        Names that this server goes by.
    reading : bool
        Reading asks for the token, too: anywhere but on the loopback address.
    secure : bool
        The page is reached by https only.
    cookie : str
        Name of the cookie; ports of one host share their cookies.
    """

    token: str
    hosts: tuple[str, ...] = LOOPBACK
    reading: bool = False
    secure: bool = False
    cookie: str = "inception"
    session: str = field(default_factory=lambda: secrets.token_urlsafe(32))

    def fits(self, token: str) -> bool:
        """Tell whether somebody typed the token."""
        return hmac.compare_digest(token.strip().encode(), self.token.encode())

    def opened(self, headers: Headers) -> bool:
        """Tell whether a request brings the token or the cookie that was given for it."""
        if HEADER in headers:
            return self.fits(headers[HEADER])
        return self.with_cookie(headers)

    def with_cookie(self, headers: Headers) -> bool:
        """Tell whether a request brings the cookie."""
        jar: SimpleCookie = SimpleCookie()
        try:
            jar.load(headers.get("cookie", ""))
        except CookieError:
            return False
        value = jar[self.cookie].value if self.cookie in jar else ""
        return hmac.compare_digest(value.encode(), self.session.encode())

    def remember(self, response: Response) -> None:
        """Have the browser keep the session until it is closed."""
        response.set_cookie(
            self.cookie, self.session, httponly=True, samesite="strict", secure=self.secure
        )


class Guard:
    """Refuse what must not pass, and add headers to every answer.

    Parameters
    ----------
    app : ASGI application
    keys : Keys
    writes : bool
        The database account may change rows.
    """

    def __init__(self, app: ASGIApp, keys: Keys, writes: bool) -> None:
        self.app, self.keys, self.writes = app, keys, writes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return

        async def shielded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
            await send(message)

        refusal = self.refusal(scope["method"], scope["path"], Headers(scope=scope))
        await (refusal or self.app)(scope, receive, shielded)

    def refusal(self, method: str, path: str, headers: Headers) -> Response | None:
        """Return why a request must not pass, None if it may."""
        host = headers.get("host", "")
        if host_name(host) not in self.keys.hosts:
            return PlainTextResponse(
                "this server does not go by that name; found: the header Host of the request; "
                f"expected: {' or '.join(self.keys.hosts)}\n",
                421,
            )
        if headers.get("sec-fetch-site", "none") == "cross-site" and path.startswith("/api/"):
            return _no(403, "asked for by a page of another site")
        if method not in READING:
            return self._refusal_of_change(path, host, headers)
        if self.keys.reading and not path.startswith(_OPEN) and not self.keys.opened(headers):
            if path.startswith("/api/"):
                return _no(401, "reading asks for the token that was printed at start")
            return RedirectResponse("/unlock", 303)
        return None

    def _refusal_of_change(self, path: str, host: str, headers: Headers) -> Response | None:
        length = headers.get("content-length", "")
        if not length.isdigit() or int(length) > MOST_BYTES:
            return _no(413, f"the request has no length, or more than {MOST_BYTES:,} bytes")
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return _no(403, "sent by a page of another site")
        if path in ("/unlock", "/lock"):
            return None if origin else _no(403, "the browser does not say which page sends this")
        if origin is None and HEADER not in headers:
            return _no(403, f"neither a page of this server nor the header {HEADER} is named")
        if not self.keys.opened(headers):
            return _no(401, "changes ask for the token that was printed at start")
        if not self.writes:
            return _no(403, "the database account reads only")
        return None


def host_name(host: str) -> str:
    """Return the name in a header `Host`, without its port; empty if it is no such header."""
    try:
        return (urlsplit(f"//{host}").hostname or "") if "@" not in host else ""
    except ValueError:
        return ""


def names(hosts: Iterable[str]) -> tuple[str, ...]:
    """Return host names as browsers write them."""
    return tuple(host.strip().strip("[]").lower() for host in hosts)


def _no(status: int, why: str) -> Response:
    return JSONResponse({"error": why}, status)
