"""The arrows between the layers, and the rules that every table keeps."""

import ast
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import datajoint as dj
import pytest

import schemas
from pipeline.stages import STAGES

ROOT = Path(__file__).parents[1]
BASE = (
    "csvfile",
    "device",
    "errors",
    "files",
    "jsonfile",
    "npy",
    "parameters",
    "plugins",
    "registry",
    "rng",
    "stages",
)
LEAVES = ("simulate", "plotting")
OUTER = ("recording", *LEAVES)  # of pipeline: they read stages, and no stage reads them
# of schemas: stages import them, they no stage
TOOLS = (
    "catalog",
    "clock",
    "datajoint_internals",
    "method",
    "pictures",
    "recipe",
    "store",
    "stored",
    "whole",
)
DECISIONS = ("task_rows", "tasks", "other_day", "ingest")  # of schemas/decisions, in order
OUTWARD = ("nwb", "reading")  # of schemas: what leaves the tables; none of the above imports them
CORE_TYPES = re.compile(
    r"(int8|int16|int32|int64|float32|float64|bool|json|date|datetime(\(\d\))?|char\(\d+\)"
    r"|varchar\(\d+\)|<npy@main>|<object@main>)$"
)
KEY_TYPES = re.compile(r"(int16|int32|int64|char\(\d+\)|varchar\(\d+\))$")


def imported(path, root=ROOT):
    """Yield the dotted name of all that a file imports, also in functions and for types."""
    package = path.relative_to(root).parts[:-1]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = [*above, *([node.module] if node.module else [])]
            names = [".".join([*base, alias.name]) for alias in node.names]
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            function = getattr(node.func, "attr", getattr(node.func, "id", None))
            texts = [str(a.value) for a in node.args if isinstance(a, ast.Constant)]
            if function in ("import_module", "__import__", "find_spec"):
                names = texts[:1]
            elif function == "Methods":  # module and name of a registry, see schemas.method
                names = [".".join(texts[:2])]
        yield from names


def pipeline_fault(name, stage, own):
    """Say what is wrong with an import in a file of a stage of pipeline (None: of the base)."""
    top, *rest = name.split(".")
    if top in ("datajoint", "schemas", "workers", "tests", "benchmarks"):
        return "pipeline knows no database, and nothing above it"
    if top != "pipeline" or (rest and rest[0] == stage):
        return None
    if not rest or rest[0] not in (*BASE, *STAGES, *OUTER):
        return "name the module of the stage or the base"
    if rest[0] in BASE:
        return None
    if stage is None:
        return "the base imports no stage"
    if stage in OUTER:
        return None if rest[0] in STAGES else "leaves do not import each other"
    if stage not in STAGES:
        return f"{stage} is no stage: give it a place in pipeline/stages.py"
    if rest[0] in OUTER or STAGES.index(rest[0]) > STAGES.index(stage):
        return f"{stage} is before {rest[0]}"
    return None


def schemas_fault(name, stage, own):
    """Say what is wrong with an import in a file of schemas: of a stage, a tool, a decision."""
    top, *rest = name.split(".")
    if top in ("workers", "tests", "benchmarks"):
        return "schemas know nothing above them"
    if top == "pipeline" and (not rest or rest[0] in LEAVES):
        return "tables neither simulate nor plot"
    if top != "schemas" or own == "__init__":
        return None
    rest = rest[1:] if rest[:1] == ["decisions"] else rest
    if not rest or rest[0] not in (*STAGES, *TOOLS, *DECISIONS, *OUTWARD):
        return "name the module of the stage, the tool or the decision"
    place = [*TOOLS, *STAGES, *DECISIONS, *OUTWARD]
    if stage not in place:
        return f"{stage} is no stage, tool or decision: give it a place"
    if stage in TOOLS and rest[0] in TOOLS:
        return None
    if place.index(rest[0]) > place.index(stage):
        return f"{stage} is before {rest[0]}"
    return None


