"""Verbs that change jobs."""

from __future__ import annotations

from typing import Annotated

import typer

from workers.commands.common import PREFIX, Home, Json, Prefix, json_key, open_pipeline, say

app = typer.Typer()


_TableArg = Annotated[str | None, typer.Argument(help="Such as imaging.Motion [all].")]
_KeyOpt = Annotated[str | None, typer.Option(help='Part of a key, JSON: {"animal_id": 1}.')]


@app.command()
def retry(
    table: _TableArg = None,
    key: _KeyOpt = None,
    home: Home = None,
    prefix: Prefix = PREFIX,
    as_json: Json = False,
) -> None:
    """Put jobs that were set aside or ignored back into the queue."""
    part = json_key(key)
    _, ledger = open_pipeline(prefix)
    from workers import health

    changed = health.retry(ledger, table, part)
    say({"retried": changed}, as_json, f"{changed} jobs will be tried again")


@app.command()
def ignore(
    table: _TableArg = None,
    key: _KeyOpt = None,
    home: Home = None,
    prefix: Prefix = PREFIX,
    as_json: Json = False,
) -> None:
    """Set failed or waiting jobs aside for good (`retry` brings them back)."""
    if table is None and key is None:
        raise typer.BadParameter("name a table or a --key: otherwise everything would be ignored")
    part = json_key(key)
    _, ledger = open_pipeline(prefix)
    from workers import health

    changed = health.ignore(ledger, table, part)
    say({"ignored": changed}, as_json, f"{changed} jobs are ignored")
