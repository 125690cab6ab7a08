"""The arrows between the layers, and the rules that every table keeps."""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import datajoint as dj
import pytest

import schemas

ROOT = Path(__file__).parents[1]
STAGES = ("experiment", "stimulus", "imaging", "behavior", "dataset", "model", "mei", "closed_loop")
LEAVES = ("simulate", "plotting")
BASE = ("registry", "errors", "rng", "device", "parameters")
CORE_TYPES = re.compile(
    r"(int8|int16|int32|int64|float32|float64|bool|json|date|datetime(\(\d\))?|char\(\d+\)"
    r"|varchar\(\d+\)|<npy@main>|<object@main>)$"
)
KEY_TYPES = re.compile(r"(int16|int32|int64|char\(\d+\)|varchar\(\d+\))$")


def imported(path):
    """Yield the dotted names that a file imports."""
    package = ".".join(path.relative_to(ROOT).with_suffix("").parts[:-1])
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")
            base = ".".join(above[: len(above) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            yield from (f"{module}.{alias.name}" for alias in node.names)


def files(folder):
    return sorted((ROOT / folder).rglob("*.py"))


def name_of(path):
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", files("pipeline"), ids=name_of)
def test_pipeline_knows_no_database_and_only_earlier_stages(path):
    parts = path.relative_to(ROOT / "pipeline").parts
    stage = parts[0] if len(parts) > 1 else None
    for name in imported(path):
        top, *rest = name.split(".")
        assert top not in ("datajoint", "schemas", "workers"), name
        if top != "pipeline" or not rest or rest[0] in BASE or rest[0] == stage:
            continue
        if stage in LEAVES:
            assert rest[0] in STAGES, f"{name}: leaves do not import each other"
        elif stage is None:
            assert rest[0] in BASE, f"{name}: the base imports no stage"
        else:
            assert STAGES.index(rest[0]) < STAGES.index(stage), f"{stage} imports {name}"


@pytest.mark.parametrize("path", files("schemas"), ids=name_of)
def test_schemas_import_pipeline_and_schemas_along_the_foreign_keys(path):
    for name in imported(path):
        top, *rest = name.split(".")
        assert top != "workers", name
        assert name.split(".")[:2] not in ([["pipeline", leaf] for leaf in LEAVES]), name
        if top == "schemas" and rest and rest[0] in STAGES and path.stem in STAGES:
            assert STAGES.index(rest[0]) < STAGES.index(path.stem), f"{path.stem} imports {name}"


def test_stages_have_one_name_in_every_layer():
    assert schemas.MODULES == STAGES
    for stage in STAGES[1:]:  # experiment has no arithmetic
        assert (ROOT / "pipeline" / stage / "__init__.py").is_file()


def test_importing_connects_to_nothing():
    code = """
import os, socket
os.environ.update(DJ_HOST="203.0.113.1", DJ_USER="nobody", DJ_PASS="none")
def refuse(*args, **kwargs):
    raise AssertionError("importing opened a connection")
socket.socket.connect = socket.create_connection = refuse
import importlib, schemas
for name in schemas.MODULES + ("ingest", "registration"):
    importlib.import_module(f"schemas.{name}")
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def all_tables():
    """Yield (name, class) of every table and part."""
    for module_name in schemas.MODULES:
        module = importlib.import_module(f"schemas.{module_name}")
        for name, table in vars(module).items():
            if isinstance(table, type) and issubclass(table, dj.Table):
                if not f"{table.__module__}.".startswith(f"{module.__name__}."):
                    continue
                yield f"{module_name}.{name}", table
                for part_name, part in vars(table).items():
                    if isinstance(part, type) and issubclass(part, dj.Part):
                        yield f"{module_name}.{name}.{part_name}", part


TABLES = dict(all_tables())


def lines(table):
    """Return the lines of a definition as (in the key, line)."""
    found, key = [], True
    for line in (text.strip() for text in table.definition.strip().splitlines()):
        if line.startswith("---"):
            key = False
        elif line and not line.startswith("#"):
            found.append((key, line))
    return found


def test_all_tables_are_seen():
    assert len(TABLES) > 70
    assert {"imaging.Motion", "mei.MEI.Unit", "closed_loop.Population.Kind"} <= set(TABLES)


COMPUTED = [n for n, t in TABLES.items() if issubclass(t, (dj.Computed, dj.Imported))]


@pytest.mark.parametrize("name", COMPUTED)
def test_computed_keys_come_from_foreign_keys_only(name):
    own = [line for key, line in lines(TABLES[name]) if key and not line.startswith("->")]
    assert own == []


@pytest.mark.parametrize("name", TABLES)
def test_every_attribute_is_portable_and_explained(name):
    table = TABLES[name]
    assert table.definition.strip().startswith("#"), "the table has no comment"
    assert "%" not in table.definition, "a driver takes it for a placeholder"
    for key, line in lines(table):
        if line.startswith("->"):
            continue
        declaration, _, comment = line.partition("#")
        attribute, _, kind = (part.strip() for part in declaration.partition(":"))
        assert comment.strip(), f"{attribute} has no comment"
        assert (KEY_TYPES if key else CORE_TYPES).match(kind), f"{attribute}: {kind}"
        if kind.startswith("float"):
            assert re.search(r"\(.+\)", comment), f"{attribute} has no unit: {comment}"


@pytest.mark.parametrize("name", COMPUTED)
def test_slow_makes_have_three_parts(name):
    table = TABLES[name]
    parts = [hasattr(table, part) for part in ("make_fetch", "make_compute", "make_insert")]
    assert all(parts) or (not any(parts) and "make" in vars(table))
