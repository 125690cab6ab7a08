"""Several images of one kind for a neuron, from the plan to the verdict."""

import hashlib
import json

import numpy as np
import pandas as pd
import pytest

from pipeline.closed_loop.package.files import read_package, write_package
from pipeline.closed_loop.package.manifest import manifest_digest
from pipeline.closed_loop.planning.plan import plan_methods
from pipeline.closed_loop.verdict.outcome import analysis_plan, outcome_methods, sensitivity
from pipeline.closed_loop.verdict.outcome_file import load_outcome, save_outcome
from pipeline.errors import DataError
from pipeline.registry import canonical_json

NAMES = ("mei", "accentuated", "accentuated:1", "accentuated:2", "gabor", "gabor:1")


def own_images(names=NAMES, n=6):
    return {name: [f"{name}-{unit}" for unit in range(n)] for name in names}


@pytest.mark.parametrize("method", sorted(plan_methods))
def test_every_variant_of_every_target_is_planned(method):
    images = {**own_images(), "natural": ["n0", "n1"]}
    plan = plan_methods[method](images, minutes=30)
    shown = plan.trials.drop_duplicates("image").set_index("image")["kind"]
    expected = {image: name for name, ids in images.items() for image in ids}
    assert shown.to_dict() == expected
    assert plan.dropped == []


PLANS = {
    "balanced_blocks": "2b8a27eeafdd30d3",
    "shuffled": "325e9e16a3a2fe5b",
}


@pytest.mark.parametrize("method", PLANS)
def test_a_plan_of_one_image_a_kind_is_the_one_it_has_always_been(method):
    images = own_images(("mei", "fni", "gabor", "mni", "rf"))
    plan = plan_methods[method]({**images, "natural": ["n0", "n1", "n2"]}, minutes=8, seed=4)
    text = canonical_json(plan.trials.to_dict("list"))
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == PLANS[method]


def scored(names, seed=0, n=6, repeats=8):
    """Return an outcome of neurons whose response to a stimulus grows with its place in names."""
    rng = np.random.default_rng(seed)
    own = own_images(names, n)
    shown = [image for _ in range(repeats) for ids in own.values() for image in ids]
    strength = {image: 9.0 - row for row, ids in enumerate(own.values()) for image in ids}
    drive = np.array([strength[image] for image in shown])[:, None]
    responses = drive + rng.normal(0, 0.3, (len(shown), n))
    return outcome_methods["welch_bh"](responses, np.array(shown), own, n_bootstrap=50)


def test_variants_are_compared_one_by_one(tmp_path):
    outcome = scored(NAMES)
    assert outcome.kinds == list(NAMES)
    assert set(outcome.populations["kind"]) == set(NAMES[1:])
    median = outcome.populations.set_index("kind")["median_difference"]
    assert (np.diff(median[list(NAMES[1:])]) > 0).all()  # each differs more than the one before
    assert outcome.responses.groupby("kind").size().to_dict() == dict.fromkeys(NAMES, 6)
    assert set(sensitivity(outcome, np.ones(6), [0.5])["kind"]) == set(NAMES[1:])
    save_outcome(outcome, tmp_path / "outcome.npz")
    again = load_outcome(tmp_path / "outcome.npz")
    assert again.kinds == outcome.kinds
    pd.testing.assert_frame_equal(again.responses, outcome.responses)
    for name in NAMES:
        np.testing.assert_array_equal(
            again.confusions[name].matrix, outcome.confusions[name].matrix
        )


def test_the_frozen_analysis_names_every_variant():
    found = analysis_plan(NAMES)["comparisons"]
    assert found == [["mei", name] for name in NAMES[1:]]


@pytest.fixture
def two_gabors(contents):
    """The contents of a package in which the kind rf is a second image of the kind mei."""
    table = contents["images_table"]
    again = table["kind"] == "rf"
    table = table.assign(variant=again.astype(int))
    return {**contents, "images_table": table.assign(kind=table["kind"].mask(again, "mei"))}


def test_a_package_says_which_image_of_a_kind_is_which(tmp_path, two_gabors):
    package = read_package(write_package(tmp_path / "package", **two_gabors))
    table = package.images_table
    assert table[table["kind"] == "mei"].groupby("variant").size().to_dict() == {0: 3, 1: 3}
    assert set(package.manifest["luminance"]) == {"mei", "mei:1", "natural"}
    assert package.manifest["luminance"]["mei:1"]["n"] == 3


def test_a_package_without_the_column_has_first_images_only(tmp_path, contents):
    folder = write_package(tmp_path / "package", **contents)
    table = pd.read_csv(folder / "images.csv").drop(columns="variant")
    table.to_csv(folder / "images.csv", index=False)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["images.csv"] = hashlib.sha256(
        (folder / "images.csv").read_bytes()
    ).hexdigest()
    manifest["digest"] = manifest_digest(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    found = read_package(folder).images_table
    assert list(found.columns[:3]) == ["image", "kind", "variant"]
    assert set(found["variant"]) == {0}


@pytest.mark.parametrize("wrong", ["x", -1, 0.5])
def test_a_variant_that_is_no_number_is_refused(tmp_path, contents, wrong):
    table = contents["images_table"].assign(variant=0).astype({"variant": object})
    table.loc[2, "variant"] = wrong
    with pytest.raises(DataError, match=r"images.csv: variant: .*expected 0, 1"):
        write_package(tmp_path / "package", **{**contents, "images_table": table})


def test_two_images_of_one_kind_without_numbers_are_refused(tmp_path, two_gabors):
    table = two_gabors["images_table"].drop(columns="variant")
    with pytest.raises(DataError, match=r"images.csv: a unit has two images of one kind.*'mei'"):
        write_package(tmp_path / "package", **{**two_gabors, "images_table": table})
