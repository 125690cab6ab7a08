"""What only asks tables imports no compiled code, and asks the server few questions."""

import json
import subprocess
import sys
from pathlib import Path

import datajoint as dj
import pytest
from datajoint.heading import Heading

import schemas
from schemas.catalog import read_at_once

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "numba", "scipy", "skimage", "matplotlib", "cv2", "h5py", "tifffile", "zarr")

IMPORTED = "import importlib, json, sys\n"
SCHEMAS = """
import schemas
for name in schemas.MODULES + ("decisions.recipe",):
    importlib.import_module(f"schemas.{name}")
"""
VERBS = """
from typer.testing import CliRunner
from workers.cli import app
done = {}
for words in (["status"], ["status", "--json"], ["errors"], ["errors", "--json"], ["forecast"]):
    done[" ".join(words)] = CliRunner().invoke(app, [*words, *sys.argv[1:]])
codes = {words: [result.exit_code, result.output] for words, result in done.items()}
"""
SAID = "print(json.dumps([codes, sorted({m.split('.')[0] for m in sys.modules})]))"


def loaded(code, *arguments):
    """Run code in a fresh process; return its `codes` and the packages that it imported."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", IMPORTED + code + SAID, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    codes, packages = json.loads(done.stdout.splitlines()[-1])
    return codes, set(packages)


def place():
    """Home and prefix of the tables that this process has bound."""
    return Path(dj.config.stores["main"]["location"]).parent, schemas.active_prefix()


def test_importing_tables_imports_no_compiled_code():
    _, packages = loaded("codes = {}\n" + SCHEMAS)
    assert "datajoint" in packages
    assert packages & set(HEAVY) == set()


@pytest.mark.tables
def test_verbs_that_ask_tables_import_no_compiled_code(database, ledger):
    home, prefix = place()
    codes, packages = loaded(VERBS, "--home", home, "--prefix", prefix)
    assert {words: code for words, (code, _) in codes.items()} == dict.fromkeys(codes, 0), codes
    assert packages & {*HEAVY, "pandas"} == set()


FRAMES = """
from schemas.datajoint_internals import import_without_pandas
import_without_pandas()
import datajoint as dj
before = "pandas" in sys.modules
from workers.database import embedded
embedded.connect(sys.argv[1])
import schemas
schemas.activate(sys.argv[2])
from schemas import experiment
frame = experiment.Mouse.to_pandas()
import pandas
experiment.Mouse.insert(frame.reset_index(), skip_duplicates=True)
restricted = experiment.Mouse & frame.reset_index()[["animal_id"]]
codes = [before, isinstance(frame, pandas.DataFrame), len(frame), len(restricted)]
"""


@pytest.mark.tables
def test_frames_are_those_of_pandas_though_it_is_imported_late(database):
    home, prefix = place()
    database.experiment.Mouse.insert1({"animal_id": 771_001}, skip_duplicates=True)
    (before, is_frame, rows, restricted), _ = loaded(FRAMES, home, prefix)
    assert (before, is_frame) == (False, True)
    assert rows == restricted == len(database.experiment.Mouse()) > 0


def every_table():
    for table in schemas.tables():
        yield table
        yield from (
            part for part in vars(table).values() if dj.Part in getattr(part, "__mro__", ())
        )


def heading_of(table):
    """Read the heading of a table anew; return what DataJoint makes of it."""
    info = {name: table._heading.table_info[name] for name in ("conn", "database", "table_name")}
    heading = Heading(table_info={**info, "context": table.declaration_context})
    columns = {name: attribute.todict() for name, attribute in heading.attributes.items()}
    return columns, heading.indexes, heading.table_status["comment"]


@pytest.mark.tables
def test_what_is_read_at_once_is_what_the_server_says_of_every_table(database):
    prefix, connection = schemas.active_prefix(), database.experiment.schema.connection
    databases = [f"{prefix}_{name}" for name in schemas.MODULES]
    several = list(every_table())
    asked = [heading_of(table) for table in several[::3]]
    count = Counted(connection)
    with count, read_at_once(connection, databases):
        known = [heading_of(table) for table in several]
        assert all(table().is_declared for table in several)
    assert known[::3] == asked
    assert count.queries < 30 < len(several)


class Counted:
    """Counts what reaches the server."""

    def __init__(self, connection):
        self.connection, self.queries = connection, 0

    def __enter__(self):
        self.original = type(self.connection)._execute_query

        def counted(connection, *arguments):
            self.queries += 1
            return self.original(connection, *arguments)

        type(self.connection)._execute_query = counted

    def __exit__(self, *_):
        type(self.connection)._execute_query = self.original


@pytest.mark.tables
def test_after_a_change_the_server_is_asked_again(database):
    prefix, connection = schemas.active_prefix(), dj.conn()
    schema = dj.Schema(f"{prefix}_light", connection=connection)

    class Kept(dj.Manual):
        definition = "kept_id : int32  # number"

    class Made(dj.Manual):
        definition = "made_id : int32  # number"

    schema(Kept, context={})
    try:
        with read_at_once(connection, [f"{prefix}_light"]):
            assert Kept().is_declared
            schema(Made, context={})
            assert Made().is_declared
            assert list(heading_of(Made)[0]) == ["made_id"]
            Kept.drop_quick()
            assert not Kept().is_declared
        assert Made().is_declared
    finally:
        schema.drop(prompt=False)