def workers_fault(name, stage, own):
    """Say what is wrong with an import in a file of workers: the command line is its top."""
    top, *rest = name.split(".")
    if top in ("tests", "benchmarks"):
        return "the program does not need its tests"
    if top == "workers" and rest[:1] == ["cli"]:
        return "the command line is imported by nobody"
    if top == "workers" and rest[:1] == ["commands"] and stage not in ("commands", "cli"):
        return "commands are imported by the command line only"
    return None


RULES = {"pipeline": pipeline_fault, "schemas": schemas_fault, "workers": workers_fault}


def faults(path, root=ROOT):
    """Return a line for every import of a file that leads back."""
    layer, *rest = path.relative_to(root).with_suffix("").parts
    rest = rest[1:] if rest[0] == "decisions" and rest[1:] != ["__init__"] else rest
    stage = rest[0] if layer != "pipeline" or len(rest) > 1 else None
    found = []
    for name in imported(path, root):
        why = RULES[layer](name, stage, rest[-1] if len(rest) == 1 else None)
        if why:
            found.append(f"{name_of(path, root)} imports {name}: {why}")
    return found


def files(folder, root=ROOT):
    return sorted((root / folder).rglob("*.py"))


def name_of(path, root=ROOT):
    return path.relative_to(root).as_posix()


@pytest.mark.parametrize("layer", RULES)
def test_no_import_leads_back(layer):
    assert [fault for path in files(layer) for fault in faults(path)] == []


def import_graph(layers=tuple(RULES), root=ROOT):
    """Return every module with the modules that it imports, also in functions and for types."""
    modules = {}
    for layer in layers:
        for path in files(layer, root):
            parts = path.relative_to(root).with_suffix("").parts
            modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    graph = {}
    for module, path in modules.items():
        graph[module] = set()
        for name in imported(path, root):
            parts = name.split(".")
            heads = (".".join(parts[:n]) for n in range(len(parts), 0, -1))
            found = next((head for head in heads if head in modules), module)
            graph[module] |= {found} - {module}
    return graph


def circles(graph):
    """Return the groups of modules that import each other, directly or not."""
    import networkx

    links = networkx.DiGraph([(a, b) for a, several in graph.items() for b in several])
    return [
        sorted(group) for group in networkx.strongly_connected_components(links) if len(group) > 1
    ]


def test_no_modules_import_each_other():
    assert circles(import_graph()) == []


def test_a_planted_circle_is_found(tmp_path):
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline" / "a.py").write_text("from pipeline import b\n")
    (tmp_path / "pipeline" / "b.py").write_text("def late():\n    from pipeline.a import x\n")
    assert circles(import_graph(("pipeline",), tmp_path)) == [["pipeline.a", "pipeline.b"]]


def test_every_file_of_schemas_has_a_place():
    own = {path.relative_to(ROOT / "schemas").with_suffix("").parts for path in files("schemas")}
    places = {parts[1] if parts[0] == "decisions" else parts[0] for parts in own}
    assert places == {"__init__", *STAGES, *TOOLS, *DECISIONS, *OUTWARD}


