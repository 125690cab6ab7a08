"""Verbs that put recordings, data sets and decisions in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

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
        Path,
        typer.Argument(exists=True, help="Bundle, folder of a stack, or a session in FILE.nwb."),
    ],
    entries: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json",
            help="What an NWB file does not say, as recording.json has it: animal_id, monitor, ...",
        ),
    ] = None,
    into: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Where the small files of an NWB file go [FILE.bundle]."
        ),
    ] = None,
    home: Home = None,
    prefix: Prefix = PREFIX,
    as_json: Json = False,
) -> None:
    """Check a recording, or a structural stack, and insert it, all or nothing."""
    if folder.is_dir() and (entries is not None or into is not None):
        raise typer.BadParameter("--entries and --into are for NWB files")
    if not folder.is_dir() and folder.suffix.lower() != ".nwb":
        raise typer.BadParameter(f"{folder} is neither a folder nor an NWB file")
    open_pipeline(prefix)
    from pipeline.recording.nwb.unpack import read_entries
    from schemas.closed_loop import Stack
    from schemas.decisions.ingest import ingest_bundle, ingest_nwb

    if folder.is_file():
        key = ingest_nwb(folder, into=into, entries=read_entries(entries))
    elif (folder / "stack.json").is_file():
        key = Stack.ingest(folder)
    else:
        key = ingest_bundle(folder)
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
    from schemas.decisions import ingest as entry

    key = entry.ingest_dataset(path)
    wake()
    say(plain(key), as_json, f"ingested {path}: {plain(key)}")


@app.command()
def loop(
    scan: Scan,
    recipe: Annotated[
        str | None,
        typer.Option(help="Name, hash or FILE.json; else the newest loop's, or the default."),
    ] = None,
    targets: Annotated[int | None, typer.Option(min=1, help="Neurons to target.")] = None,
    minutes: Annotated[float | None, typer.Option(min=0.1, help="Length of day 2.")] = None,
    deadline: Annotated[
        str | None,
        typer.Option(help="When the package is needed, local ISO time: 2026-11-24T08:00 (+01:00)."),
    ] = None,
    again: Annotated[
        bool,
        typer.Option("--again", help="Another plan of a registered scan, with other numbers."),
    ] = False,
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
    if other_day_of is not None and (again or any(v is not None for v in given.values())):
        raise typer.BadParameter("--other-day-of takes everything from that scan's loop")
    source = None if other_day_of is None else scan_key(other_day_of)
    open_existing(prefix)
    from schemas.decisions import other_day, tasks

    if source is not None:
        made = other_day.register_other_day(key, source)
        wake()
        text = f"{scan} will be compared with {other_day_of}; run `inception worker` next"
        say(plain(made), as_json, text)
        return
    before = _deadlines(key)
    made = tasks.register_loop(key, **given, again=again)
    resumed = _resume(made)
    wake()
    say(plain(made) or key, as_json, _registered(scan, made, before) + resumed)


def _resume(loop: dict[str, Any]) -> str:
    """Go on with a loop that somebody has stopped; say so."""
    from schemas import closed_loop
    from workers.steering import loops

    if not closed_loop.StoppedLoop & {name: loop[name] for name in loops.KEY}:
        return ""
    return f"; it was stopped and goes on, {loops.resume(loop)} jobs wait"


def _deadlines(key: dict[str, int]) -> dict[str, Any]:
    """Return the deadlines of the loops on a scan by their recipe."""
    from schemas import closed_loop

    loops = closed_loop.Loop & key
    return {row["recipe_hash"]: row["deadline_utc"] for row in loops.to_dicts()}


def _registered(scan: str, made: dict[str, Any], before: dict[str, Any]) -> str:
    """Say what registering a loop has changed."""
    from schemas.clock import written

    now = _deadlines({name: made[name] for name in ("animal_id", "session", "scan_idx")})
    recipe = made["recipe_hash"]
    text = f"loop {'is registered' if recipe in before else 'registered'} on {scan}"
    if now[recipe] is not None:
        text += f", deadline {written(now[recipe])}"
    if recipe in before and before[recipe] != now[recipe]:
        text += f" instead of {'none' if before[recipe] is None else written(before[recipe])}"
    return f"{text}; run `inception worker` next"
