"""Several images of one kind for a neuron, through all tables; what a plan leaves out is told."""

import json

import numpy as np
import pandas as pd
import pytest
from known_neurons import populate, trained_for, walk

from pipeline.closed_loop.planning.plan import plan_methods
from pipeline.stimulus.kinds import name_of

pytestmark = pytest.mark.tables

BANK = {"wavelengths_px": [12], "sigmas_px": [4], "n_dy": 3, "n_dx": 3, "orientations": 2}
CONTROLS = [
    {"method": "mei", "params": {}},
    {"method": "rf", "params": {}},
    {"method": "gabor", "params": {**BANK, "refine": 0}},
    {"method": "mni", "params": {}},
    {"method": "fni", "params": {}},
    {"method": "accentuated", "params": {"level": 0.25}},
    {"method": "accentuated", "params": {"level": 0.75}},
    {"method": "jittered", "params": {"distance_px": 3.0}},
    {"method": "jittered", "params": {"distance_px": 9.0}},
    {"method": "jittered", "params": {"distance_px": 6.0}},
    {"method": "phase_scrambled", "params": {}},
]
NAMES = {
    "mei",
    "rf",
    "gabor",
    "mni",
    "fni",
    "accentuated",
    "accentuated:1",
    "jittered",
    "jittered:1",
    "jittered:2",
    "phase_scrambled",
}


@pytest.fixture(scope="module")
def loop(_bound, tmp_path_factory):
    """Both days of an animal whose neurons get eleven images each, all tables filled."""
    from workers.database import embedded

    database, home, _ = _bound
    embedded.connect(home)
    ascent = {"method": "constrained", "params": {"steps": 20}, "starts": 1, "batch_size": 4}
    recipe = {**trained_for(5), "controls": CONTROLS, "mei": ascent}
    folder = tmp_path_factory.mktemp("variants")
    day1, made, day2, _ = walk(database, folder, 81, recipe, targets=4, minutes=9)
    populate(database, 81)
    return {"day1": day1, "day2": day2, "plan": {"plan_id": made["plan_id"]}}


def test_figure_s6_is_drawn_for_every_image_of_the_kind_mei(loop, tmp_path, monkeypatch):
    from pipeline import plotting
    from schemas import closed_loop
    from workers.report import day2
    from workers.report.context import LoopPage

    (outcome,) = (closed_loop.Outcome & loop["day2"]).keys()
    page = LoopPage((closed_loop.Loop & loop["day1"]).fetch1(), tmp_path, "loop")
    drawn, draw = [], plotting.confusion_figure

    def kept(matrix, **named):
        drawn.append((matrix, named["labels"]))
        return draw(matrix, **named)

    monkeypatch.setattr(plotting, "confusion_figure", kept)
    stored = closed_loop.Confusion.Kind & outcome
    (first,) = (stored & {"kind": "mei"}).to_dicts()
    second = (stored & {"kind": "jittered", "variant": 1}).fetch1("matrix").load()
    own = (closed_loop.Outcome.Unit & outcome & {"kind": "jittered", "variant": 1}).to_dicts()
    connection = closed_loop.schema.connection
    connection.start_transaction()
    try:
        stored_kind = closed_loop.Confusion.Kind
        stored_kind.insert1({**first, "variant": 1, "matrix": second}, allow_direct_insert=True)
        closed_loop.Outcome.Unit.insert(
            [{**row, "kind": "mei"} for row in own], allow_direct_insert=True
        )
        pictures = day2._confusions(page, outcome, "day2")
    finally:
        connection.cancel_transaction()
    assert [picture.file for picture in pictures] == [
        "loop_day2_confusion.png",
        "loop_day2_confusion1.png",
    ]
    assert pictures[1].title == "Figure S6: every neuron's response to every MEI (2)"
    np.testing.assert_allclose(drawn[0][0], first["matrix"].load().T)
    np.testing.assert_allclose(drawn[1][0], second.T)
    units = (closed_loop.Confusion & outcome).fetch1("unit_index_list")
    assert drawn[0][1] == drawn[1][1] == [page.name_of_unit(unit) for unit in units]


def names(part):
    return {name_of(row) for row in part.to_dicts()}


