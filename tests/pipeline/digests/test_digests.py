"""A hash names one result: every registered method returns what it returned under its hash."""

import digest_cases
import digest_store
import numpy as np
import pytest

from pipeline.registry import Registry

KEPT = digest_store.load()
METHODS = {name: (registry, method) for name, registry, method in digest_cases.methods()}


@pytest.mark.parametrize("name", METHODS)
def test_values_are_those_of_the_hash(name, tmp_path):
    registry, method = METHODS[name]
    now = digest_store.digest(digest_cases.result(registry, method, tmp_path))
    hash_ = digest_cases.hash_of(registry, method)
    tolerance = digest_cases.tolerance(registry, method)
    why = digest_store.verdict(KEPT, name, hash_, now, tolerance)
    assert why is None, why


def test_every_registry_has_a_case_and_no_digest_is_left_over():
    assert set(digest_store.registries()) == set(digest_cases.CASES)
    assert set(KEPT) == set(METHODS)


def scaled(factor, *, revision=1):
    registry = Registry("toy")

    @registry.register("scale", default=True, revision=revision)
    def scale(data, *, by: float = 2.0):
        return {"scaled": factor * by * np.asarray(data, float), "name": "scale"}

    data = np.arange(20.0)
    return registry.hash("scale"), digest_store.digest(registry["scale"](data, by=2.0)), 1e-4


def test_changed_values_need_another_revision():
    kept = digest_store.renewed({}, {"toy/scale": scaled(1.0)})
    assert digest_store.verdict(kept, "toy/scale", *scaled(1.0)) is None
    assert digest_store.verdict(kept, "toy/scale", *scaled(1 + 1e-6)) is None  # rounding
    assert "raise its revision" in digest_store.verdict(kept, "toy/scale", *scaled(1.001))
    assert "another hash" in digest_store.verdict(kept, "toy/scale", *scaled(1.001, revision=2))
    assert "has no digest" in digest_store.verdict(kept, "toy/new", *scaled(1.0))


def test_kept_values_are_replaced_with_a_revision_or_a_word():
    kept = digest_store.renewed({}, {"toy/scale": scaled(1.0)})
    with pytest.raises(ValueError, match="raise its revision"):
        digest_store.renewed(kept, {"toy/scale": scaled(3.0)})
    for changed, word in ((scaled(3.0, revision=2), ()), (scaled(3.0), ("toy/scale",))):
        new = digest_store.renewed(kept, {"toy/scale": changed}, word)
        assert digest_store.verdict(new, "toy/scale", *changed) is None
    near = digest_store.renewed(kept, {"toy/scale": scaled(1 + 1e-6)})
    assert near == kept  # the first processor's numbers stay


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a[::-1],
        lambda a: a + 0.01,
        lambda a: np.where(np.arange(len(a)) == 7, np.nan, a),
        lambda a: a[:-1],
        lambda a: np.where(np.arange(len(a)) == 3, a + 1, a),
    ],
    ids=["order", "offset", "unknown", "length", "one number"],
)
def test_a_digest_sees(change):
    data = np.random.default_rng(0).normal(size=200)
    kept, now = digest_store.digest(data), digest_store.digest(change(data))
    assert digest_store.difference(kept, now, 1e-3)
