import numpy as np
import pytest

from pipeline.registry import Registry, canonical_json, config_hash


@pytest.fixture
def filters():
    registry = Registry("filter")

    @registry.register("box", default=True)
    def box(data, *, width_s: float = 0.5, causal: bool = False):
        return data, width_s, causal

    @registry.register("gauss")
    def gauss(data, *, sigma_s: float):
        return data, sigma_s

    return registry


def test_parameters_are_completed_from_the_signature(filters):
    assert filters.default == "box"
    assert filters.complete("box", {"causal": True}) == {"width_s": 0.5, "causal": True}
    assert filters[filters.default](1, **filters.complete("box")) == (1, 0.5, False)


def test_unknown_and_missing_parameters_are_named(filters):
    with pytest.raises(ValueError, match=r"filter 'box' has no parameter \['tau'\]; it takes"):
        filters.complete("box", {"tau": 1})
    with pytest.raises(ValueError, match=r"filter 'gauss' needs parameter \['sigma_s'\]"):
        filters.complete("gauss")
    with pytest.raises(ValueError, match="no filter 'median'"):
        filters["median"]


def test_a_written_default_has_the_same_hash_as_an_omitted_one(filters):
    assert filters.hash("box") == filters.hash("box", {"width_s": 0.5})
    assert filters.hash("box") != filters.hash("box", {"width_s": 0.4})


def test_a_name_is_registered_once(filters):
    with pytest.raises(ValueError, match="registered twice"):
        filters.register("box")(lambda data: data)


def test_hash_depends_on_content_not_on_order_or_number_type():
    assert config_hash({"a": 1, "b": (2, 3)}) == config_hash({"b": [2.0, 3], "a": np.int64(1)})
    assert config_hash({"a": 1}) != config_hash({"b": 1})
    assert len(config_hash({})) == 16
    assert canonical_json({"b": 1.5, "a": None}) == '{"a":null,"b":1.5}'


def test_what_has_no_json_is_refused():
    with pytest.raises(ValueError, match="JSON compliant"):
        config_hash({"a": float("nan")})
    with pytest.raises(TypeError):
        config_hash({"a": object()})
