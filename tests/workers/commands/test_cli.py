"""The command line's promises: help for every verb, exit codes, JSON."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from workers.database import embedded

ROOT = Path(__file__).parents[3]
VERBS = ("demo", "doctor", "ingest", "ingest-dataset", "loop", "worker", "status", "errors")
VERBS += ("retry", "ignore", "cancel", "package", "report", "export", "db", "declare", "forecast")
VERBS += ("explain", "gc", "backup", "restore", "import", "migrate", "recompute", "metrics")
VERBS += ("verify", "relocate", "check")


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


def test_the_version_is_stated_once():
    import pipeline

    shown = run("--version")
    assert shown.returncode == 0
    assert shown.stdout.startswith(f"inception-loop {pipeline.__version__}, code ")
    told = subprocess.run(
        [sys.executable, "setup.py", "--version"], cwd=ROOT, capture_output=True, text=True
    )
    assert told.stdout.split() == [pipeline.__version__]
    assert f"\nversion: {pipeline.__version__}\n" in (ROOT / "CITATION.cff").read_text()


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
        ["ingest", __file__],
        ["ingest", os.path.dirname(__file__), "--entries", "said.json"],
        ["export", "1/1/x", "scan.nwb"],
        ["export", "closed_loop.Outcome", "a.csv", "--movie", "none"],
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


READING = (
    ["status"],
    ["errors"],
    ["forecast"],
    ["explain", "mei.MEI", "{}"],
    ["metrics", "--port", "0"],
    ["report", "OUT"],
    ["export", "mei.MEI", "OUT/mei.csv"],
    ["package", "1/1/1", "OUT"],
    ["loop", "1/1/1"],
    ["gc"],
    ["backup", "OUT"],
    ["migrate", "--dry-run"],
    ["recompute"],
    ["retry"],
    ["ignore", "mei.MEI"],
    ["cancel", "mei.MEI"],
    ["db", "status"],
)


@pytest.mark.parametrize("arguments", READING, ids=lambda arguments: arguments[0])
def test_a_verb_that_reads_makes_no_home_and_says_so_in_one_line(tmp_path, monkeypatch, arguments):
    home = tmp_path / "none"
    given = [word.replace("OUT", str(tmp_path / "out")) for word in arguments]
    monkeypatch.delenv("DJ_HOST", raising=False)
    done = run(*given, home=home)
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert f"{home}: no pipeline is there" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_doctor_without_a_home_checks_the_machine_and_makes_none(tmp_path, monkeypatch):
    monkeypatch.delenv("DJ_HOST", raising=False)
    done = run("doctor", "--json", home=tmp_path / "none")
    assert done.returncode == 1
    checks = {check["check"]: check for check in json.loads(done.stdout)}
    assert not checks["database"]["ok"]
    assert "no pipeline is there" in checks["database"]["found"]
    assert checks["versions"]["ok"]
    assert list(tmp_path.iterdir()) == []


def every_command(command, path=()):
    """Yield path and command of every verb, those of groups too."""
    inner = getattr(command, "commands", None)
    if inner is None:
        yield path, command
        return
    for name, one in inner.items():
        yield from every_command(one, (*path, name))


def test_help_leaves_nothing_out_of_docstrings_and_options():
    import typer.main
    from typer.testing import CliRunner

    from workers.cli import app

    for path, command in every_command(typer.main.get_command(app)):
        shown = CliRunner().invoke(app, [*path, "--help"], env={"COLUMNS": "400"}).output
        shown = " ".join(shown.split())
        texts = [
            command.help,
            *(
                parameter.help
                for parameter in command.params
                if not getattr(parameter, "hidden", False)
            ),
        ]
        for text in filter(None, texts):
            assert " ".join(text.split()) in shown, (path, text)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "file is missing"),
        ("{", "cannot be read"),
        ("[1]", "is no recipe"),
        (b"\xff\xfe{", "cannot be read"),
        ("folder", "cannot be read"),
    ],
)
def test_a_recipe_that_cannot_be_read_is_one_line(tmp_path, content, said):
    path = tmp_path / "recipe.json"
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    done = run("loop", "1/1/1", "--recipe", path, home=tmp_path / "none")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert str(path) in done.stderr
    assert said in done.stderr


def test_a_recipe_is_a_file_where_it_looks_like_one(tmp_path, monkeypatch):
    from workers.commands.common import recipe_of

    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()
    (tmp_path / "mine.json").write_text('{"mei": {"starts": 2}}')
    assert recipe_of("demo") == "demo"
    assert recipe_of(None) is None
    assert recipe_of("mine.json") == {"mei": {"starts": 2}}
    assert recipe_of(f"{tmp_path}/mine.json") == {"mei": {"starts": 2}}
