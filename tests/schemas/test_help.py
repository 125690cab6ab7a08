"""`help()` of modules and tables, as a person at a notebook asks for it."""

import importlib
import pydoc

import datajoint as dj
import pytest

import schemas

pytestmark = pytest.mark.tables


@pytest.mark.parametrize("name", ["schemas", *(f"schemas.{name}" for name in schemas.MODULES)])
def test_help_of_a_module_reads_its_tables(database, name):
    module = importlib.import_module(name)
    text = pydoc.plain(pydoc.render_doc(module))
    for line in (module.__doc__ or "").splitlines()[:1]:
        assert line in text


def test_help_of_every_table_and_part_has_its_definition(database):
    for table in schemas.tables():
        parts = [item for item in vars(table).values() if isinstance(item, type)]
        for one in (table, *(part for part in parts if issubclass(part, dj.Part))):
            assert one.__name__ in pydoc.plain(pydoc.render_doc(one))


def test_a_table_without_a_database_says_which_attribute_it_lacks(database):
    with pytest.raises(AttributeError, match=r"Computed\.jobs"):
        _ = dj.Computed.jobs
