"""The command line: `inception VERB`. Exit codes: 0 success, 2 usage, 1 anything else.

Heavy imports stand inside the verbs, so that `--help` answers at once.
"""

from __future__ import annotations

import gc
import os
import sys
from typing import Annotated

import typer

from pipeline import __version__
from workers.commands import (
    choices,
    computing,
    database,
    ingest,
    inspect,
    jobs,
    maintenance,
    results,
    steering,
    web,
)
from workers.commands.common import Home
from workers.compute import limits
from workers.version import code_version

app = typer.Typer(
    help="Inception loops: from two-photon scans to most exciting inputs and back.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # what stands in brackets would be taken for markup and left out
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _group in (ingest, choices, steering, computing, inspect, jobs, results, maintenance, web):
    app.add_typer(_group.app)
app.add_typer(choices.recipes, name="recipe")
app.add_typer(database.app, name="db")


def _tell_version(asked: bool) -> None:
    if asked:
        print(f"inception-loop {__version__}, code {code_version()}")
        raise typer.Exit


@app.callback()
def _main(
    home: Home = None,
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_tell_version, help="Print release and code."
        ),
    ] = False,
) -> None:
    """Inception loops: from two-photon scans to most exciting inputs and back."""


def main() -> None:
    """Run the command line; a known error is one line, not a traceback."""
    for name, value in limits.ONE_ORDER.items():  # read when numpy is imported
        os.environ.setdefault(name, value)
    from pipeline.errors import DataError

    gc.set_threshold(10_000)  # a tenth of the collections while modules are imported
    try:
        app()
    except SystemExit as end:
        if sys.argv[1:2] == ["worker"] and isinstance(end.code, int):
            _leave(end.code)
        raise
    except KeyboardInterrupt:
        print("inception: stopped; the same command continues", file=sys.stderr)
        sys.exit(130)  # as shells and typer call it
    except (DataError, ValueError, LookupError, OSError, RuntimeError) as error:
        if os.environ.get("INCEPTION_TRACEBACK"):
            raise
        print(f"inception: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(1)
    except Exception as error:
        if not type(error).__module__.startswith(("datajoint", "pymysql", "psycopg2")):
            raise
        print(f"inception: database: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(1)
    finally:
        gc.freeze()  # else Python looks for garbage among all modules before it ends: 0.25 s


def _leave(code: int) -> None:
    """End at once, without taking apart what was imported.

    On a machine under load that took seconds, of those that a container is given to stop in.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
