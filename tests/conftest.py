"""A database for the table tests: the embedded one, or the MySQL that DJ_HOST names."""

import os
import tempfile
import uuid
from pathlib import Path

import pytest

if Path("/dev/nvidiactl").exists():  # they compare to the last bit; test_cuda.py names its devices
    os.environ.setdefault("INCEPTION_DEVICE", "cpu")

if not os.access(Path.home(), os.W_OK):  # pynwb and matplotlib want a cache of their own
    _cache = tempfile.TemporaryDirectory(prefix="inception_tests_")
    os.environ.setdefault("XDG_CACHE_HOME", _cache.name)
    os.environ.setdefault("MPLCONFIGDIR", _cache.name)


@pytest.fixture(scope="session")
def _bound(tmp_path_factory):
    """The eight modules, bound to schemas of their own prefix in this test process."""
    import schemas
    from workers.database import embedded

    home = tmp_path_factory.mktemp("tables_home")
    prefix = "s" + uuid.uuid4().hex[:8]
    connection = schemas.activate(prefix, home=home)
    yield schemas, home, prefix
    import datajoint as dj

    embedded.connect(home)
    if embedded.is_embedded():
        embedded.remove(home)
        return
    for name in reversed(schemas.MODULES):  # a server that others use
        dj.Schema(f"{prefix}_{name}", connection=connection).drop(prompt=False)


@pytest.fixture
def database(_bound):
    """The package `schemas`, bound; configuration and store are this home's again."""
    import datajoint.instance

    from workers.database import embedded

    schemas, home, _ = _bound
    embedded.connect(home)  # tests of the workers point DataJoint to homes of their own
    # `dj.conn()` is the connection that the tables are bound to, not one to the same server
    datajoint.instance._singleton_connection = schemas.experiment.schema.connection
    embedded.connect(home)
    return schemas


@pytest.fixture
def ledger(_bound, database):
    """The workers' tables beside those of `database`, dropped at the end."""
    import datajoint as dj

    from workers.queue import tables

    prefix = _bound[2]
    tables.schema.database = tables.schema.connection = None  # they may be bound to another test's
    tables.activate(prefix)
    tables.declare()
    yield tables
    dj.Schema(f"{prefix}_workers").drop(prompt=False)
    tables.schema.database = tables.schema.connection = None


# folders whose files share what their conftest computes
TOGETHER = ("tests/schemas/chain/", "tests/schemas/deadline/", "tests/workers/steering/")
LONGEST = ("tests/test_loop.py", *TOGETHER)


def pytest_collection_modifyitems(items):
    """Begin with what takes longest, so that no process waits for it at the end."""
    items.sort(key=lambda item: next((i for i, n in enumerate(LONGEST) if n in item.nodeid), 9))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Give one process all files of a folder that shares what it computes, else file by file."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class LoadFolderScheduling(LoadFileScheduling):
        def _split_scope(self, nodeid):
            return next((name for name in TOGETHER if name in nodeid), super()._split_scope(nodeid))

    config.option.loadscopereorder = False  # it would begin with the files of most tests
    return LoadFolderScheduling(config, log)
