"""Verbs that look and change nothing."""

from __future__ import annotations

import json
import time
from typing import Annotated, Any

import typer

from workers.commands.common import (
    PREFIX,
    SOURCE,
    Home,
    Json,
    Prefix,
    Source,
    json_key,
    open_existing,
    plain,
)
from workers.commands.screens import ahead_lines, ancestry_lines, status_pane

app = typer.Typer()


@app.command()
def status(
    watch: Annotated[bool, typer.Option("--watch", help="Look again and again.")] = False,
    every: Annotated[float, typer.Option(min=0.5, help="Seconds between two looks.")] = 5.0,
    stages: Annotated[bool, typer.Option("--stages", help="One line for each stage.")] = False,
    home: Home = None,
    prefix: Prefix = PREFIX,
    source: Source = SOURCE,
    as_json: Json = False,
) -> None:
    """Show what is done, due, running and wrong, and when it will be ready."""
    plan, ledger = open_existing(prefix, source)
    from rich.console import Console
    from rich.live import Live

    from workers.insight import status as health

    def look() -> dict[str, Any]:
        return health.status(ledger, plan)

    if as_json:
        while True:
            print(json.dumps(plain(look())), flush=True)
            if not watch:
                return
            time.sleep(every)
    console = Console()
    if not watch:
        console.print(status_pane(look(), stages))
        return
    with Live(status_pane(look(), stages), console=console, auto_refresh=False) as live:
        while True:
            time.sleep(every)
            live.update(status_pane(look(), stages), refresh=True)


@app.command()
def forecast(
    home: Home = None, prefix: Prefix = PREFIX, source: Source = SOURCE, as_json: Json = False
) -> None:
    """Estimate when the packages will be ready, from measured durations and the present workers."""
    plan, ledger = open_existing(prefix, source)
    from workers.insight import forecast
    from workers.insight import status as health

    found = forecast.forecast(ledger, plan, health.workers(ledger))
    if as_json:
        print(json.dumps(plain(found)))
    else:
        print("\n".join(ahead_lines(found)))


@app.command()
def explain(
    table: Annotated[str, typer.Argument(help="Such as mei.MEI.")],
    key: Annotated[str, typer.Argument(help='(Part of) a key, JSON: {"animal_id": 1}.')],
    home: Home = None,
    prefix: Prefix = PREFIX,
    source: Source = SOURCE,
    as_json: Json = False,
) -> None:
    """Show where a result comes from: data, methods, parameters, code, machine, duration."""
    part = json_key(key)
    plan, ledger = open_existing(prefix, source)
    from workers.insight.ancestry import ancestry

    steps = ancestry(ledger, plan, table, part or {})
    if as_json:
        print(json.dumps(plain(steps)))
    else:
        print("\n".join(ancestry_lines(steps)))


@app.command()
def doctor(
    home: Home = None, prefix: Prefix = PREFIX, source: Source = SOURCE, as_json: Json = False
) -> None:
    """Check versions, database, encryption, grants, tables, store, disk and device."""
    from workers.insight.doctor import doctor

    checks = doctor(home, prefix, source)
    if as_json:
        print(json.dumps(checks))
    else:
        for check in checks:
            print(f"{'ok  ' if check['ok'] else 'FAIL'}  {check['check']}: {check['found']}")
            if not check["ok"]:
                print(f"      {check['remedy']}")
    if not all(check["ok"] for check in checks):
        raise typer.Exit(1)
