"""Verbs that keep a deployment clean and safe."""

from __future__ import annotations

from typing import Annotated

import typer

from workers.commands.common import (
    PREFIX,
    SOURCE,
    Home,
    Json,
    Prefix,
    Source,
    open_pipeline,
    plain,
    say,
)

app = typer.Typer()


@app.command()
def gc(
    delete: Annotated[bool, typer.Option("--delete", help="Remove what was found.")] = False,
    age_hours: Annotated[float, typer.Option(min=0.0, help="Keep younger files.")] = 24.0,
    home: Home = None,
    prefix: Prefix = PREFIX,
    source: Source = SOURCE,
    as_json: Json = False,
) -> None:
    """List files in the store that no row points to; remove them with --delete."""
    _, ledger = open_pipeline(prefix, source)
    from workers.collect import collect

    found = collect(ledger, age_s=3600.0 * age_hours, delete=delete)
    if not as_json:
        for path in found["orphans"]:
            print(path)
    text = (
        f"{found['stored']} files, {len(found['orphans'])} orphans of "
        f"{found['orphan_bytes'] / 1e6:.1f} MB, {found['young']} more too young to tell; "
    )
    text += f"{found['deleted']} removed" if delete else "nothing removed: --delete does it"
    say(plain(found), as_json, text)
