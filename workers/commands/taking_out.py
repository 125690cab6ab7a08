"""Verbs that take results out."""

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
    open_existing,
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
        str | None, typer.Option(metavar="ID", help="Which plan, if the loop has several.")
    ] = None,
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
    plan_id = packages.write(key, out, plan)
    say({"plan": plan_id, "folder": str(out)}, as_json, f"package {plan_id} written to {out}")


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
    table: Annotated[str, typer.Argument(help="Such as closed_loop.Outcome.Unit.")],
    out: Annotated[Path, typer.Argument(help="File to write: .csv, .json or .parquet.")],
    home: Home = None,
    prefix: Prefix = PREFIX,
    as_json: Json = False,
) -> None:
    """Write the rows of a table (numbers and text, no arrays) to a file."""
    open_existing(prefix)
    from workers.export import write_table

    rows = write_table(table, out)
    say({"rows": rows, "file": str(out)}, as_json, f"{rows} rows written to {out}")
