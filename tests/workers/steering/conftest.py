"""A scan whose images are computed, once for all files of this folder."""

import pytest
from known_neurons import populate, write_answer
from short_loops import computed_scan, refreshed

ANIMAL = 56


@pytest.fixture(scope="session")
def scan(_bound, tmp_path_factory):
    """A scan with one loop, all of it computed up to the plan."""
    from workers.database import embedded

    database, home, _ = _bound
    embedded.connect(home)
    return computed_scan(database, tmp_path_factory.mktemp("steering"), ANIMAL)


@pytest.fixture
def compute(database):
    """Compute all that is due of the animal; return the names of the tables that got rows."""

    def run():
        import schemas

        tables = {f"{t.__module__}.{t.__name__}": t for t in schemas.computed_tables()}
        before = {name: len(table()) for name, table in tables.items()}
        populate(database, ANIMAL)
        return {
            name.split(".")[1] + "." + name.rsplit(".", 1)[1]
            for name, table in tables.items()
            if len(table()) > before[name]
        }

    return run


@pytest.fixture
def answer(database, tmp_path):
    """Ingest and score the recording of a plan; return its key."""

    def show(made, scan_idx):
        from schemas.decisions.ingest import ingest_bundle

        key = ingest_bundle(write_answer(tmp_path / "day2", ANIMAL, made, scan_idx))
        populate(database, ANIMAL)
        return key

    return show


@pytest.fixture
def place(_bound):
    """Home and prefix of the tables."""
    return _bound[1:]


@pytest.fixture
def undecided(database, scan):
    """Withdraw at the end what a test has decided."""
    yield
    from workers.steering.decide import decide, decisions

    for row in decisions(scan):
        if row["counts"]:
            decide(row, include=None, why="the test is over", who="test")


@pytest.fixture
def refresh(_bound):
    """Refresh all job tables as a worker does; return the pipeline and the ledger."""
    return lambda: refreshed(_bound[2])