def asked(plan):
    """Return every stimulus of a plan's tasks: (unit_index, kind, variant), one a target."""
    from schemas import closed_loop, mei

    found = []
    for task in (closed_loop.PlanTask.Display & plan).to_dicts():
        kind = (mei.ControlMethod & task).fetch1("control_method")
        first, last = (mei.MEITask & task).fetch1("first_rank", "last_rank")
        targets = mei.Targets.Unit & task & {"kept": True}
        ranks = {row["target_rank"]: row["unit_index"] for row in targets.to_dicts()}
        units = [unit for rank, unit in ranks.items() if first <= rank <= last]
        found += [(unit, kind, task["variant"]) for unit in units or [None]]
    return found


def planned(plan):
    from schemas import closed_loop

    rows = (closed_loop.Plan.Target & plan).to_dicts()
    return [(row["unit_index"], row["kind"], row["variant"]) for row in rows]


def check_dropped(plan):
    """Assert that a plan's `dropped` is what it asks for without what it plans; return it."""
    from schemas import closed_loop, dataset

    row = (closed_loop.Plan & plan).fetch1()
    dropped = row["dropped"]
    assert json.loads(json.dumps(dropped)) == dropped
    for entry in dropped:
        assert set(entry) == {"unit_index", "unit_id", "kind", "variant", "image_hash", "reason"}
        assert entry["reason"]
    mine = [entry for entry in dropped if entry["kind"] != "natural"]
    left = [(entry["unit_index"], entry["kind"], entry["variant"]) for entry in mine]
    assert sorted(map(repr, left + planned(plan))) == sorted(map(repr, asked(plan)))
    data = {"dataset_hash": (closed_loop.Plan.Target & plan).to_arrays("dataset_hash")[0]}
    units = (dataset.Dataset.Unit & data).to_dicts()
    labels = {unit["unit_index"]: unit["unit_id"] for unit in units}
    assert all(labels.get(entry["unit_index"]) == entry["unit_id"] for entry in mine)
    scan = {
        name: (closed_loop.PlanTask & plan).fetch1(name)
        for name in ("animal_id", "session", "scan_idx", "n_natural")
    }
    wanted = closed_loop.Plan._natural(
        {name: scan[name] for name in ("animal_id", "session", "scan_idx")}, scan["n_natural"]
    )
    shown = set((closed_loop.Plan.Image & plan).to_arrays("image_hash").tolist())
    natural = [entry["image_hash"] for entry in dropped if entry["kind"] == "natural"]
    assert sorted(natural) == sorted(set(wanted) - shown)
    return dropped


@pytest.fixture(scope="module")
def replanned(_bound, loop):
    """Keys of the plans made anew, deleted together: one walk through all that hangs on them."""
    from schemas import closed_loop
    from workers.database import embedded

    made = []
    yield made
    embedded.connect(_bound[1])
    (closed_loop.PlanTask & made).delete(prompt=False)


@pytest.fixture
def replan(database, loop, replanned):
    """Return a function that plans the loop's displays anew."""
    from schemas import closed_loop

    def plan(name, params=None, more=()):
        first = (closed_loop.PlanTask & loop["plan"]).fetch1()
        method = closed_loop.PlanMethod.add(name, {"minutes": 9, **(params or {})})
        key = {"plan_id": f"variant{len(replanned):09d}"}
        replanned.append(key)
        closed_loop.PlanTask.insert1({**first, **method, **key})
        displays = (closed_loop.PlanTask.Display & loop["plan"]).to_dicts()
        rows = [{**row, **key} for row in [*displays, *more]]
        closed_loop.PlanTask.Display.insert(rows, ignore_extra_fields=True)
        closed_loop.Plan.populate(key, suppress_errors=False)
        return key

    return plan


