"""A home, a pipeline of its own prefix and workers for every test of reliability."""

import contextlib
import json
import os
from pathlib import Path

import bucket
import pytest


def pytest_collection_modifyitems(items):
    for item in items:
        if item.get_closest_marker("reliability"):
            item.add_marker(pytest.mark.timeout(2400))  # also on a machine that others use


@pytest.fixture(scope="session")
def storm_home(tmp_path_factory):
    from workers.database import embedded

    home = tmp_path_factory.mktemp("storm_home")
    with bucket.bucket() if in_bucket() else contextlib.nullcontext():
        yield home
    embedded.remove(home)


def in_bucket():
    """Tell whether the store of all tests is to be in an S3 server's bucket."""
    return os.environ.get("RELIABILITY_STORE") == "s3"


@pytest.fixture
def fleet(storm_home):
    from fleet import Fleet

    made = Fleet(storm_home)
    yield made
    made.close()


@pytest.fixture
def server(storm_home):
    """The database server, if this test may kill it."""
    from servers import Server, is_ours

    if not is_ours():
        pytest.skip("others use this server at the same time: make reliability kills it")
    return Server(storm_home)


@pytest.fixture
def record(request, record_property):
    """Keep the figures of a test: in the report, and as a line of RELIABILITY_LOG."""

    def keep(figures):
        record_property("figures", figures)
        file = os.environ.get("RELIABILITY_LOG")
        if file:
            line = {"test": request.node.name, "server": os.environ.get("DJ_BACKEND", "embedded")}
            with Path(file).open("a", encoding="utf-8") as log:
                log.write(json.dumps({**line, **figures}) + "\n")

    return keep
