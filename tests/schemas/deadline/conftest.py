"""A scan whose images are computed, once for all files of this folder."""

import pytest
from short_loops import computed_scan


@pytest.fixture(scope="session")
def scan(_bound, tmp_path_factory):
    """A scan whose controls are computed as one loop asks for them."""
    from workers.database import embedded

    database, home, _ = _bound
    embedded.connect(home)
    return computed_scan(database, tmp_path_factory.mktemp("deadline"), 55)


@pytest.fixture
def place(_bound):
    """Home and prefix of the tables."""
    return _bound[1:]