def test_every_image_of_every_kind_is_planned(database, loop):
    from schemas import closed_loop, mei

    units = set((closed_loop.Plan.Target & loop["plan"]).to_arrays("unit_index").tolist())
    assert len(units) == 4
    wanted = {(unit, name) for unit in units for name in NAMES}
    dropped = check_dropped(loop["plan"])
    out = {(entry["unit_index"], name_of(entry)) for entry in dropped}
    rows = (closed_loop.Plan.Target & loop["plan"]).to_dicts()
    assert {(row["unit_index"], name_of(row)) for row in rows} == wanted - out
    assert names(closed_loop.Plan.Target & loop["plan"]) == NAMES
    levels = {}
    own = mei.ControlTask & (closed_loop.PlanTask.Display & loop["plan"]).proj()
    for row in (own * mei.ControlMethod & {"control_method": "accentuated"}).to_dicts():
        levels[row["variant"]] = row["control_params"]["level"]
    assert levels == {0: 0.25, 1: 0.75}


def test_every_image_of_every_kind_is_packaged(database, loop, tmp_path):
    from pipeline.closed_loop.package.files import read_package
    from schemas import closed_loop
    from workers.package import write

    write(loop["day1"], tmp_path / "package")
    package = read_package(tmp_path / "package")
    table = package.images_table.dropna(subset=["unit_id"])
    rows = (closed_loop.Plan.Target & loop["plan"]).to_dicts()
    found = sorted(zip(table["image"], table["kind"], table["variant"], strict=True))
    assert found == sorted((row["image_hash"], row["kind"], row["variant"]) for row in rows)
    assert set(package.manifest["luminance"]) == NAMES | {"natural"}
    frozen = package.manifest["analysis"]["comparisons"]
    assert {control for _, control in frozen} == NAMES - {"mei"}
    assert package.manifest["dropped"] == (closed_loop.Plan & loop["plan"]).fetch1("dropped")


def test_every_image_of_every_kind_is_scored(database, loop):
    from schemas import closed_loop

    day = loop["day2"]
    units = pd.DataFrame((closed_loop.Outcome.Unit & day).to_dicts())
    targets = pd.DataFrame((closed_loop.Plan.Target & loop["plan"]).to_dicts())
    joined = units.merge(targets, on=["unit_index", "kind", "variant"], suffixes=("", "_planned"))
    assert len(joined) == len(units)
    assert (joined["image_hash"] == joined["image_hash_planned"]).all()
    assert (joined["predicted"] == joined["predicted_planned"]).all()
    assert len(units) == len(targets[targets["unit_index"].isin(units["unit_index"])])
    for part in (closed_loop.Outcome.Unit, closed_loop.Confusion.Kind, closed_loop.Prediction.Kind):
        assert names(part & day) == NAMES, part.__name__
    for part in (
        closed_loop.Comparison.Unit,
        closed_loop.Population.Kind,
        closed_loop.Sensitivity.Threshold,
        closed_loop.PooledOutcome.Kind,
    ):
        assert names(part & day) == NAMES - {"mei"}, part.__name__
    raw = units[units["kind"] == "accentuated"].pivot(
        index="unit_index", columns="variant", values="raw_mean"
    )
    assert (raw[1] > raw[0]).mean() >= 0.75  # three quarters of the MEI's response, and a quarter


def test_galleries_and_predictions_have_a_column_a_stimulus(database, loop):
    from schemas import closed_loop, mei

    targets = (closed_loop.Plan.Target & loop["plan"]).to_dicts()
    units = [{name: row[name] for name in ("dataset_hash", "unit_index")} for row in targets]
    shown = mei.gallery(units)
    assert set(shown["images"]) == NAMES
    assert list(shown["images"])[:5] == ["mei", "rf", "gabor", "mni", "fni"]
    displays = (mei.DisplayTask & (closed_loop.PlanTask.Display & loop["plan"])).keys()
    assert set(mei.predicted_activation(displays).columns) == NAMES


def test_what_has_no_time_is_dropped_by_unit_kind_and_variant(loop, replan):
    plan = replan("balanced_blocks", {"repeats": 20, "pooled_fraction": 0.1})
    dropped = check_dropped(plan)
    late = [entry for entry in dropped if entry["reason"] == "no time"]
    assert {entry["unit_index"] for entry in late} - {None}
    assert {name_of(entry) for entry in late} == NAMES | {"natural"}
    assert all(entry["image_hash"] for entry in late)


