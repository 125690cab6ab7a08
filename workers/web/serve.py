"""Start the server: which addresses it may listen on, its token, what is printed."""

from __future__ import annotations

import ipaddress
import os
import secrets
import socket
import threading
import webbrowser
from collections.abc import Sequence
from pathlib import Path

import uvicorn

from pipeline.errors import DataError
from workers.web.app import make_app
from workers.web.desk import Desk
from workers.web.guard import LOOPBACK, Keys, names

TOKEN = "INCEPTION_WEB_TOKEN"
_SHORTEST = 16


def serve(
    desk: Desk,
    *,
    host: str = "127.0.0.1",
    port: int = 8765,
    behind_proxy: Sequence[str] = (),
    certificate: Path | None = None,
    key: Path | None = None,
    browser: bool = False,
) -> None:
    """Answer until the process is stopped.

    Parameters
    ----------
    desk : Desk
    host, port : str, int
        Where to listen; port 0 takes a free one.
    behind_proxy : sequence of str
        Names under which a proxy shows the page; reading asks for the token, too.
    certificate, key : path, optional
        For TLS; reading asks for the token, too.
    browser : bool
        Open the page in this machine's browser.

    Raises
    ------
    DataError
        If the address is not of this machine alone and neither TLS nor a proxy is named, the token
        is too short, or the port is taken.
    """
    local, shared = is_loopback(host), bool(behind_proxy or certificate)
    if not local and not shared:
        raise DataError(
            "others can reach this address, and what they send could be read on its way",
            field="--host",
            found=host,
            expected="127.0.0.1, or --certificate and --key, or --behind-proxy NAME",
            remedy="see docs/web.md; or `ssh -L 8765:127.0.0.1:8765 THIS_HOST` from elsewhere",
        )
    if (certificate is None) != (key is None):
        raise DataError("TLS needs both files", field="--certificate", expected="--key as well")
    listener = _listen(host, port)
    port = listener.getsockname()[1]
    own = () if host in ("0.0.0.0", "::", "") else (host,)
    keys = Keys(
        token=_token(),
        hosts=names(dict.fromkeys([*LOOPBACK, *own, socket.gethostname(), *behind_proxy]))
        if shared
        else names(dict.fromkeys([*LOOPBACK, *own])),
        reading=shared or not local,
        secure=certificate is not None,
        cookie=f"inception_{port}",
    )
    shown = f"[{host}]" if ":" in host else host
    address = f"http{'s' if certificate else ''}://{shown}:{port}"
    print(f"{address}  (Ctrl-C ends it)", flush=True)
    if desk.writes or keys.reading:
        print(f"token, asked for by the page: {keys.token}", flush=True)
    if not desk.writes:
        print("the database account reads only: the page has no buttons", flush=True)
    if browser:
        threading.Timer(0.5, webbrowser.open, [address]).start()
    app = make_app(desk, keys)
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        lifespan="off",
        ws="none",
        ssl_certfile=certificate,
        ssl_keyfile=key,
        timeout_graceful_shutdown=1,
    )
    try:
        uvicorn.Server(config).run(sockets=[listener])
    finally:
        app.state.site.figures.close()


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host.strip("[]"), port), family=family)
    except OSError as error:
        raise DataError(
            "cannot listen there",
            field="--host, --port",
            found=f"{host}, {port}: {error.strerror or error}",
            remedy="name another --port; 0 takes a free one",
        ) from error


def _token() -> str:
    given = os.environ.get(TOKEN)
    if given is None:
        return secrets.token_urlsafe(24)
    if len(given) < _SHORTEST:
        raise DataError(
            "the token can be guessed",
            field=TOKEN,
            found=f"{len(given)} characters",
            expected=f"{_SHORTEST} at least",
            remedy="leave it out: a new one is then made and printed",
        )
    return given
