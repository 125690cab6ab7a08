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
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what is understood; no database is opened.")
    ] = False,
    home: Home = None,
    prefix: Prefix = PREFIX,
    as_json: Json = False,
) -> None:
    """Check a recording or a structural stack, say what was understood, and insert it."""
    if folder.is_dir() and (entries is not None or into is not None):
        raise typer.BadParameter("--entries and --into are for NWB files")
    if not folder.is_dir() and folder.suffix.lower() != ".nwb":
        raise typer.BadParameter(f"{folder} is neither a folder nor an NWB file")
    if dry_run:
        _try(folder, entries, as_json)
        return
    open_pipeline(prefix)
    from pipeline.recording.bundle import read_bundle
    from pipeline.recording.nwb.unpack import read_entries, unpack
    from pipeline.recording.stack import read_stack_folder
    from pipeline.recording.summary import finding_lines, summarize
    from schemas.closed_loop import Stack
    from schemas.decisions.ingest import insert_bundle

    if folder.is_dir() and (folder / "stack.json").is_file():
        stack = read_stack_folder(folder)
        summary = stack.summary()
        _show(summary.lines(), as_json)
        key, more = Stack.insert_stack(stack), []
    else:
        movie = None if folder.is_dir() else folder
        made = folder if movie is None else unpack(folder, into, read_entries(entries))
        bundle = read_bundle(made, movie)
        summary = summarize(bundle)
        _show(summary.lines(), as_json)
        key = insert_bundle(bundle)
        more = bundle.findings[len(summary.findings) :]
        summary = summarize(bundle)
    _show(finding_lines(more), as_json)
    wake()
    say({**plain(key), **summary.as_dict()}, as_json, f"ingested {slashed(key)} from {folder}")


def _try(folder: Path, entries: Path | None, as_json: bool) -> None:
    """Say what `ingest` would understand; nothing but a temporary folder is written."""
    import tempfile

    from pipeline.recording.bundle import read_bundle
    from pipeline.recording.nwb.unpack import read_entries, unpack
    from pipeline.recording.stack import read_stack_folder
    from pipeline.recording.summary import summarize

    with tempfile.TemporaryDirectory() as scratch:
        if folder.is_file():
            made = unpack(folder, Path(scratch) / "bundle", read_entries(entries))
            summary = summarize(read_bundle(made, folder))
        elif (folder / "stack.json").is_file():
            summary = read_stack_folder(folder).summary()
        else:
            summary = summarize(read_bundle(folder))
    _show(summary.lines(), as_json)
    text = "dry run: nothing inserted; ingest compares key, plan and images named by hash"
    say(summary.as_dict(), as_json, text)


@app.command()
def check(
    folder: Annotated[Path, typer.Argument(exists=True, help="Recording, maybe half finished.")],
    wait: Annotated[
        float, typer.Option(min=0, max=600, help="Seconds between two looks: what grows [2].")
    ] = 2.0,
    as_json: Json = False,
) -> None:
    """Say which streams of a folder are there, missing, growing or refused; no database."""
    from pipeline.recording.progress import check_folder

    found = check_folder(folder, wait_s=wait)
    _show(found.lines(), as_json)
    if as_json:
        say(found.as_dict(), as_json, "")
    if not found.ready:
        raise typer.Exit(1)


def _show(lines: list[str], as_json: bool) -> None:
    """Print lines as they are; on a terminal, findings and what is not there stand out."""
    from rich.console import Console
    from rich.text import Text

    if as_json or not lines:
        return
    console, loud = Console(), False
    for line in lines:
        loud = line.startswith(("! ", "refused", "missing")) or (loud and line.startswith("  "))
        console.print(Text(line, style="yellow" if loud else ""), soft_wrap=True)


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
