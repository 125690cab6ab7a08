import numpy as np
import pytest

from pipeline.errors import DataError
from pipeline.mei.ascent import PARTS, ascent_methods
from pipeline.mei.controls import control_kinds
from pipeline.model import check_config, complete_config, transfer_config
from pipeline.model.cores import cores
from pipeline.model.training.methods import trainers
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


def raised(revision, below=None):
    registry = Registry("filter", below)

    @registry.register("box", default=True, revision=revision)
    def box(data, *, width_s: float = 0.5, other: str = "plain"):
        return data * width_s

    return registry


def test_a_revision_above_one_is_part_of_the_hash(filters):
    first, second = raised(1), raised(2)
    assert first.hash("box") == config_hash(
        {"method": "box", "params": {"width_s": 0.5, "other": "plain"}}
    )
    assert len({first.hash("box"), second.hash("box"), raised(3).hash("box")}) == 3
    assert first.spec("box") == {"name": "box", "width_s": 0.5, "other": "plain"}
    assert second.spec("box") == {**first.spec("box"), "revision": 2}
    assert second.spec(second.spec("box")) == second.spec("box")
    with pytest.raises(ValueError, match="revision is 1, 2"):
        filters.register("old", revision=0)


def test_a_stored_row_of_another_revision_is_not_computed():
    rows = {n: (raised(n).hash("box"), "box", raised(n).complete("box")) for n in (1, 2, 3)}
    for revision in rows:
        raised(revision).check_stored(*rows[revision])
    with pytest.raises(DataError, match=r"revision 1 of filter 'box' is no longer computed.*2"):
        raised(2).check_stored(*rows[1])
    with pytest.raises(DataError, match=r"revision 3 of filter 'box' is not known.*update"):
        raised(2).check_stored(*rows[3])
    with pytest.raises(DataError, match="are not those that its key was made of"):
        raised(2).check_stored(rows[2][0], "box", {"width_s": 0.7, "other": "plain"})


def test_a_parameter_that_came_later_is_no_revision():
    old = {"width_s": 0.5}  # `other` was not there yet
    raised(1).check_stored(config_hash({"method": "box", "params": old}), "box", old)
    with pytest.raises(DataError, match="no longer computed"):
        raised(2).check_stored(config_hash({"method": "box", "params": old}), "box", old)


def test_the_revision_of_a_method_that_a_parameter_names_is_part_of_the_hash():
    def naming(revision):
        part = Registry("part")
        part.register("plain", revision=revision)(lambda data: data)
        return raised(1, lambda name, params: [(part, params["other"])])

    first, second = naming(1), naming(2)
    assert first.hash("box") == raised(1).hash("box") != second.hash("box")
    second.check_stored(second.hash("box"), "box", second.complete("box"))
    with pytest.raises(DataError, match="revision 1 of part 'plain' is no longer computed"):
        second.check_stored(first.hash("box"), "box", second.complete("box"))


def test_both_spellings_of_a_choice_build_the_same():
    box = raised(2)
    spellings = (
        "box",
        {"name": "box"},
        {"method": "box", "params": {}},
        {"method": None, "params": {}},
        {"method": "box", "params": {"width_s": 0.5}, "revision": 2},
        box.spec(None),
    )
    assert {box.build(spelling, 4.0) for spelling in spellings} == {2.0}
    assert box.build({"name": "box", "width_s": 0.25}, 4.0) == 1.0
    with pytest.raises(DataError, match=r"revision 1 .* no longer computed"):
        box.build({"name": "box", "revision": 1}, 4.0)
    with pytest.raises(ValueError, match="no parameter"):
        box.build({"name": "box", "breadth": 1}, 4.0)


def test_a_cell_of_a_notebook_that_runs_again_replaces_its_method(filters):
    def cell(module, name, factor, default=False):
        def method(data):
            return factor * data

        method.__module__, method.__qualname__ = module, "method"
        return filters.register(name, default=default)(method)

    cell("__main__", "mine", 2)
    with pytest.warns(UserWarning, match="filter 'mine' is replaced"):
        cell("__main__", "mine", 3)
    assert filters["mine"](1) == 3
    with pytest.raises(ValueError, match="registered twice"):
        cell("__main__", "box", 3)  # the package's own
    cell("laboratory", "theirs", 2)
    with pytest.raises(ValueError, match="registered twice"):
        cell("laboratory", "theirs", 3)


def test_no_parameter_is_called_like_a_part_of_the_spelling(filters):
    with pytest.raises(ValueError, match="may be called"):
        filters.register("named")(lambda data, *, revision=1: data)


@pytest.mark.parametrize("part", ["objective", "initial"])
def test_an_ascent_follows_the_revisions_of_its_parts(monkeypatch, part):
    named = ascent_methods.complete("constrained")[part]["name"]
    before = ascent_methods.hash("constrained"), control_kinds.hash("rf")
    stored = ascent_methods.complete("constrained")
    monkeypatch.setitem(PARTS[part]._revisions, named, 2)
    assert ascent_methods.hash("constrained") != before[0]
    assert control_kinds.hash("rf") != before[1]  # the kind makes its image by the ascent
    with pytest.raises(DataError, match=f"revision 1 of .*{named}.* is no longer computed"):
        ascent_methods.check_stored(before[0], "constrained", stored)
    today = ascent_methods.complete("constrained")
    ascent_methods.check_stored(ascent_methods.hash("constrained"), "constrained", today)


def test_a_configuration_names_the_revisions_of_its_parts(monkeypatch):
    old, borrowed = complete_config(), transfer_config(complete_config(), "core")
    monkeypatch.setitem(cores._revisions, cores.default, 2)
    assert complete_config()["core"] == {**old["core"], "revision": 2}
    assert config_hash(complete_config()) != config_hash(old)
    check_config(complete_config())
    with pytest.raises(DataError, match="revision 1 of core"):
        check_config(old)
    monkeypatch.setitem(cores._revisions, cores.default, 1)
    monkeypatch.setitem(trainers._revisions, trainers.default, 2)
    check_config(transfer_config(complete_config(), "core"))
    with pytest.raises(DataError, match="revision 1 of training"):
        check_config(borrowed)
