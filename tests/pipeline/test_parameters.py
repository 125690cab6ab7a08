"""Values of parameters, checked against the signatures that take them."""

import gc
import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import pytest

import pipeline
from pipeline.model import complete_config
from pipeline.parameters import ParameterError, Rule, check_value, kinds_of
from pipeline.registry import Registry


def every_method():
    """Return (registry, name) of all methods of all registries of the package."""
    for module in pkgutil.walk_packages(pipeline.__path__, "pipeline."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found = [item for item in gc.get_objects() if type(item).__mro__[-2] is Registry]
    return [
        (registry, name)
        for registry in found
        for name in registry
        if registry[name].__module__.startswith("pipeline.")
    ]


METHODS = every_method()


@pytest.mark.parametrize(
    ("registry", "name"), METHODS, ids=[f"{r.kind} {n}".replace(" ", "-") for r, n in METHODS]
)
def test_every_default_passes_its_own_check_and_nonsense_does_not(registry, name):
    for parameter, kind in kinds_of(registry[name]).items():
        assert kind is not Any, f"{parameter} has neither annotation nor a simple default"
        default = registry.defaults(name)[parameter]
        if isinstance(default, type):
            continue  # required
        check_value(parameter, default, kind)
        for nonsense in (object(), float("nan")):
            with pytest.raises(ParameterError, match=parameter):
                registry.complete(name, {parameter: nonsense})


def test_there_are_registries_of_every_stage():
    assert len({registry.kind for registry, _ in METHODS}) > 30


@pytest.mark.parametrize(
    ("kind", "right", "wrong"),
    [
        (int, (3, np.int64(3), 0), (True, 3.0, "3", None, -1, [3])),
        (float, (3, 3.5, np.float32(1)), (True, "3.5", None, float("inf"))),
        (bool, (True, np.bool_(False)), (1, 0, "true", None)),
        (str, ("a", ""), (1, None, b"a")),
        (float | None, (None, 1.5), ("", False)),
        (Sequence[int], ([1, 2], (1, 2), np.array([1]), []), ("12", [1, True], [1.5], 1)),
        (tuple[float, float], ([1, 2], (0.3, 0.5)), ([1], [1, 2, 3], ["a", "b"])),
        (Mapping[str, Any], ({"a": 1}, {}), ([], "a", {1: 1})),
        (Mapping[str, Sequence[float]], ({"a": [1, 2]},), ({"a": ["b"]}, {"a": 1})),
        (Literal["a", "b"], ("a",), ("c", None, 1)),
        (str | dict[str, Any], ("a", {"name": "a"}), (1, ["a"])),
        (Annotated[Sequence[int], Rule("not empty", len)], ([1],), ([], ["a"])),
    ],
)
def test_a_value_is_of_its_annotation(kind, right, wrong):
    for value in right:
        check_value("anything", value, kind)
    for value in wrong:
        with pytest.raises(ParameterError, match=r"anything: found .*; expected "):
            check_value("anything", value, kind)


@pytest.mark.parametrize(
    ("name", "kind", "right", "wrong"),
    [
        ("seed", int, 0, -1),
        ("seed", int, 2**31 - 1, 2**31),
        ("steps", int, 1, 0),
        ("n_targets", int, 1, 0),
        ("min_match_probability", float, 1, 1.01),
        ("validation_fraction", float, 0.1, 1.0),
        ("baseline_percentile", float, 100, 101),
        ("smooth_px", float, 0, -0.5),
        ("minutes", float, 0.5, 0),
        ("hidden_kernels", Sequence[int], [3], [0]),
        ("blank_s", tuple[float, float], [0, 1], [-1, 1]),
        ("start_s", float, -0.5, "before"),  # a window may begin before the image
    ],
)
def test_the_range_follows_from_the_name(name, kind, right, wrong):
    check_value(name, right, kind)
    with pytest.raises(ParameterError):
        check_value(name, wrong, kind)


@pytest.mark.parametrize(
    ("config", "path"),
    [
        ({"core": {"channels": "many"}}, "core.channels"),
        ({"core": {"name": "linear", "kernel": 0}}, "core.kernel"),
        ({"readout": {"init_places": 1}}, "readout.init_places"),
        ({"training": {"clip_norm": True}}, "training.clip_norm"),
        ({"training": ["plateau"]}, "training"),
        ([], "configuration"),
    ],
)
def test_the_values_of_a_model_configuration_are_checked(config, path):
    with pytest.raises(ParameterError, match="; expected ") as caught:
        complete_config(config)
    assert str(caught.value).startswith(path)


def test_the_message_is_one_short_line():
    with pytest.raises(ParameterError) as caught:
        check_value("steps", ["a\nb"] * 1000, int)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 120
