"""Examples in docstrings: every exported function has one, and each gives what it says."""

import doctest
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

import pipeline

ROOT = Path(pipeline.__file__).parent
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
WITHOUT = {"plotting"}  # figures are looked at


def with_examples():
    """Return the names of all modules in which a docstring shows an example."""
    found = []
    for file in sorted(ROOT.rglob("*.py")):
        if re.search(r"^\s*>>> ", file.read_text(encoding="utf-8"), re.MULTILINE):
            parts = file.relative_to(ROOT.parent).with_suffix("").parts
            found.append(".".join(part for part in parts if part != "__init__"))
    return found


@pytest.mark.parametrize("name", with_examples())
def test_examples_give_what_they_say(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    outcome = doctest.testmod(module, optionflags=FLAGS)
    assert outcome.attempted
    assert not outcome.failed
    assert not list(tmp_path.iterdir())


def exported():
    """Yield the functions that the stages of pipeline export, by package and name."""
    for found in pkgutil.iter_modules(pipeline.__path__):
        if not found.ispkg or found.name in WITHOUT:
            continue
        package = importlib.import_module(f"pipeline.{found.name}")
        for name in getattr(package, "__all__", ()):
            thing = getattr(package, name)
            if inspect.isfunction(thing):
                yield f"{found.name}.{name}", thing


@pytest.mark.parametrize(("name", "function"), exported())
def test_every_exported_function_has_an_example(name, function):
    assert re.search(r"^\s*Examples\n\s*-{8}\n\s*>>> ", function.__doc__, re.MULTILINE)
