"""Verbs that look and change nothing."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from workers.commands.common import PREFIX, Home, Json, Prefix, open_pipeline, plain, show_table

app = typer.Typer()


@app.command()
def status(home: Home = None, prefix: Prefix = PREFIX, as_json: Json = False) -> None:
    """Show what is done, due, running and wrong, table by table."""
    plan, ledger = open_pipeline(prefix)
    from workers import health

    found = health.status(ledger, plan)
    if as_json:
        print(json.dumps(plain(found)))
        return
    rows = [
        [
            row["table"],
            *(str(row[name] or "") for name in ("done", "due", "running", "error", "ignore")),
            f"{row['seconds']:.2f}" if row["seconds"] is not None else "",
        ]
        for row in found["tables"]
        if row["done"] or row["due"]
    ]
    show_table(["table", "done", "due", "running", "error", "ignored", "s / job"], rows)
    for job in found["running"]:
        print(f"running {job['elapsed_s']:.0f} s: {job['table']} {job['key']} on {job['worker']}")
    alive = ", ".join(f"{w['host']}:{w['pid']} ({w['state']})" for w in found["workers"])
    print(f"workers: {alive or 'none'}")


@app.command()
def errors(
    table: Annotated[str | None, typer.Argument(help="Such as imaging.Motion [all].")] = None,
    stack: Annotated[bool, typer.Option("--stack", help="Show where it was raised.")] = False,
    home: Home = None,
    prefix: Prefix = PREFIX,
    as_json: Json = False,
) -> None:
    """List the jobs that were set aside, with key and message."""
    _, ledger = open_pipeline(prefix)
    from workers import health

    found = health.errors(ledger, table)
    if as_json:
        print(json.dumps(plain(found)))
        return
    for row in found:
        print(f"{row['table']} {json.dumps(row['key'])}")
        print(f"    {row['class']} after {row['attempts']} attempt(s): {row['message']}")
        if stack:
            print("    " + (row["stack"] or "").replace("\n", "\n    "))
    print(f"{len(found)} jobs set aside" + ("; `inception retry` tries again" if found else ""))


@app.command()
def doctor(home: Home = None, as_json: Json = False) -> None:
    """Check packages, database, store, disk and device."""
    from workers import health

    checks = health.doctor(home)
    if as_json:
        print(json.dumps(checks))
    else:
        for check in checks:
            print(f"{'ok  ' if check['ok'] else 'FAIL'}  {check['check']}: {check['found']}")
            if not check["ok"]:
                print(f"      {check['remedy']}")
    if not all(check["ok"] for check in checks):
        raise typer.Exit(1)
