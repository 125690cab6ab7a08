"""The command line's promises: help for every verb, exit codes, JSON."""

import json
import os
import subprocess
import sys

import pytest

from workers import embedded

VERBS = ("demo", "doctor", "ingest", "ingest-dataset", "loop", "worker", "status", "errors")
VERBS += ("retry", "ignore", "cancel", "package", "report", "export", "db", "declare", "forecast")
VERBS += ("explain", "gc", "backup", "restore", "migrate", "recompute", "metrics")


def run(*arguments, home=None):
    environment = {**os.environ, "COLUMNS": "200"}
    if home is not None:
        environment["INCEPTION_HOME"] = str(home)
    command = [sys.executable, "-m", "workers.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def test_help_lists_every_verb_without_importing_anything_heavy():
    code = (
        "import sys; from workers import cli;"
        "heavy = {'torch', 'datajoint', 'numpy', 'pandas'} & set(sys.modules);"
        "assert not heavy, heavy; cli.app()"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert [verb for verb in VERBS if verb not in shown] == []


def test_every_verb_has_help():
    from typer.testing import CliRunner

    from workers.cli import app

    for verb in VERBS:
        shown = CliRunner().invoke(app, [verb, "--help"])
        assert shown.exit_code == 0, verb
        assert "Usage" in shown.output


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-verb"],
        ["loop", "1/1"],
        ["loop", "1/1/x"],
        ["ingest", "/no/such/folder"],
        ["worker", "--queue", "tpu"],
        ["ignore"],
        ["cancel"],
        ["gc", "--age-hours", "-1"],
        ["restore", "/no/such/folder"],
        ["recompute", "--check", "0"],
        ["worker", "--log-format", "xml"],
        ["retry", "--key", "[1]"],
    ],
)
def test_wrong_use_exits_with_two(arguments):
    from typer.testing import CliRunner

    from workers.cli import app

    assert CliRunner().invoke(app, arguments).exit_code == 2


def test_a_known_error_is_one_line_and_exit_one(tmp_path):
    done = run("db", "url", home=tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert "inception db start" in done.stderr


def test_database_verbs_and_home_before_or_after_the_verb(tmp_path):
    try:
        started = json.loads(run("--home", tmp_path, "db", "start", "--json").stdout)
        assert started["running"]
        found = json.loads(run("db", "status", "--home", tmp_path, "--json").stdout)
        assert found == started
        assert run("db", "url", home=tmp_path).stdout.startswith("postgresql://inception:")
        assert json.loads(run("db", "stop", "--json", home=tmp_path).stdout) == {"stopped": True}
        assert not json.loads(run("db", "status", "--json", home=tmp_path).stdout)["running"]
    finally:
        embedded.remove(tmp_path)
