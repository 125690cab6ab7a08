"""What can be chosen, from the command line: methods with their parameters, and recipes."""

import json

import pytest
from typer.testing import CliRunner

from pipeline.catalog import catalog
from schemas.decisions.recipe import REGISTRIES, complete_recipe
from workers.cli import app


def inception(*arguments):
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return done.exit_code, done.output


@pytest.fixture(scope="module")
def rows():
    return catalog()


def test_every_method_of_a_recipe_is_listed_with_its_default(rows):
    listed = {(row["kind"], row["name"]): row for row in rows}
    for registry in REGISTRIES.values():
        for name in registry:
            row = listed[registry.kind, name]
            assert row["default"] == (registry.has_default and name == registry.default)
            assert row["revision"] == registry.revision(name)
            assert {p["name"] for p in row["params"]} == set(registry.defaults(name))


def test_every_method_and_every_parameter_says_what_it_is(rows):
    silent = [
        (row["kind"], row["name"], parameter["name"])
        for row in rows
        for parameter in row["params"]
        if not parameter["text"]
    ]
    assert not silent
    assert all(row["summary"] for row in rows)


def test_methods_of_a_stage_are_short_and_those_of_a_kind_have_parameters():
    code, said = inception("methods", "imaging")
    assert code == 0
    assert "network (default" in said
    assert "smoothing_frames" not in said
    code, said = inception("methods", "deconvolvers")
    assert code == 0
    assert "smoothing_frames = 1.0: Standard deviation of the Gaussian (frames)." in said
    assert max(map(len, said.splitlines())) <= 100


def test_every_kind_is_found_by_its_name(rows):
    for kind in {row["kind"] for row in rows}:
        assert {row["kind"] for row in catalog(kind)} == {kind}


def test_an_unknown_stage_is_refused_with_those_that_there_are():
    done = CliRunner().invoke(app, ["methods", "imagin"])
    assert isinstance(done.exception, ValueError)
    assert "'imaging'" in str(done.exception)


def test_a_shown_recipe_is_a_file_that_checks_as_the_default(tmp_path):
    code, said = inception("recipe", "show", "default")
    assert code == 0
    assert json.loads(said) == complete_recipe()
    (tmp_path / "mine.json").write_text(said)
    code, said = inception("recipe", "check", tmp_path / "mine.json")
    assert code == 0
    assert "is the default" in said


def test_a_recipe_says_what_it_changes_and_refuses_what_it_cannot_mean(tmp_path):
    file = tmp_path / "mine.json"
    file.write_text(json.dumps({"mei": {"params": {"steps": 50}}, "plan": {"n_natural": 3}}))
    code, said = inception("recipe", "check", file)
    assert code == 0
    assert "changes 2 entries" in said
    assert "mei.params.steps: 100 -> 50" in said
    code, said = inception("recipe", "diff", "default", file, "--json")
    assert {change["path"] for change in json.loads(said)} == {
        "mei.params.steps",
        "plan.n_natural",
    }
    file.write_text(json.dumps({"mei": {"params": {"steps": "many"}}}))
    done = CliRunner().invoke(app, ["recipe", "check", str(file)])
    assert "recipe.mei.params.steps" in str(done.exception)


@pytest.mark.tables
def test_a_stored_recipe_is_shown_by_its_hash(database, ledger, _bound, monkeypatch):  # noqa: PT019
    from schemas.closed_loop import Recipe

    _, home, prefix = _bound
    monkeypatch.setenv("INCEPTION_HOME", str(home))
    key = Recipe.add({"plan": {"n_natural": 5}})
    shown = ["recipe", "show", key["recipe_hash"], "--prefix", prefix]
    code, said = inception(*shown)
    assert code == 0, said
    assert json.loads(said)["plan"]["n_natural"] == 5
    done = CliRunner().invoke(app, ["recipe", "diff", "default", "0123", "--prefix", prefix])
    assert "no recipe '0123'" in str(done.exception)
