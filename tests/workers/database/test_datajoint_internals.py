"""What this code needs of DataJoint beyond its documented names is there, and used in one place."""

import ast
import inspect
import re
from pathlib import Path

import datajoint as dj
import pytest
from datajoint import autopopulate, connection, declare, dependencies, provenance, settings
from datajoint.builtin_codecs import npy
from datajoint.builtin_codecs import object as object_codec

from schemas import datajoint_internals as of_tables
from workers.database import datajoint_internals as internals
from workers.database import server

ROOT = Path(__file__).parents[3]
ADAPTERS = ("schemas/datajoint_internals.py", "workers/database/datajoint_internals.py")
# attributes that DataJoint documents nowhere, or as internal; private names are found by their form
INTERNAL = {
    "adapter",
    "attr_map",
    "codec",
    "conn_info",
    "declaration_context",
    "dependencies",
    "extract_master",
    "find_config_file",
    "get_store_backend",
    "get_store_spec",
    "hash_objects",
    "hash_registry",
    "ignore_config_file",
    "prepare_declare",
    "referenced_paths",
    "schema_objects",
    "topo_sort",
}
DOCUMENTED = {*dj.__all__, "errors", "config"}


def uses(path):
    """Yield the lines that use a name of DataJoint that is not documented."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        found = None
        if isinstance(node, ast.Attribute):
            owner = node.value.id if isinstance(node.value, ast.Name) else None
            private = re.match(r"_[a-z]", node.attr) and owner not in ("self", "cls", "os")
            private = private and node.attr != "_repr_html_"  # IPython's, for every object
            outside = owner in ("dj", "datajoint") and node.attr not in DOCUMENTED
            if private or outside or node.attr in INTERNAL:
                found = node.attr
        elif isinstance(node, ast.Constant) and node.value in INTERNAL:
            found = node.value
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("datajoint"):
            names = {alias.name for alias in node.names} - DOCUMENTED
            found = f"{node.module}.{min(names)}" if names or "." in node.module else None
        elif isinstance(node, ast.Import):
            found = next((a.name for a in node.names if a.name.startswith("datajoint.")), None)
        if found is not None:
            yield f"line {node.lineno}: {found}"


def test_no_other_file_uses_what_datajoint_does_not_document():
    found = [
        f"{name}, {use}"
        for layer in ("schemas", "workers")
        for path in sorted((ROOT / layer).rglob("*.py"))
        if (name := path.relative_to(ROOT).as_posix()) not in ADAPTERS
        for use in uses(path)
    ]
    assert found == []


@pytest.mark.parametrize(
    "code",
    [
        "link = connection._conn",
        "table._jobs_to_do(())",
        "kind = connection.adapter.backend",
        "dj.settings.find_config_file()",
        "import datajoint.hash_registry",
        "from datajoint.declare import declare",
        "from datajoint import declare",
        "columns = edge['attr_map']",
    ],
)
def test_a_planted_use_is_found(tmp_path, code):
    (tmp_path / "planted.py").write_text(code + "\n")
    assert list(uses(tmp_path / "planted.py"))


# ---- that they are there: one line for every name


@pytest.mark.parametrize(
    ("owner", "names"),
    [
        (connection.Connection, "query connect close start_transaction in_transaction"),
        (autopopulate.AutoPopulate, "_jobs_to_do _allow_insert _upstream _upstream_key"),
        (provenance, "set_ingesting reset_ingesting"),
        (declare, "prepare_declare"),
        (dependencies, "extract_master"),
        (dependencies.Dependencies, "load topo_sort parents children"),
        (settings, "find_config_file"),
        (dj.settings.Config, "get_store_spec"),
        (dj.Table, "_connection declaration_context insert"),
        (dj.heading.Heading, "names hash_objects schema_objects"),
        (dj.Codec, "referenced_paths"),
        (dj.hash_registry, "get_store_backend"),
        (dj.storage.StorageBackend, "_full_path fs put_file put_buffer get_buffer open"),
        (dj.storage.StorageBackend, "exists isdir size remove"),
        (dj.user_tables.TableMeta, "__getattribute__"),
        (npy.NpyCodec, "encode _extract_context"),
        (npy.NpyRef, "load path _meta _backend _cached"),
        (object_codec.ObjectCodec, "encode decode _extract_context"),
        (dj.ObjectRef, "read download from_json"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_name_is_there(owner, names):
    absent = object()
    missing = [n for n in names.split() if inspect.getattr_static(owner, n, absent) is absent]
    assert missing == []


# ---- that they do what they are used for

pytestmark = pytest.mark.tables


def test_a_connection_says_where_it_leads_and_lends_its_driver(bench):
    own = server.new_connection()
    there = internals.address(own)
    assert there.port == dj.config.database.port
    assert (there.host, there.user) == (dj.config.database.host, dj.config.database.user)
    with internals.driver(own).cursor() as cursor:
        cursor.execute("SELECT 1")
        assert cursor.fetchone()[0] == 1
    assert internals.backend(own) == of_tables.backend(own)
    assert internals.backend(own) in ("postgresql", "mysql")
    quoted = internals.quoter(own)("a b")
    assert quoted[1:-1] == "a b"
    own.start_transaction()
    assert own.in_transaction
    internals.forget_transaction(own)
    assert not own.in_transaction
    internals.move_to_port(own, 1)
    with pytest.raises(Exception) as refused:  # noqa: PT011 - of either driver
        own.connect()
    assert server.is_connection_error(refused.value)
    internals.move_to_port(own, there.port)
    own.connect()
    assert own.query("SELECT 1").fetchone()[0] == 1
    own.close()


def test_a_link_lost_in_a_transaction_is_told_by_its_message():
    text = inspect.getsource(connection.Connection.query)
    assert "during a transaction" in text
    assert internals.lost_in_transaction(dj.DataJointError("Connection lost during a transaction"))
    assert not internals.lost_in_transaction(dj.DataJointError("else"))


def test_foreign_keys_are_followed_both_ways(bench):
    toy = bench.toy
    links = internals.ForeignKeys(bench.connection, fresh=True)
    value, piece = toy.Value.full_table_name, toy.Value.Piece.full_table_name
    order = links.in_order()
    assert order.index(toy.Seed.full_table_name) < order.index(value) < order.index(piece)
    assert order.index(piece) < order.index(toy.Twice.full_table_name)
    assert links.parents(value) == [(toy.Seed.full_table_name, {"number": "number"})]
    assert (piece, {"number": "number"}) in links.children(value)
    assert internals.master_of(piece) == value
    assert internals.master_of(value) is None


def test_due_keys_are_those_of_populate(bench):
    bench.seeds(3)
    bench.toy.Noop.populate({"number": 1})
    assert internals.due(bench.toy.Noop()).keys() == [{"number": 0}, {"number": 2}]


def test_inside_populate_a_make_may_insert_and_outside_it_may_not(bench):
    bench.seeds(1)
    noop = bench.toy.Noop()
    with internals.inside_populate(noop, {"number": 0}):
        noop.insert1({"number": 0})
    assert len(bench.toy.Noop()) == 1
    with pytest.raises(dj.DataJointError):
        bench.toy.Noop().insert1({"number": 0})


def test_every_way_to_insert_is_caught(bench):
    bench.seeds(1)
    with internals.caught_inserts() as caught:
        bench.toy.Seed.insert1((7, 0.0, "good"))
        bench.toy.Seed.insert([{"number": 8, "pause_s": 0.0, "mood": "good"}])
        bench.toy.Value.Piece().insert1({"number": 0, "piece": 0, "value": "x"})
    assert [rows[0]["number"] for _, rows in caught] == [7, 8, 0]
    assert len(bench.toy.Seed()) == 1


def test_a_definition_is_told_column_by_column(bench):
    asked = internals.declaration(bench.toy.Seed, bench.connection)
    assert asked.key == {"number"}
    names = [re.match(r"\s*[`\"]([^`\"]+)", line).group(1) for line in asked.lines]
    assert set(names) >= {"number", "pause_s", "mood"}
    comment = internals.column_comment_sql(
        bench.connection, bench.toy.Seed.full_table_name, "mood", "how it fails"
    )
    assert (comment is None) == (internals.backend(bench.connection) == "mysql")


def test_the_store_lists_files_and_rows_say_which_are_theirs(bench):
    bench.seeds(2)
    bench.work()
    assert internals.plain_columns(bench.toy.Value()) == ["number", "value"]
    assert internals.json_columns(bench.toy.Value()) >= {"array"}
    ((column, paths_of),) = internals.stored_columns(bench.toy.Value())
    table = dj.FreeTable(bench.connection, bench.toy.Value.full_table_name).proj(column)
    told = {path for row in table.cursor(as_dict=True) for path, _ in paths_of(row[column])}
    found = {
        path: info
        for folder in internals.store_folders(bench.toy.schema.database)
        for path, info in internals.store_files(folder)
    }
    assert set(found) == told
    assert len(told) == 2
    for path, info in found.items():
        assert internals.store().size(path) == info["size"]
        assert len(internals.store().get_buffer(path)) == info["size"]
    assert not internals.is_stored_file((bench.toy.Value & "number=0").fetch1("array"))


def test_a_configuration_file_is_found_unless_it_is_to_be_ignored(tmp_path, monkeypatch):
    (tmp_path / "datajoint.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert internals.config_file() == tmp_path / "datajoint.json"
    with dj.config.override(ignore_config_file=True):
        assert internals.config_file() is None
