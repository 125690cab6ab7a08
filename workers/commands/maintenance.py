"""Verbs that keep a deployment clean and safe."""

from __future__ import annotations

import json
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
    Yes,
    confirm,
    open_as_it_is,
    open_existing,
    plain,
    say,
)
from workers.commands.screens import migration_lines

app = typer.Typer()


@app.command()
def gc(
    delete: Annotated[bool, typer.Option("--delete", help="Remove what was found.")] = False,
    age_hours: Annotated[float, typer.Option(min=0.0, help="Keep younger files.")] = 24.0,
    yes: Yes = False,
    home: Home = None,
    prefix: Prefix = PREFIX,
    source: Source = SOURCE,
    as_json: Json = False,
) -> None:
    """List files in the store that no row points to; remove them with --delete."""
    _, ledger = open_existing(prefix, source)
    from workers.database.collect import collect

    found = collect(ledger, age_s=3600.0 * age_hours)
    if delete and found["orphans"]:
        what = f"Remove {len(found['orphans'])} files, {found['orphan_bytes'] / 1e6:.1f} MB,"
        confirm(f"{what} such as {found['orphans'][0]}?", yes)
        found = collect(ledger, age_s=3600.0 * age_hours, delete=True)
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
    despite_damage: Annotated[
        bool, typer.Option("--despite-damage", help="Save what is whole, if not all is.")
    ] = False,
    home: Home = None,
    prefix: Prefix = PREFIX,
    source: Source = SOURCE,
    as_json: Json = False,
) -> None:
    """Save database and store to a folder, with checksums; workers may go on."""
    ledger = open_as_it_is(prefix, source)
    from workers.database.backup import backup

    made = backup(ledger, folder, despite_damage=despite_damage)
    _say_backup(made, as_json, f"saved to {folder}")


@app.command()
def restore(
    folder: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Of `backup`.")],
    check: Annotated[bool, typer.Option("--check", help="Only check the folder.")] = False,
    despite_missing: Annotated[
        bool, typer.Option("--despite-missing", help="Go on without files that rows refer to.")
    ] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Make a saved deployment again on an empty server, and verify it."""
    from workers.database import embedded
    from workers.database.backup import restore, verify

    if check:
        _say_backup(verify(folder), as_json, "whole and unchanged")
    else:
        done = restore(embedded.connect(), folder, despite_missing=despite_missing)
        _say_backup(done, as_json, f"restored to {embedded.home_path()} and verified")


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
    if lost := manifest.get("lost"):
        text += f", but for {len(lost)} lost files, such as {lost[0]}"
    say({**counts, "lost": lost or []}, as_json, text)


@app.command()
def verify(
    raw: Annotated[bool, typer.Option(help="Read the recordings, too.")] = True,
    record: Annotated[
        bool, typer.Option("--record", help="Write digests into rows that have none.")
    ] = False,
    home: Home = None,
    prefix: Prefix = PREFIX,
    source: Source = SOURCE,
    as_json: Json = False,
) -> None:
    """Read all that is stored, and all recordings, and compare them with the rows."""
    _, ledger = open_existing(prefix, source)
    from workers.deployment.verify import verify

    found = verify(
        ledger,
        raw=raw and source == SOURCE,
        record=record,
        say=(lambda line: None) if as_json else (lambda line: print(line, flush=True)),
    )
    text = (
        f"{found['objects']} stored objects: {len(found['missing'])} missing, "
        f"{len(found['damaged'])} damaged, {found['without_digest']} without a digest; "
        f"{len(found['orphans'])} files of no row; "
        f"{found['raw_files']} raw files: {len(found['raw_problems'])} missing or changed"
    )
    text += f"; {found['recorded']} digests written" if record else ""
    say(plain(found), as_json, text)
    if found["missing"] or found["damaged"] or found["raw_problems"]:
        raise typer.Exit(1)


@app.command()
def relocate(
    old: Annotated[Path, typer.Argument(help="Folder or file, as rows have it.")],
    new: Annotated[Path, typer.Argument(help="Where it is now.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing, say what.")] = False,
    yes: Yes = False,
    home: Home = None,
    prefix: Prefix = PREFIX,
    as_json: Json = False,
) -> None:
    """Tell the database where recordings lie that were moved; contents are compared first."""
    open_existing(prefix)
    from workers.deployment.relocate import plan, relocate

    moves = plan(old, new)
    lines = [f"{move.old} -> {move.new}" for move in moves]
    if not as_json:
        print("\n".join(lines), flush=True)
    if not dry_run:
        confirm(f"Change {len(moves)} paths?", yes)
        relocate(moves)
    text = f"{len(moves)} paths {'would change' if dry_run else 'changed'}"
    say({"paths": lines, "changed": not dry_run}, as_json, text)


@app.command()
def recompute(
    check: Annotated[int, typer.Option(min=1, help="Number of random rows.")] = 10,
    each: Annotated[bool, typer.Option("--each", help="So many rows of each table.")] = False,
    table: Annotated[str | None, typer.Option(help="Such as imaging.Motion [all].")] = None,
    seed: Annotated[int, typer.Option(help="Names the choice.")] = 0,
    most_seconds: Annotated[float, typer.Option(help="Leave out rows that took longer.")] = 600.0,
    tolerance: Annotated[float, typer.Option(help="Relative difference that is close.")] = 1e-5,
    home: Home = None,
    prefix: Prefix = PREFIX,
    source: Source = SOURCE,
    as_json: Json = False,
) -> None:
    """Compute random rows again and compare them with what is stored; nothing is written."""
    plan, ledger = open_existing(prefix, source)
    from workers.insight import recompute
    from workers.version import code_version

    def show(row: dict[str, Any]) -> None:
        where = f"by {row['difference']:.2g} in {row['where']}" if row["where"] else ""
        if row["where"] and row["version"] not in (None, code_version()):
            where += f"; computed by code {row['version']}, this is {code_version()}"
        if not as_json:
            line = f"{row['verdict']:8s} {row['table']} {json.dumps(row['key'])} {where}"
            print(line, flush=True)

    found = recompute.check(
        ledger,
        plan,
        check,
        each=each,
        table=table,
        seed=seed,
        most_s=most_seconds,
        rtol=tolerance,
        say=show,
    )
    counts = {
        name: sum(row["verdict"] == name for row in found) for name in ("equal", "close", "differs")
    }
    text = f"{len(found)} rows again: " + ", ".join(f"{n} {name}" for name, n in counts.items())
    say(plain(found), as_json, text)
    if counts["differs"]:
        raise typer.Exit(1)


@app.command()
def migrate(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing, say what.")] = False,
    despite_workers: Annotated[
        bool, typer.Option("--despite-workers", help="Workers seen lately are known to be gone.")
    ] = False,
    yes: Yes = False,
    home: Home = None,
    prefix: Prefix = PREFIX,
    source: Source = SOURCE,
    as_json: Json = False,
) -> None:
    """Bring the tables of an older version up to this code's; `backup` first."""
    connection = open_as_it_is(prefix, source).connection
    from workers.database import migration

    if dry_run:
        found = migration.look(connection, prefix, source)
    else:
        found = migration.look(connection, prefix, source)
        if not found["problems"] and (found["tables"] or found["columns"] or found["steps"]):
            if not (yes or as_json):
                print("\n".join(migration_lines(found)), flush=True)
            confirm("Change the tables? There is no way back but a backup.", yes)
        found = migration.migrate(connection, prefix, source, despite_workers=despite_workers)
    say(plain(found), as_json, "\n".join(migration_lines(found)))
    if found["problems"]:
        raise typer.Exit(1)
