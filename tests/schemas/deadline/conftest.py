"""A scan whose images are computed, once for all files of this folder."""

import pytest
from known_neurons import populate, record, shown_trials, smooth_images
from short_loops import CHEAP, TARGETS


@pytest.fixture(scope="session")
def scan(_bound, tmp_path_factory):
    """A scan whose controls are computed as one loop asks for them."""
    from schemas.decisions import tasks
    from schemas.decisions.ingest import ingest_bundle
    from workers.database import embedded

    database, home, _ = _bound
    embedded.connect(home)
    names, trials = shown_trials(count=120, repeated=8)
    images = smooth_images(len(names), seed=1)
    folder = tmp_path_factory.mktemp("deadline")
    key = ingest_bundle(record(folder / "day1", 55, 1, images, names, trials))
    tasks.register_loop(key, CHEAP, targets=TARGETS, minutes=8)
    populate(database, 55)
    return key


@pytest.fixture
def place(_bound):
    """Home and prefix of the tables."""
    return _bound[1:]
