"""Verbs of the embedded database."""

from __future__ import annotations

import typer

from workers.commands.common import Home, Json, say

app = typer.Typer(help="The embedded database of a home folder.", no_args_is_help=True)


@app.command("start")
def db_start(home: Home = None, as_json: Json = False) -> None:
    """Start the embedded database."""
    from workers.database import embedded

    embedded.start(home)
    found = embedded.status(home)
    say(found, as_json, f"running on port {found['port']}, data in {found['data']}")


@app.command("stop")
def db_stop(home: Home = None, as_json: Json = False) -> None:
    """Stop the embedded database."""
    from workers.database import embedded

    ran = embedded.stop(home)
    say({"stopped": ran}, as_json, "stopped" if ran else "was not running")


@app.command("status")
def db_status(home: Home = None, as_json: Json = False) -> None:
    """Say whether the embedded database runs, and where its data are."""
    from workers.database import embedded

    embedded.expect_home(home)
    found = embedded.status(home)
    state = f"running on port {found['port']}" if found["running"] else "not running"
    say(found, as_json, f"{found['home']}: {state}, data in {found['data']}")


@app.command("url")
def db_url(home: Home = None) -> None:
    """Print the URL of the embedded database, password included."""
    from workers.database import embedded

    print(embedded.url(home))
