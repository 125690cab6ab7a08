"""What the documents name exists: modules, functions, tables, verbs and options."""

import importlib
import re
from pathlib import Path

import pytest
import typer.main

ROOT = Path(__file__).parents[1]
DOCUMENTS = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"]
NAME = re.compile(r"(?<![\w./-])((?:pipeline|schemas|workers)(?:\.[A-Za-z_]\w*)+)")
CODE = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)
CALL = re.compile(r"(?<![-\w./])inception((?: +[^\s`|#;,)(·&]+)+)")
SHORT = re.compile(
    r"`((?:stimulus|imaging|behavior|dataset|model|mei|closed_loop)(?:\.[A-Za-z_]\w*)+)"
)


def resolves(name):
    """Tell whether a dotted name is a module, or an attribute of one."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[length:]:
            if not hasattr(found, attribute):
                return False
            found = getattr(found, attribute)
        return True
    return False


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_dotted_name_exists(path):
    text = path.read_text(encoding="utf-8")
    names = {name.removesuffix(".py") for name in NAME.findall(text)}
    assert sorted(name for name in names if not resolves(name)) == []
    short = {name for name in SHORT.findall(text) if not name.endswith(".py")}
    missing = [
        name
        for name in short
        if not resolves(f"pipeline.{name}") and not resolves(f"schemas.{name}")
    ]
    assert sorted(missing) == []


def test_a_name_that_does_not_exist_is_found():
    assert resolves("pipeline.model.evaluate.metrics")
    assert not resolves("pipeline.model.evaluate.no_such_metric")
    assert not resolves("pipeline.no_such_module.anything")


def options(command):
    return {
        name for parameter in command.params for name in parameter.opts + parameter.secondary_opts
    }


def unknown(words, command):
    """Return what a command line names that a verb does not have."""
    while getattr(command, "commands", None) is not None:
        words = words[2:] if words[:1] == ["--home"] else words
        if not words or not re.fullmatch(r"[a-z][a-z-]*", words[0]):
            return []  # a placeholder, or `inception --help`
        if words[0] not in command.commands:
            return [words[0]]
        command, words = command.commands[words[0]], words[1:]
    flags = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
    known = options(command) | {"-h", "--help"}
    return sorted(flags - known)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_verb_and_option_exists(path):
    from workers.cli import app

    command, wrong = typer.main.get_command(app), {}
    for code in CODE.findall(path.read_text(encoding="utf-8")):
        for call in CALL.findall(code):
            if found := unknown(call.split(), command):
                wrong[call.strip()] = found
    assert wrong == {}


def test_the_readmes_example_runs(monkeypatch, capsys):
    """With fewer images and one epoch: what it prints is not what is tested."""
    from pipeline import model

    code = re.search(r"```python\n(import numpy.*?)```", (ROOT / "README.md").read_text(), re.S)[1]
    whole = model.train_ensemble
    monkeypatch.setattr(model, "train_ensemble", lambda *a, **k: whole(*a, **k, max_epochs=1))
    exec(compile(code.replace("800", "120"), "README.md", "exec"), {})
    assert "most exciting input: [" in capsys.readouterr().out
