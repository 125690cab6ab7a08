"""A process that is forked after its parent has connected has a link of its own."""

import multiprocessing

import pytest

pytestmark = pytest.mark.tables
_table = None


def fetch(number):
    return [row["number"] for row in (_table & f"number > {number}").to_dicts(order_by="number")]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_forked_processes_and_their_parent_get_their_own_answers(bench):
    global _table
    bench.seeds(5)
    _table = bench.toy.Seed()
    wanted = [fetch(i % 3) for i in range(60)]
    with multiprocessing.get_context("fork").Pool(4) as pool:
        found = pool.map_async(fetch, [i % 3 for i in range(60)])
        meanwhile = [fetch(i % 3) for i in range(60)]
        assert found.get(timeout=60) == wanted
    assert meanwhile == wanted
    assert fetch(0) == wanted[0]  # the children ended, the parent's link lives
    with bench.connection.transaction:
        bench.toy.Seed.insert1((99, 0.0, "good"))
        with multiprocessing.get_context("fork").Pool(1) as pool:
            assert pool.apply_async(fetch, [50]).get(timeout=60) == []  # not committed
    assert fetch(50) == [99]
