"""What the verbs share: common options, opening the pipeline, reading and printing."""

from __future__ import annotations

import difflib
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer


def _set_home(home: Path | None) -> Path | None:
    if home is not None:
        os.environ["INCEPTION_HOME"] = str(home.expanduser().resolve())
    return home


Home = Annotated[
    Path | None,
    typer.Option(
        "--home",
        callback=_set_home,
        is_eager=True,
        help="Folder of database and store [INCEPTION_HOME or ~/.inception].",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Scan = Annotated[str, typer.Argument(metavar="SCAN", help="animal/session/scan, such as 1/1/1.")]
Prefix = Annotated[str, typer.Option(help="Prefix of the database schemas.")]
Source = Annotated[str, typer.Option("--schemas", help="Module of the tables.", hidden=True)]
TableName = Annotated[str | None, typer.Argument(help="Such as imaging.Motion [all].")]
KeyPart = Annotated[
    str | None, typer.Option("--key", help='Part of a key, JSON: {"animal_id": 1}.')
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking.")]
PREFIX = os.environ.get("INCEPTION_PREFIX", "inception")
SOURCE = "schemas"


def open_pipeline(
    prefix: str, source: str = SOURCE, *, adopt_store: bool = False
) -> tuple[Any, Any]:
    """Connect, declare what is missing, and return plan and ledger."""
    from workers.database import embedded

    connection = embedded.connect()
    from workers.database.opening import open_tables
    from workers.queue.lease import Ledger

    plan = open_tables(connection, source, prefix, adopt_store=adopt_store)
    return plan, Ledger(connection)


def open_existing(prefix: str, source: str = SOURCE) -> tuple[Any, Any]:
    """Bind a pipeline that is there and return plan and ledger; nothing is made or declared."""
    from schemas.datajoint_internals import import_without_pandas
    from workers.database import embedded

    embedded.expect_home()
    import_without_pandas()
    connection = embedded.connect()
    from workers.database.opening import open_made
    from workers.queue.lease import Ledger

    return open_made(connection, source, prefix), Ledger(connection)


def expect_names(plan: Any, ledger: Any, table: str | None, part: dict[str, Any] | None) -> None:
    """Raise unless a table computes, or has jobs, and the names of a key are in its primary key.

    Raises
    ------
    LookupError
        A name that is misspelt would choose nothing, and one in a key would choose everything.
    """
    names = [task.name for task in plan]
    if table is not None and table not in names:
        names += [name for (name,) in ledger.rows(f"SELECT DISTINCT table_name FROM {ledger.job}")]
        if table not in names:
            raise LookupError(f"no table {table!r} computes anything; {_near(table, names)}")
    if part is None:
        return
    tasks = [task for task in plan if table in (None, task.name)]
    known = {name for task in tasks for name in task.table().primary_key}
    expect_key(part, known, table or "any table")


def expect_key(part: dict[str, Any] | None, known: Iterable[str], table: str) -> None:
    """Raise LookupError unless all names of (part of) a key are in a table's primary key."""
    known = set(known)
    for name in part or {}:
        if known and name not in known:
            raise LookupError(f"no {name!r} in the key of {table}; {_near(name, known)}")


def _near(name: str, known: Iterable[str]) -> str:
    found = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f"did you mean {' or '.join(found)}" if found else f"there are {sorted(known)}"


def open_as_it_is(prefix: str, source: str = SOURCE) -> Any:
    """Connect to tables of whatever version, making none, and return the ledger."""
    from schemas.datajoint_internals import import_without_pandas
    from workers.database import embedded

    embedded.expect_home()
    import_without_pandas()
    connection = embedded.connect()
    from workers.database import migration
    from workers.queue.lease import Ledger

    migration.bind(connection, prefix, source)
    return Ledger(connection)


def confirm(question: str, yes: bool) -> None:
    """Ask before something is changed for good; whoever cannot be asked has to say --yes.

    Raises
    ------
    typer.Exit
        If the answer is no, or nobody is there to answer; nothing was changed.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        print(f"inception: {question} Nothing was changed; --yes does it", file=sys.stderr)
        raise typer.Exit(1)
    if not typer.confirm(question):
        raise typer.Exit(1)


def wake() -> None:
    """Have a running worker look for new keys at once."""
    import datajoint as dj

    from workers.queue.lease import Ledger

    Ledger(dj.conn()).wake()


def scan_key(scan: str) -> dict[str, int]:
    """Read `1/1/1` as animal, session and scan."""
    parts = scan.split("/")
    if len(parts) != 3 or not all(part.isdigit() for part in parts):
        raise typer.BadParameter(f"{scan!r} is not animal/session/scan, such as 1/1/1")
    return dict(zip(("animal_id", "session", "scan_idx"), map(int, parts), strict=True))


def iso_time(text: str | None) -> Any:
    """Read an ISO date and time."""
    from datetime import datetime

    if text is None:
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not ISO, such as 2026-11-24T08:00") from error


def json_key(text: str | None) -> dict[str, Any] | None:
    """Read a JSON object as (part of) a key."""
    if text is None:
        return None
    try:
        key = json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not JSON") from error
    if not isinstance(key, dict):
        raise typer.BadParameter(f"{text!r} is not a JSON object")
    return key


def recipe_of(text: str | None) -> str | dict[str, Any] | None:
    """Read a recipe's file, such as the report writes; a hash or a name is returned as it is."""
    if text is None or not (text.endswith(".json") or "/" in text or os.sep in text):
        return text
    from pipeline.errors import DataError
    from pipeline.jsonfile import read_json

    path, wanted = Path(text).expanduser(), "a JSON object, such as the report writes"
    if not path.exists():
        raise DataError("file is missing", file=path, field="--recipe", expected=wanted)
    found = read_json(path, field="--recipe", expected=wanted)
    if not isinstance(found, dict):
        raise DataError(
            "is no recipe", file=path, field="--recipe", found=type(found).__name__, expected=wanted
        )
    return found


def slashed(key: Any) -> str:
    """Write the key of a scan as `1/1/1`."""
    names = ("animal_id", "session", "scan_idx")
    if isinstance(key, dict) and all(name in key for name in names):
        return "/".join(str(key[name]) for name in names)
    return str(key)


def plain(value: Any) -> Any:
    """Return a value as JSON types."""
    return json.loads(
        json.dumps(value, default=lambda v: v.item() if hasattr(v, "item") else str(v))
    )


def say(value: Any, as_json: bool, text: str) -> None:
    """Print a result as JSON or as a sentence."""
    print(json.dumps(value) if as_json else text)
