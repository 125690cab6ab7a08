"""Recipes: what a loop decides before anything is computed."""

import pytest

from pipeline.errors import DataError
from pipeline.mei.controls import control_kinds
from schemas.recipe import RECIPES, check_recipe, complete_recipe


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_images_made_by_ascent_are_all_made_for_the_same_eye(name):
    recipe = complete_recipe(RECIPES[name]())
    assert recipe["mei"]["method"] == "constrained"
    assert recipe["mei"]["params"]["objective"] == {"name": "over_gaze"}
    kinds = {row["method"]: row["params"] for row in recipe["controls"]}
    assert kinds["rf"]["params"] == {"objective": "over_gaze"}
    assert kinds["gabor"]["objective"] == "over_gaze"


def test_a_named_method_begins_from_its_own_defaults():
    recipe = complete_recipe({"mei": {"method": "diverse", "starts": 3}})
    assert recipe["mei"]["method"] == "diverse"
    assert recipe["mei"]["starts"] == 3
    assert "objective" not in recipe["mei"]["params"]
    recipe = complete_recipe({"mei": {"method": "walker2019"}})
    assert recipe["mei"]["params"]["objective"] == {"name": "activation"}


def test_parameters_without_a_method_change_the_recommended_one():
    recipe = complete_recipe({"mei": {"params": {"steps": 30}}})
    assert recipe["mei"]["params"]["steps"] == 30
    assert recipe["mei"]["params"]["objective"] == {"name": "over_gaze"}
    recipe = complete_recipe({"mei": {"params": {"objective": "activation"}}})
    assert recipe["mei"]["params"]["objective"] == {"name": "activation"}
    assert recipe["mei"]["params"]["steps"] == 100


@pytest.mark.parametrize(
    ("recipe", "named"),
    [
        ({"meis": {}}, "meis"),
        ({"mei": {"begin": 1}}, "begin"),
        ({"mei": {"method": "diverse", "params": {"objective": "over_gaze"}}}, "objective"),
        ({"dataset": {"tiers": {"night": 1}}}, "night"),
    ],
)
def test_what_does_not_exist_is_named(recipe, named):
    with pytest.raises(ValueError, match=named):
        complete_recipe(recipe)


def test_a_kind_may_stand_twice_only_with_other_parameters():
    two = [{"method": "accentuated", "params": {"level": level}} for level in (0.25, 0.75)]
    assert len(complete_recipe({"controls": two})["controls"]) == 2
    default = [{"method": "accentuated", "params": {}}]
    spelled = control_kinds.defaults("accentuated")
    twice = [*two, *default, {"method": "accentuated", "params": spelled}]
    with pytest.raises(
        DataError, match=r"recipe: controls\[3\]: kind 'accentuated'.*controls\[2\]"
    ):
        complete_recipe({"controls": twice})


def test_a_recipe_names_revisions_above_one(monkeypatch):
    from pipeline.imaging.motion import motion_methods
    from pipeline.mei.objectives import objectives

    before = complete_recipe()
    today = motion_methods.revision("rigid")
    monkeypatch.setitem(motion_methods._revisions, "rigid", today + 1)
    assert complete_recipe() == before  # it names the other method
    rigid = {"imaging": {"motion": {"method": "rigid"}}}
    after = complete_recipe(rigid)
    assert after["imaging"]["motion"]["revision"] == today + 1
    assert complete_recipe(after) == after
    check_recipe(after)
    with pytest.raises(DataError, match="revision 9 of motion method 'rigid' is not known"):
        complete_recipe({"imaging": {"motion": {"method": "rigid", "revision": 9}}})
    monkeypatch.setitem(motion_methods._revisions, "rigid", today + 2)
    with pytest.raises(DataError, match="'rigid' is no longer computed"):
        check_recipe(after)
    monkeypatch.setitem(objectives._revisions, "over_gaze", 2)
    with pytest.raises(DataError, match="over_gaze"):
        check_recipe(before)
    now = complete_recipe()
    kinds = {row["method"]: row for row in now["controls"]}
    assert kinds["gabor"]["revisions"] == {"objective over_gaze": 2}
    assert complete_recipe(now) == now
    check_recipe(now)
