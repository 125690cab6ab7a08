"""A small loop with its plan, once for all files of this folder."""

import pytest
from short_loops import computed_scan

ANIMAL = 58


@pytest.fixture(scope="session")
def loop(_bound, tmp_path_factory):
    """Day 1 of one animal, all computed up to the plan."""
    from workers.database import embedded

    database, home, _ = _bound
    embedded.connect(home)
    day1 = computed_scan(database, tmp_path_factory.mktemp("web"), ANIMAL)
    from schemas import closed_loop

    return {"day1": day1, "plan": {"plan_id": (closed_loop.PlanTask & day1).fetch1("plan_id")}}
