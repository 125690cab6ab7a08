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
    return registry.hash("scale"), digest_store.digest(registry["scale"](data, by=2.0))


def test_changed_values_need_another_revision():
    kept = digest_store.renewed({}, {"toy/scale": scaled(1.0)})

    def verdict(name, now):
        return digest_store.verdict(kept, name, *now, 1e-4)

    assert verdict("toy/scale", scaled(1.0)) is None
    assert verdict("toy/scale", scaled(1 + 1e-6)) is None  # rounding
    assert "raise its revision" in verdict("toy/scale", scaled(1.001))
    assert "another hash" in verdict("toy/scale", scaled(1.001, revision=2))
    assert "has no digest" in verdict("toy/new", scaled(1.0))


def toy(monkeypatch, tmp_path, factor, revision=1):
    """Let the command see one method; return its registry and the file."""
    registry = Registry("toy")

    @registry.register("scale", revision=revision)
    def scale(data, *, by: float = 2.0):
        return factor * by * data

    monkeypatch.setitem(digest_cases.CASES, "toy", lambda method: method.run(np.arange(20.0)))
    monkeypatch.setattr(digest_cases, "methods", lambda: [("toy/scale", registry, "scale")])
    monkeypatch.setattr(digest_store, "FILE", tmp_path / "digests.json")
    return registry


def test_the_command_keeps_what_it_has_unless_revised_or_told(monkeypatch, tmp_path):
    def largest():
        return digest_store.load(tmp_path / "digests.json")["toy/scale"]["values"][""][2]

    toy(monkeypatch, tmp_path, 1.0)
    assert digest_store.main([]) == 0
    first = largest()
    toy(monkeypatch, tmp_path, 3.0)
    digest_store.main([])
    assert largest() == first  # changed without a revision: the test above stays red
    toy(monkeypatch, tmp_path, 5.0, revision=2)
    digest_store.main([])
    assert largest() == pytest.approx(5 * first)
    toy(monkeypatch, tmp_path, 7.0, revision=2)
    digest_store.main(["--overwrite", "toy/*"])
    assert largest() == pytest.approx(7 * first)


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
