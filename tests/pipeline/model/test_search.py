import math

import numpy as np
import pytest

from pipeline import model
from pipeline.model.search import search_methods, survivors
from pipeline.registry import config_hash

BASE = {"core": {"channels": 8}}


def test_a_grid_is_every_combination_once_and_complete():
    space = {"core.channels": [16, 32], "training.learning_rate": [0.01, 0.003, 0.01]}
    found = search_methods["grid"](BASE, space=space)
    values = [(c["core"]["channels"], c["training"]["learning_rate"]) for c in found]
    assert sorted(values) == [(16, 0.003), (16, 0.01), (32, 0.003), (32, 0.01)]
    assert all(model.complete_config(config) == config for config in found)


def test_a_method_of_another_name_takes_its_own_parameters():
    space = {"core.name": ["pooled", "linear"], "core.channels": [4]}
    pooled, linear = search_methods["grid"](BASE, space=space)
    assert (pooled["core"]["name"], linear["core"]["name"]) == ("pooled", "linear")
    assert pooled["core"]["channels"] == 4


def test_random_draws_fill_their_range_and_more_draws_keep_the_first():
    space = {
        "training.learning_rate": {"low": 1e-4, "high": 1e-2},
        "core.channels": {"low": 8, "high": 64, "integer": True},
        "training.batch_size": [32, 64],
    }
    many = search_methods["random"](BASE, space=space, n=200, seed=3)
    few = search_methods["random"](BASE, space=space, n=50, seed=3)
    assert [config_hash(c) for c in many[:50]] == [config_hash(c) for c in few]
    assert len({config_hash(c) for c in many}) == 200
    rates = np.array([c["training"]["learning_rate"] for c in many])
    assert ((rates >= 1e-4) & (rates <= 1e-2)).all()
    assert abs(np.log10(rates).mean() + 3) < 4 * 2 / math.sqrt(12 * 200)  # uniform in the logarithm
    assert {c["training"]["batch_size"] for c in many} == {32, 64}
    assert all(isinstance(c["core"]["channels"], int) for c in many)
    other = search_methods["random"](BASE, space=space, n=50, seed=4)
    assert config_hash(other[0]) != config_hash(few[0])


def test_a_small_space_gives_what_it_has():
    space = {"core.channels": [4, 8]}
    assert len(search_methods["random"](BASE, space=space, n=20)) == 2


@pytest.mark.parametrize(
    ("space", "problem"),
    [
        ({"core": [1]}, r"section\.parameter"),
        ({"core.depth": [1]}, "depth"),
        ({"core.channels": 8}, "list of values"),
    ],
)
def test_a_space_that_cannot_be_is_named(space, problem):
    with pytest.raises(ValueError, match=problem):
        search_methods["grid"](BASE, space=space)


def test_a_range_must_be_one():
    with pytest.raises(ValueError, match="low < high"):
        search_methods["random"](BASE, space={"core.channels": {"low": 0, "high": 8}})


def test_the_best_by_validation_survive_and_nan_never_does():
    scores = {"a": 0.3, "b": float("nan"), "c": 0.5, "d": 0.3, "e": 0.1}
    assert survivors(scores, 0.4) == ["c", "a"]
    assert survivors(dict(reversed(scores.items())), 0.4) == ["c", "a"]
    assert survivors(scores, 0.01) == ["c"]
    assert survivors(scores, 1.0)[-1] == "b"
