"""A report of one loop and of two draws what the tables hold."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from known_neurons import UNITS, populate, trained_for, walk

pytestmark = pytest.mark.tables


def test_a_report_tells_of_the_plan_that_was_shown(database, loop, tmp_path):
    from schemas import closed_loop
    from workers.report.context import LoopPage

    first = (closed_loop.PlanTask & loop["plan"]).fetch1()
    later = {"plan_id": "f" * 16}  # by hash
    closed_loop.PlanTask.insert1({**first, **later, "n_natural": 3})
    try:
        mine = {name: first[name] for name in closed_loop.Loop.primary_key}
        told = LoopPage((closed_loop.Loop & mine).fetch1(), tmp_path, "loop")
        assert told.plan == loop["plan"]
        assert len(told.targets)
    finally:
        (closed_loop.PlanTask & later).delete(prompt=False)


def test_the_report_of_a_loop_draws_what_its_tables_hold(database, ledger, loop, tmp_path, drawn):
    from schemas import closed_loop, dataset, mei
    from workers.report import write_report

    here = dataset.Dataset.Unit & (dataset.DatasetSpec.Scan & loop["day1"])
    batches = mei.MaskTask & (mei.Targets.Unit & here)
    for name in ("stability", "linearised"):
        method = mei.AnalysisMethod.add(name)
        tasks = ({**key, **method} for key in batches.to_dicts())
        mei.AnalysisTask.insert(tasks, skip_duplicates=True)
    mei.Analysis.populate(suppress_errors=False)
    found = write_report(tmp_path, scans=[loop["day1"]], pdf=False, numbers=False)
    missing = {line.split(":")[0] for line in found["missing"]}
    assert not missing & {
        "Figure 1",
        "Figure 2",
        "Figure 3",
        "Figure 4",
        "Figure S1a",
        "Figure S4",
        "Figure S5",
        "Figure S6",
        "Figure S8",
        "Figure S10",
        "Figure S11",
    }
    page = (tmp_path / "index.html").read_text()
    for figure in found["figures"]:
        assert figure in page
    targets = pd.DataFrame((closed_loop.Plan.Target & loop["plan"]).to_dicts())
    n = targets["unit_index"].nunique()
    # S11: every image of every target
    ((_, sheet),) = drawn["stimuli_sheet_figure"]
    assert len(sheet["labels"]) == len(set(sheet["labels"])) == n
    assert sum(image is not None for row in sheet["images"].values() for image in row) == len(
        targets
    )
    # S6: rows are neurons, columns their images
    stored = (closed_loop.Confusion.Kind & loop["day2"] & {"kind": "mei"}).fetch1("matrix").load()
    (((matrix,), named),) = drawn["confusion_figure"]
    np.testing.assert_allclose(matrix, stored.T)
    assert len(named["labels"]) == len(stored)
    assert set(named["labels"]) <= set(sheet["labels"])  # one name for a neuron
    # Figure 1: the test tier, repeats averaged
    (((measured, predicted), named),) = drawn["held_out_responses_figure"]
    row = (dataset.Dataset & (dataset.DatasetSpec.Scan & loop["day1"])).fetch1()
    data = dataset.load_dataset(row["dataset_file"])
    assert measured.shape == predicted.shape == (20, min(6, n))
    assert set(named["labels"]) <= set(sheet["labels"])
    test = data.trials("test")
    means = {
        name: data.responses[test][data.image_id[test] == name].mean(0)
        for name in np.unique(data.image_id[test])
    }
    every = np.stack(list(means.values()))
    for neuron in range(measured.shape[1]):
        distance = np.abs(every - measured[:, [neuron]]).max(0)
        assert distance.min() < 1e-4  # it is one of the units, image by image
    assert (
        np.median([np.corrcoef(m, p)[0, 1] for m, p in zip(measured.T, predicted.T, strict=True)])
        > 0.5
    )
    ((scheme,), _) = drawn["scheme_figure"][0]
    assert scheme["responses"] == f"{UNITS} neurons"
    assert scheme["verdict"] == f"{found['loops'][0]['n_scored']} neurons scored"


def test_the_report_pools_no_other_recording_than_those_of_the_pooled_outcome(database, loop):
    from schemas import closed_loop
    from workers.report.day2 import _pooled

    (outcome,) = (closed_loop.Outcome & loop["day2"]).keys()
    units, matrix, days = _pooled(outcome)
    stored = (closed_loop.Confusion.Kind & outcome & {"kind": "mei"}).fetch1("matrix").load()
    assert units == (closed_loop.Confusion & outcome).fetch1("unit_index_list")
    np.testing.assert_allclose(matrix, stored)
    assert days == [outcome]


def test_the_report_of_two_animals_says_which_is_which_and_pools_them(
    database, ledger, loop, tmp_path
):
    from schemas import closed_loop
    from workers.report import write_report

    kinds = ("mei", "rf")
    recipe = {**trained_for(3), "controls": [{"method": kind, "params": {}} for kind in kinds]}
    few = {"count": 120, "repeated": 8, "targets": 6, "minutes": 4}
    other, *_ = walk(database, tmp_path, 78, recipe, **few)
    populate(database, 78)
    out = tmp_path / "report"
    found = write_report(out, scans=[loop["day1"], other])
    assert [row["scan"] for row in found["loops"]] == ["77/1/1", "78/1/1"]
    page = (out / "index.html").read_text()
    for title in (
        "Loop 1 on 77/1/1",
        "Loop 2 on 78/1/1",
        "Loop 1: Targets",
        "Loop 2: Targets",
        "All animals together",
    ):
        assert f"{title}</h2>" in page
    for figure in (name for name in found["figures"] if name.startswith("loop")):
        whose = "Loop 1, 77/1/1." if figure.startswith("loop1_") else "Loop 2, 78/1/1."
        assert whose in page
    assert len(set(found["figures"])) == len(found["figures"])  # none overwrites another
    table = pd.read_csv(out / "animals.csv").set_index("kind")
    assert table.loc["rf", "n_animals"] == 2
    assert list(table.index) == ["rf"]  # the second animal has no other images
    parts = (closed_loop.Population.Kind & {"kind": "rf"}).to_dicts(order_by="session")
    newest = {row["animal_id"]: row["n_neurons"] for row in parts}
    assert table.loc["rf", "n_neurons"] == newest[77] + newest[78]
    assert any(line.startswith("Loop 2, Figure") for line in found["missing"])


def test_a_second_recording_of_a_plan_is_pooled_by_its_repeats_in_figure_s6(
    database, loop, tmp_path
):

    from schemas import closed_loop
    from schemas.decisions.ingest import ingest_bundle
    from workers.report.day2 import _pooled

    folder = tmp_path / "again"
    shutil.copytree(loop["folder"] / "day2", folder)
    path = folder / "recording.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "session": 6}))
    trials = pd.read_csv(folder / "trials.csv")
    trials[: len(trials) // 2].to_csv(folder / "trials.csv", index=False)
    again = ingest_bundle(folder)
    populate(database, again["animal_id"])
    (first,) = (closed_loop.Outcome & loop["day2"]).keys()
    (second,) = (closed_loop.Outcome & again).keys()
    units, pooled, days = _pooled(second)
    answers = closed_loop.Outcome & (closed_loop.Presentation & loop["plan"]).proj()
    assert days == answers.keys(order_by=["session", "scan_idx"])
    assert first in days
    assert days[-1] == second
    total, count = {}, {}
    for day in days:
        names = (closed_loop.Confusion & day).fetch1("unit_index_list")
        matrix = (closed_loop.Confusion.Kind & day & {"kind": "mei"}).fetch1("matrix").load()
        for row, image in enumerate(names):
            key = {"unit_index": image, "kind": "mei"}
            n = (closed_loop.Outcome.Unit & day & key).fetch1("n_repeats")
            for column, neuron in enumerate(names):
                pair = image, neuron
                total[pair] = total.get(pair, 0) + n * matrix[row, column]
                count[pair] = count.get(pair, 0) + n
    for (image, neuron), value in total.items():
        place = units.index(image), units.index(neuron)
        assert pooled[place] == pytest.approx(value / count[image, neuron])
    assert _pooled(first)[2] == [first]  # of what came later nothing is told