def test_what_cannot_be_shown_is_dropped_with_its_reason(loop, replan):
    from schemas import closed_loop, mei

    best, *_, last = (closed_loop.Plan.Target & loop["plan"] & {"kind": "mei"}).to_dicts(
        order_by="target_rank"
    )
    displays = mei.Display.Image & (closed_loop.PlanTask.Display & loop["plan"]).proj()
    spoiled = [
        *(displays & {"unit_index": best["unit_index"], "kind": "mei"}).to_dicts(),
        *(displays & {"unit_index": last["unit_index"], "kind": "jittered"}).to_dicts(),
    ]
    assert len(spoiled) == 4
    try:
        for row in spoiled:
            mei.Display.Image.update1({**row, "ok": False, "reason": "too bright"})
        dropped = check_dropped(replan("balanced_blocks"))
    finally:
        for row in spoiled:
            mei.Display.Image.update1(row)
    why = {(entry["unit_index"], name_of(entry)): entry["reason"] for entry in dropped}
    assert why[best["unit_index"], "mei"] == "not displayable: too bright"
    assert "its MEI cannot be shown" in why[best["unit_index"], "accentuated:1"]
    for name in ("jittered", "jittered:1", "jittered:2"):
        assert why[last["unit_index"], name] == "not displayable: too bright"


def test_what_a_plan_method_leaves_out_in_silence_is_dropped(loop, replan, monkeypatch):
    def picky(images_by_kind, *, minutes: float = 60.0):
        kept = {name: ids for name, ids in images_by_kind.items() if name != "jittered:1"}
        kept["natural"] = kept["natural"][1:]
        return plan_methods["shuffled"](kept, minutes=minutes)

    monkeypatch.setitem(plan_methods._functions, "picky", picky)
    monkeypatch.setitem(plan_methods._revisions, "picky", 1)
    dropped = check_dropped(replan("picky"))
    silent = [entry for entry in dropped if entry["reason"].startswith("left out by")]
    assert [name_of(entry) for entry in silent] == ["jittered:1"] * 4 + ["natural"]


def test_of_two_displays_of_one_stimulus_the_other_is_dropped(loop, replan):
    from schemas import closed_loop, mei

    row = (
        (closed_loop.PlanTask.Display * mei.ControlMethod) & loop["plan"] & {"control_method": "rf"}
    ).to_dicts()[0]
    task = (mei.DisplayTask & row).fetch1()
    params = (mei.DisplayMethod & task).fetch1("display_params")
    method = mei.DisplayMethod.add(None, {**params, "sd_cd_m2": 0.8 * params["sd_cd_m2"]})
    other = {**task, **method}
    mei.DisplayTask.insert1(other)
    mei.Display.populate(other, suppress_errors=False)
    plan = replan("balanced_blocks", more=[{**row, **method}])
    dropped = check_dropped(plan)
    twice = [entry for entry in dropped if entry["reason"].startswith("another image")]
    assert [name_of(entry) for entry in twice] == ["rf"] * len(twice)
    assert len(twice) == 4


def test_a_kind_without_any_target_is_dropped_by_name(database, loop, replan):
    from schemas import closed_loop, mei

    row = (closed_loop.PlanTask.Display & loop["plan"]).to_dicts()[0]
    task = (mei.MEITask & row).fetch1()
    late = {"batch": 90, "first_rank": 90, "last_rank": 95}
    control = {**mei.ControlMethod.add("spectrum_noise"), "variant": 0, "seed": 0}
    mei.MEITask.insert1({**task, **late})
    mei.MaskTask.insert1({**(mei.MaskTask & row).fetch1(), "batch": 90})
    seeded = {**(mei.MaskTask & row).fetch1(), "batch": 90, **control}
    mei.ControlTask.insert1(seeded)
    shown = {**(mei.DisplayTask & row).fetch1(), "batch": 90, **control}
    mei.DisplayTask.insert1(shown, ignore_extra_fields=True)
    for table in (mei.MEI, mei.Mask, mei.Control, mei.Display):
        table.populate({"batch": 90}, suppress_errors=False)
    plan = replan("balanced_blocks", more=[shown])
    empty = [entry for entry in check_dropped(plan) if entry["unit_index"] is None]
    assert [
        (name_of(entry), entry["reason"]) for entry in empty if entry["image_hash"] is None
    ] == [("spectrum_noise", "no target has an image of this kind")]
