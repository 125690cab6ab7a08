"""Recipes: what a loop decides before anything is computed."""

import pytest

from pipeline.errors import DataError
from pipeline.mei.controls import control_kinds
from pipeline.parameters import ParameterError
from schemas.decisions.recipe import RECIPES, check_recipe, complete_recipe


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


@pytest.mark.parametrize(
    ("recipe", "path"),
    [
        ({"mei": {"params": {"steps": "many"}}}, "recipe.mei.params.steps"),
        (
            {"mei": {"params": {"objective": {"name": "cautious", "weight": "x"}}}},
            "recipe.mei.params.objective.weight",
        ),
        ({"mei": {"params": ["steps"]}}, "recipe.mei.params"),
        ({"mei": {"starts": 0}}, "recipe.mei.starts"),
        ({"mei": {"batch_size": 2.5}}, "recipe.mei.batch_size"),
        ({"mei": {"norm": "large"}}, "recipe.mei.norm"),
        ({"mei": {"seed": -1}}, "recipe.mei.seed"),
        ({"mei": "constrained"}, "recipe.mei"),
        ({"mei": {"method": 3}}, "recipe.mei.method"),
        ({"imaging": {"motion": "rigid"}}, "recipe.imaging.motion"),
        (
            {"imaging": {"motion": {"params": {"max_shift_um": None}}}},
            "recipe.imaging.motion.params.max_shift_um",
        ),
        (
            {"imaging": {"deconvolution": {"params": {"indicator": "GCaMP9x"}}}},
            "recipe.imaging.deconvolution.params.indicator",
        ),
        (
            {"behavior": {"pupil": {"params": {"min_confidence": 3}}}},
            "recipe.behavior.pupil.params.min_confidence",
        ),
        ({"responses": {"min_soma_probability": 1.5}}, "recipe.responses.min_soma_probability"),
        ({"responses": {"min_snr": "high"}}, "recipe.responses.min_snr"),
        (
            {"responses": {"reliability": [{"params": {"min_images": "two"}}]}},
            "recipe.responses.reliability[0].params.min_images",
        ),
        ({"dataset": {"height_px": 0}}, "recipe.dataset.height_px"),
        (
            {"dataset": {"tiers": {"validation_fraction": 2}}},
            "recipe.dataset.tiers.validation_fraction",
        ),
        ({"dataset": {"tiers": [1]}}, "recipe.dataset.tiers"),
        ({"model": {"cnn": {"core": {"channels": "many"}}}}, "recipe.model.cnn.core.channels"),
        (
            {"model": {"ln": {"training": {"batch_size": True}}}},
            "recipe.model.ln.training.batch_size",
        ),
        ({"model": {"cnn": []}}, "recipe.model.cnn"),
        ({"model": {"cnn_seeds": 4}}, "recipe.model.cnn_seeds"),
        ({"model": {"cnn_seeds": [1, "2"]}}, "recipe.model.cnn_seeds"),
        ({"model": {"ln_seeds": []}}, "recipe.model.ln_seeds"),
        ({"model": {"max_seconds": 0}}, "recipe.model.max_seconds"),
        ({"controls": "mei"}, "recipe.controls"),
        ({"controls": ["mei"]}, "recipe.controls[0]"),
        (
            {"controls": [{"method": "gabor", "params": {"orientations": "8"}}]},
            "recipe.controls[0].params.orientations",
        ),
        (
            {"controls": [{"method": "gabor", "params": {"objective": "beauty"}}]},
            "recipe.controls[0].params.objective",
        ),
        (
            {
                "controls": [
                    {"method": "mei"},
                    {"method": "rf", "params": {"params": {"steps": "x"}}},
                ]
            },
            "recipe.controls[1].params.params.steps",
        ),
        (
            {"analyses": [{"method": "stability", "params": {"inside": "half"}}]},
            "recipe.analyses[0].params.inside",
        ),
        ({"pool": "natural"}, "recipe.pool"),
        ({"plan": {"n_natural": -1}}, "recipe.plan.n_natural"),
        ({"plan": {"params": {"blank_s": [0.3]}}}, "recipe.plan.params.blank_s"),
        ({"match": {"min_probability": 7}}, "recipe.match.min_probability"),
        ({"match": {"through": "wall"}}, "recipe.match.through"),
        ({"outcome": {"params": {"normalization": "log"}}}, "recipe.outcome.params.normalization"),
        ({"control_seed": 0.5}, "recipe.control_seed"),
        (["mei"], "recipe"),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_its_path(recipe, path):
    with pytest.raises(ParameterError) as caught:
        complete_recipe(recipe)
    text = str(caught.value)
    assert text.startswith((f"{path}:", f"{path} ("))
    assert ": found " in text
    assert "; expected " in text
    assert "\n" not in text


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_complete_recipe_is_its_own_completion(name):
    full = complete_recipe(RECIPES[name]())
    assert complete_recipe(full) == full


@pytest.mark.tables
@pytest.mark.parametrize("name", sorted(RECIPES))
def test_the_file_that_the_report_writes_is_the_recipe_again(database, tmp_path, name):
    from schemas.closed_loop import Recipe
    from workers.commands.common import recipe_of
    from workers.report.context import LoopPage

    key = Recipe.add(name)
    page = object.__new__(LoopPage)
    page.out, page.stem = tmp_path, "loop1"
    page.recipe = (Recipe & key).fetch1("recipe")
    file = page.write_recipe()
    assert Recipe.add(recipe_of(str(tmp_path / file))) == key


@pytest.mark.tables
def test_a_recipe_of_an_earlier_version_is_found_by_its_content(database):
    from pipeline.registry import config_hash
    from schemas.closed_loop import Recipe

    old = complete_recipe()
    del old["model"]["combination"]  # as before there was one
    key = {"recipe_hash": config_hash(old)}
    Recipe.insert1({**key, "recipe": old})
    assert Recipe.add(old) == key
