"""Verbs that put recordings, data sets and decisions in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from workers.commands.common import (
    PREFIX,
    Home,
    Json,
    Prefix,
    Scan,
    iso_time,
    open_existing,
    open_pipeline,
    plain,
    recipe_of,
    say,
    scan_key,
    slashed,
    wake,
)

app = typer.Typer()


@app.command()
def ingest(
    folder: Annotated[
        Path, typer.Argument(exists=True, file_okay=False, help="Bundle, or folder of a stack.")
    ],
    home: Home = None,
    prefix: Prefix = PREFIX,
    as_json: Json = False,
) -> None:
    """Check a recording bundle, or a structural stack, and insert it, all or nothing."""
    open_pipeline(prefix)
    from schemas.closed_loop import Stack
    from schemas.ingest import ingest_bundle

    key = Stack.ingest(folder) if (folder / "stack.json").is_file() else ingest_bundle(folder)
    wake()
    say(plain(key), as_json, f"ingested {slashed(key)} from {folder}")


@app.command("ingest-dataset")
def ingest_dataset(
    path: Annotated[Path, typer.Argument(exists=True, help="npz file or published folder.")],
    home: Home = None,
    prefix: Prefix = PREFIX,
    as_json: Json = False,
) -> None:
    """Insert a prepared data set: images, responses and tiers."""
    open_pipeline(prefix)
    from schemas import ingest as entry

    key = entry.ingest_dataset(path)
    wake()
    say(plain(key), as_json, f"ingested {path}: {plain(key)}")


@app.command()
def loop(
    scan: Scan,
    recipe: Annotated[
        str | None, typer.Option(help="Hash, name or FILE.json [default recipe].")
    ] = None,
    targets: Annotated[int | None, typer.Option(min=1, help="Neurons to target.")] = None,
    minutes: Annotated[float | None, typer.Option(min=0.1, help="Length of day 2.")] = None,
    deadline: Annotated[
        str | None, typer.Option(help="When the package is needed, ISO: 2026-11-24T08:00.")
    ] = None,
    other_day_of: Annotated[
        str | None,
        typer.Option(
            metavar="SCAN",
            help="No new loop: train a model on SCAN's cells on this other day, compare the MEIs.",
        ),
    ] = None,
    home: Home = None,
    prefix: Prefix = PREFIX,
    as_json: Json = False,
) -> None:
    """Register a loop on a scan: everything up to the package follows by workers."""
    key = scan_key(scan)
    given = {
        "recipe": recipe_of(recipe),
        "targets": targets,
        "minutes": minutes,
        "deadline": iso_time(deadline),
    }
    if other_day_of is not None and any(value is not None for value in given.values()):
        raise typer.BadParameter("--other-day-of takes everything from that scan's loop")
    source = None if other_day_of is None else scan_key(other_day_of)
    open_existing(prefix)
    from schemas import closed_loop

    if source is not None:
        made = closed_loop.register_other_day(key, source)
        wake()
        text = f"{scan} will be compared with {other_day_of}; run `inception worker` next"
        say(plain(made), as_json, text)
        return
    made = closed_loop.register_loop(key, **{k: v for k, v in given.items() if v is not None})
    wake()
    say(plain(made) or key, as_json, f"loop registered on {scan}; run `inception worker` next")
