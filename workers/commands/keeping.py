"""Verbs that keep a deployment clean and safe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

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


@app.command()
def backup(
    folder: Annotated[Path, typer.Argument(help="Folder to make.")],
    home: Home = None,
    prefix: Prefix = PREFIX,
    source: Source = SOURCE,
    as_json: Json = False,
) -> None:
    """Save database and store to a folder, with checksums; workers may go on."""
    _, ledger = open_pipeline(prefix, source)
    from workers.backup import backup

    made = backup(ledger, folder)
    _say_backup(made, as_json, f"saved to {folder}")


@app.command()
def restore(
    folder: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Of `backup`.")],
    check: Annotated[bool, typer.Option("--check", help="Only check the folder.")] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Make a saved deployment again on an empty server, and verify it."""
    from workers import embedded
    from workers.backup import restore, verify

    if check:
        _say_backup(verify(folder), as_json, "whole and unchanged")
    else:
        _say_backup(restore(embedded.connect(), folder), as_json, "restored and verified")


def _say_backup(manifest: dict[str, Any], as_json: bool, outcome: str) -> None:
    counts = {
        "tables": len(manifest["tables"]),
        "rows": sum(table["rows"] for table in manifest["tables"].values()),
        "files": len(manifest["files"]),
        "bytes": sum(file["size"] for file in manifest["files"].values()),
    }
    text = (
        f"{counts['rows']} rows of {counts['tables']} tables and {counts['files']} files "
        f"({counts['bytes'] / 1e6:.1f} MB), made {manifest['made']}: {outcome}"
    )
    say(counts, as_json, text)
