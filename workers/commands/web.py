"""Verbs that show a deployment in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from workers.commands.common import PREFIX, Home, Prefix, open_existing

app = typer.Typer()
Host = Annotated[str, typer.Option(help="Address to listen on.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")]
Proxy = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help="Name under which a proxy shows the page; may be repeated."),
]
Certificate = Annotated[
    Path | None, typer.Option(exists=True, dir_okay=False, help="Certificate for TLS, PEM.")
]
Key = Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="Its private key.")]


@app.command()
def web(
    host: Host = "127.0.0.1",
    port: Port = 8765,
    behind_proxy: Proxy = None,
    certificate: Certificate = None,
    key: Key = None,
    home: Home = None,
    prefix: Prefix = PREFIX,
) -> None:
    """Show loops, cells, plans and verdicts as a page, until stopped."""
    _serve(prefix, host, port, behind_proxy, certificate, key)


@app.command("open")
def open_(
    port: Port = 8765,
    home: Home = None,
    prefix: Prefix = PREFIX,
) -> None:
    """Show the page of `inception web` in this machine's browser, until stopped."""
    _serve(prefix, "127.0.0.1", port, browser=True)


def _serve(
    prefix: str,
    host: str,
    port: int,
    behind_proxy: list[str] | None = None,
    certificate: Path | None = None,
    key: Path | None = None,
    browser: bool = False,
) -> None:
    try:
        import starlette  # noqa: F401 - an extra
        import uvicorn  # noqa: F401
    except ModuleNotFoundError as error:
        raise RuntimeError(
            f"the page needs {error.name}; `pip install 'inception-loop[web]'`"
        ) from error
    plan, ledger = open_existing(prefix)
    from workers.web.desk import Desk
    from workers.web.serve import serve

    serve(
        Desk(ledger, plan, prefix),
        host=host,
        port=port,
        behind_proxy=behind_proxy or [],
        certificate=certificate,
        key=key,
        browser=browser,
    )
