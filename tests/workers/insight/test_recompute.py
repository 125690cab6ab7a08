"""Rows that are computed again are compared with what is stored."""

import os

import numpy as np
import pytest

from workers.insight import recompute

pytestmark = pytest.mark.tables


def test_recompute_finds_equal_rows_equal_and_writes_nothing(bench):
    bench.seeds(4)
    bench.work()
    ledger, loaded = bench.opened()
    before = [len(table()) for table in (bench.toy.Value, bench.toy.Twice, bench.toy.Noop)]
    files = bench.store_files()
    found = recompute.check(ledger, loaded, 100)
    assert len(found) == 12
    assert {row["verdict"] for row in found} == {"equal"}
    assert {row["same_device"] for row in found} == {True}
    again = recompute.check(ledger, loaded, 5, seed=1)
    assert [row["key"] for row in again] == [
        row["key"] for row in recompute.check(ledger, loaded, 5, seed=1)
    ]
    assert [len(t()) for t in (bench.toy.Value, bench.toy.Twice, bench.toy.Noop)] == before
    assert bench.store_files() == files
    with pytest.raises(LookupError, match="no computed table"):
        recompute.check(ledger, loaded, 1, table="toy_tables.None")


def test_recompute_leaves_the_gpu_to_its_queue_as_workers_do(bench, monkeypatch):
    bench.seeds(1)
    bench.work()
    computed, devices = bench.toy.Value.make_compute, []

    def watched(self, *given):
        devices.append(os.environ.get("INCEPTION_DEVICE"))
        return computed(self, *given)

    monkeypatch.setattr(bench.toy.Value, "make_compute", watched)
    monkeypatch.delenv("INCEPTION_DEVICE", raising=False)
    (row,) = recompute.check(*bench.opened(), 1, table="toy_tables.Value")
    assert (row["verdict"], devices) == ("equal", ["cpu"])
    assert "INCEPTION_DEVICE" not in os.environ


def test_recompute_finds_what_has_changed(bench):
    bench.seeds(2)
    bench.work()
    bench.toy.Value.update1({"number": 1, "value": "0" * 16})
    code, said = bench.inception("recompute", "--check", 9, "--table", "toy_tables.Value")
    assert code == 1
    assert "1 equal, 0 close, 1 differs" in said
    (bench.toy.Value.Piece & {"number": 0, "piece": 2}).delete_quick()
    found = recompute.check(*bench.opened(), 9, table="toy_tables.Value")
    assert {row["verdict"] for row in found} == {"differs"}


def test_differences_are_relative_to_the_largest_value_and_nan_equals_nan():
    first = np.array([1.0, -100.0, np.nan])
    assert recompute.difference(first, first.copy()) == 0.0
    assert recompute.difference(first, np.array([1.0001, -100.0, np.nan])) == pytest.approx(1e-6)
    assert recompute.difference(first, np.array([1.0, np.nan, np.nan])) == float("inf")
    assert recompute.difference(first, first[:2]) == float("inf")
    assert recompute.difference({"a": [1, 2.0]}, {"a": (1, 2.0)}) == 0.0
    assert recompute.difference({"a": [1, 2.0]}, {"a": (1, 2.5)}) == pytest.approx(0.25)
    assert recompute.difference("x", "y") == float("inf")
    assert recompute.difference(None, None) == 0.0