BACK = {
    "absolute": ("schemas/imaging/activity.py", "from schemas import mei"),
    "module": ("schemas/imaging/activity.py", "from schemas.closed_loop.planning import Plan"),
    "plain": ("schemas/dataset/sets.py", "import schemas.model.training as training"),
    "relative": ("schemas/dataset/sets.py", "from ..model import training"),
    "relative package": ("schemas/dataset/__init__.py", "from .. import mei"),
    "in a function": ("schemas/behavior.py", "def late():\n    from schemas import dataset"),
    "for types": (
        "schemas/model/tasks.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from schemas import mei",
    ),
    "by name": (
        "schemas/model/tasks.py",
        "import importlib\nimportlib.import_module('schemas.mei')",
    ),
    "a registry": (
        "schemas/model/tasks.py",
        "registry = Methods('schemas.mei', 'x')",
    ),
    "a registry to draw by": ("schemas/mei/x.py", "registry = Methods('pipeline.plotting', 'x')"),
    "whole package": ("schemas/model/tasks.py", "import schemas"),
    "a decision": (
        "schemas/closed_loop/verdict.py",
        "from schemas.decisions.tasks import register",
    ),
    "a decision, late": (
        "schemas/closed_loop/__init__.py",
        "from schemas.decisions import tasks",
    ),
    "decisions backwards": (
        "schemas/decisions/tasks.py",
        "from schemas.decisions.ingest import ingest_bundle",
    ),
    "a tool": ("schemas/store.py", "from schemas import imaging"),
    "a file without place": ("schemas/extra.py", "from schemas import imaging"),
    "figures in tables": ("schemas/mei/gallery.py", "from pipeline.plotting import save"),
    "the workers": ("schemas/model/tasks.py", "def late():\n    import workers.queue.order"),
    "database in pipeline": ("pipeline/mei/ascent.py", "def late():\n    import datajoint"),
    "tables in pipeline": ("pipeline/mei/ascent.py", "from schemas.store import number"),
    "later stage": ("pipeline/dataset/data.py", "from pipeline.model import train"),
    "later stage, relative": ("pipeline/dataset/data.py", "from ..model.encoder import Encoder"),
    "stage in base": ("pipeline/rng.py", "from .mei import synthesize"),
    "leaf": ("pipeline/mei/ascent.py", "def late():\n    from pipeline import plotting"),
    "leaf in leaf": ("pipeline/plotting/mei.py", "from pipeline.simulate import score"),
    "folder without place": ("pipeline/extra/new.py", "from pipeline.mei import ascent"),
    "command line": ("workers/compute/worker.py", "def late():\n    from workers.cli import app"),
    "commands": ("workers/compute/worker.py", "from workers.commands import jobs"),
    "tests": ("workers/compute/worker.py", "import tests.workers.toy_tables"),
}


@pytest.mark.parametrize(("file", "code"), BACK.values(), ids=BACK)
def test_a_planted_import_is_found(tmp_path, file, code):
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(code + "\n")
    assert len(faults(path, tmp_path)) == 1


FORTH = {
    "schemas/mei/masks.py": "from schemas import model\nfrom . import x\nfrom ..store import y",
    "schemas/decisions/ingest.py": "from schemas.decisions.tasks import register_loop",
    "pipeline/mei/parts/x.py": "from ...registry import Registry\nfrom ..view import View",
    "pipeline/plotting/mei.py": "from pipeline.mei import ascent",
    "workers/commands/x.py": "from pipeline import simulate\nfrom .common import Home",
}


@pytest.mark.parametrize(("file", "code"), FORTH.items(), ids=FORTH)
def test_imports_of_what_came_before_are_right(tmp_path, file, code):
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(code + "\n")
    assert faults(path, tmp_path) == []


def test_the_stages_are_listed_once():
    lists = []
    for folder in ("pipeline", "schemas", "workers", "tests", "benchmarks", "deploy"):
        for path in files(folder):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, (ast.Tuple, ast.List, ast.Set)):
                    texts = [n.value for n in node.elts if isinstance(n, ast.Constant)]
                    if len(set(STAGES) & {t for t in texts if isinstance(t, str)}) > 3:
                        lists.append(name_of(path))
    assert lists == ["pipeline/stages.py"]


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
for name in schemas.MODULES + ("decisions.ingest", "decisions.tasks"):
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


@pytest.mark.parametrize("name", [n for n in COMPUTED if hasattr(TABLES[n], "make_compute")])
def test_what_a_make_computes_from_is_a_record_or_few_arguments(name):
    arguments = list(inspect.signature(TABLES[name].make_compute).parameters)
    assert arguments[:2] == ["self", "key"]
    assert len(arguments) <= 6, "let make_fetch return one NamedTuple"
