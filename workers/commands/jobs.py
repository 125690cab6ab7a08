"""Verbs about single jobs: what failed, try again, set aside, stop."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from workers.commands.common import (
    PREFIX,
    SOURCE,
    Home,
    Json,
    KeyPart,
    Prefix,
    Source,
    TableName,
    expect_names,
    json_key,
    open_existing,
    plain,
    say,
)

app = typer.Typer()


@app.command()
def errors(
    table: TableName = None,
    key: KeyPart = None,
    stack: Annotated[bool, typer.Option("--stack", help="Show where it was raised.")] = False,
    home: Home = None,
    prefix: Prefix = PREFIX,
    source: Source = SOURCE,
    as_json: Json = False,
) -> None:
    """List the jobs that were set aside: key, input, message and what to do."""
    part = json_key(key)
    plan, ledger = open_existing(prefix, source)
    expect_names(plan, ledger, table, part)
    from workers.queue import jobs

    found = jobs.errors(ledger, plan, table, part)
    if as_json:
        print(json.dumps(plain(found)))
        return
    for row in found:
        print(f"{row['table']} {json.dumps(row['key'])}")
        print(f"    {row['class']} after {row['attempts']} attempt(s): {row['message']}")
        for line in row["input"]:
            print(f"    input: {line}")
        print(f"    {row['advice']}")
        if stack:
            print("    " + (row["stack"] or "").replace("\n", "\n    "))
    print(f"{len(found)} jobs set aside" + ("; `inception retry` tries again" if found else ""))


@app.command()
def retry(
    table: TableName = None,
    key: KeyPart = None,
    home: Home = None,
    prefix: Prefix = PREFIX,
    source: Source = SOURCE,
    as_json: Json = False,
) -> None:
    """Put jobs that were set aside, ignored or cancelled back into the queue."""
    part = json_key(key)
    plan, ledger = open_existing(prefix, source)
    expect_names(plan, ledger, table, part)
    from workers.queue import jobs

    changed = jobs.retry(ledger, table, part)
    say({"retried": changed}, as_json, f"{changed} jobs will be tried again")


@app.command()
def ignore(
    table: TableName = None,
    key: KeyPart = None,
    home: Home = None,
    prefix: Prefix = PREFIX,
    source: Source = SOURCE,
    as_json: Json = False,
) -> None:
    """Set failed or waiting jobs aside for good (`retry` brings them back)."""
    _chosen(table, key, "ignored")
    part = json_key(key)
    plan, ledger = open_existing(prefix, source)
    expect_names(plan, ledger, table, part)
    from workers.queue import jobs

    changed = jobs.ignore(ledger, table, part)
    say({"ignored": changed}, as_json, f"{changed} jobs are ignored")


@app.command()
def cancel(
    table: TableName = None,
    key: KeyPart = None,
    home: Home = None,
    prefix: Prefix = PREFIX,
    source: Source = SOURCE,
    as_json: Json = False,
) -> None:
    """Stop running jobs and set them aside (`retry` brings them back).

    From now on nothing of them can be committed; their worker ends the process within seconds.
    """
    _chosen(table, key, "cancelled")
    part = json_key(key)
    plan, ledger = open_existing(prefix, source)
    expect_names(plan, ledger, table, part)
    from workers.queue import jobs

    changed = jobs.cancel(ledger, table, part)
    say({"cancelled": changed}, as_json, f"{changed} running jobs are cancelled")


def _chosen(table: str | None, key: str | None, verb: str) -> None:
    if table is None and key is None:
        raise typer.BadParameter(f"name a table or a --key: otherwise everything would be {verb}")
