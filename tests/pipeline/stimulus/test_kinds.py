import pytest

from pipeline.mei.controls import control_kinds
from pipeline.registry import Registry
from pipeline.stimulus.kinds import (
    LONGEST,
    check_kind,
    kind_and_variant,
    name_of,
    stimulus_columns,
    stimulus_name,
)


@pytest.mark.parametrize("variant", [0, 1, 12])
@pytest.mark.parametrize("kind", ["mei", "k" * LONGEST])
def test_a_name_gives_its_kind_and_variant_back(kind, variant):
    name = stimulus_name(kind, variant)
    assert kind_and_variant(name) == (kind, variant)
    assert name_of(stimulus_columns(name)) == name


def test_a_first_image_has_the_name_of_its_kind():
    assert stimulus_name("gabor", 0) == "gabor"
    assert stimulus_name("gabor", 1) == "gabor:1"


@pytest.mark.parametrize("name", ["", "k" * (LONGEST + 1), "gabor:1", ":", "natural"])
def test_a_kind_that_no_table_or_name_can_hold_is_not_registered(name):
    with pytest.raises(ValueError, match=r"kind of control .*; .*register it under"):
        control_kinds.register(name)
    assert name not in control_kinds
    Registry("other method").register(name)  # other registries have no such limit


def test_every_registered_kind_can_be_stored():
    assert [check_kind(kind) for kind in control_kinds] == list(control_kinds)
