"""Verbs that take results out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from workers.commands.common import (
    PREFIX,
    Home,
    Json,
    Prefix,
    Scan,
    open_existing,
    open_pipeline,
    plain,
    say,
    scan_key,
)

app = typer.Typer()


@app.command()
def package(
    scan: Scan,
    out: Annotated[Path, typer.Argument(help="Folder to write, or a file that ends in .zip.")],
    as_zip: Annotated[bool, typer.Option("--zip", help="Write one zip file.")] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Write nothing: is OUT what was written?")
    ] = False,
    plan: Annotated[
        str | None, typer.Option(metavar="ID", help="Which plan, if the scan has several.")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Take the place of another plan's package.")
    ] = False,
    home: Home = None,
    prefix: Prefix = PREFIX,
    as_json: Json = False,
) -> None:
    """Write the stimulus package of a loop for the rig, or verify one."""
    key = scan_key(scan)
    if as_zip and out.suffix != ".zip":
        out = out.with_name(out.name + ".zip")
    open_existing(prefix)
    from workers import package as packages

    if verify:
        plan_id = packages.verify(key, out, plan)
        text = f"package {plan_id} in {out} is as it was written"
        say({"plan": plan_id, "folder": str(out), "verified": True}, as_json, text)
        return
    if plan is None and not as_json and sys.stdin.isatty():
        plan = _ask_which(packages.choices(key))
    shown = packages.size(packages.write(key, out, plan, replace=replace))
    text = f"package {shown['plan']} written to {out}: {packages.sentence(shown)}"
    say({**shown, "folder": str(out)}, as_json, text)


def _ask_which(plans: list[dict[str, Any]]) -> str:
    """Have a person choose among several plans."""
    from workers.package import line

    chosen = 1
    if len(plans) > 1:
        for number, plan in enumerate(plans, start=1):
            print(f"{number}  {plan['plan']}  {line(plan)}")
        chosen = 0
    while not 1 <= chosen <= len(plans):
        chosen = typer.prompt(f"Which plan (1-{len(plans)})", type=int)
    return plans[chosen - 1]["plan"]


@app.command()
def report(
    out: Annotated[Path, typer.Argument(help="Folder to write.")],
    pdf: Annotated[bool, typer.Option(help="Write report.pdf too.")] = True,
    csv: Annotated[bool, typer.Option(help="Write every table as CSV too.")] = True,
    scan: Annotated[
        list[str] | None,
        typer.Option(metavar="SCAN", help="Only the loops on this scan; may be repeated [all]."),
    ] = None,
    home: Home = None,
    prefix: Prefix = PREFIX,
    as_json: Json = False,
) -> None:
    """Write index.html and report.pdf: figures, methods and numbers of loops."""
    scans = [scan_key(text) for text in scan or []]
    open_existing(prefix)
    from workers.report import write_report

    result = write_report(out, scans=scans, pdf=pdf, numbers=csv)
    say(plain(result), as_json, f"report written to {out / 'index.html'}")


@app.command()
def export(
    what: Annotated[
        str,
        typer.Argument(
            metavar="WHAT", help="SCAN, such as 1/1/1, or a table: closed_loop.Outcome.Unit."
        ),
    ],
    out: Annotated[
        Path,
        typer.Argument(
            help="Of a scan: FILE.nwb, or a folder for an archive of its loops; of a table: "
            ".csv, .json or .parquet."
        ),
    ],
    movie: Annotated[
        str,
        typer.Option(help="Of an NWB file: raw (frames), link (names of their files) or none."),
    ] = "raw",
    imaging: Annotated[
        str | None,
        typer.Option(metavar="HASH", help="Of an NWB file: which recipe, if there are several."),
    ] = None,
    entries: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json",
            help="Of an NWB file: what no row knows, such as age, sex and excitation_nm.",
        ),
    ] = None,
    home: Home = None,
    prefix: Prefix = PREFIX,
    as_json: Json = False,
) -> None:
    """Write a scan as NWB, its loops as an archive, or the rows of a table to a file."""
    chosen = movie != "raw" or imaging is not None or entries is not None
    if chosen and out.suffix != ".nwb":
        raise typer.BadParameter("--movie, --imaging and --entries are for an NWB file")
    if "/" in what:
        key = scan_key(what)
        plan, ledger = open_existing(prefix)
        if not out.suffix:
            from workers.archive.write import write_archive

            counts = archive_counts(write_archive(ledger, plan, key, out))
            text = f"archive of the loops on {what} written to {out}: {archive_line(counts)}"
            say({**counts, "folder": str(out)}, as_json, text)
            return
        from workers.export import write_nwb

        result = write_nwb(key, out, movie=movie, imaging_hash=imaging, entries=entries)
        text = f"scan {what} written to {out}, {result['bytes'] / 1e6:.1f} MB"
        if result["not_said"]:
            text += (
                f"; not known, so left out: {', '.join(result['not_said'])} (say with --entries)"
            )
        say({**result, "file": str(out)}, as_json, text)
        return
    open_existing(prefix)
    from workers.export import write_table

    rows = write_table(what, out)
    say({"rows": rows, "file": str(out)}, as_json, f"{rows} rows written to {out}")


@app.command("import")
def import_(
    folder: Annotated[
        Path, typer.Argument(exists=True, file_okay=False, help="Archive that `export` wrote.")
    ],
    check: Annotated[bool, typer.Option("--check", help="Only check the folder.")] = False,
    home: Home = None,
    prefix: Prefix = PREFIX,
    as_json: Json = False,
) -> None:
    """Import an archive of loops into this database, all of it or nothing."""
    from workers.archive.load import load_archive, verify_archive

    if check:
        counts, outcome = archive_counts(verify_archive(folder)), "whole and unchanged"
    else:
        plan, ledger = open_pipeline(prefix)
        counts, outcome = archive_counts(load_archive(ledger, plan, folder)), "imported"
    say(counts, as_json, f"{archive_line(counts)}: {outcome}")


def archive_counts(manifest: dict[str, Any]) -> dict[str, int]:
    """Return how much is in an archive."""
    return {
        "scans": len(manifest["scans"]),
        "tables": len(manifest["tables"]),
        "rows": sum(table["rows"] for table in manifest["tables"].values()),
        "files": len(manifest["files"]),
        "bytes": sum(file["size"] for file in manifest["files"].values()),
    }


def archive_line(counts: dict[str, int]) -> str:
    """Say how much is in an archive."""
    return (
        f"{counts['scans']} scans, {counts['rows']} rows of {counts['tables']} tables, "
        f"{counts['files']} files ({counts['bytes'] / 1e6:.1f} MB)"
    )
