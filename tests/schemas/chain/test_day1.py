"""From the traces of day 1 to images: what the known neurons must give."""

import numpy as np
import pytest
from known_neurons import RECIPE, SHAPE, UNITS, drive, filters

from pipeline.errors import DataError

pytestmark = pytest.mark.tables


def test_registering_again_changes_nothing(database, loop):
    from schemas import closed_loop, mei
    from schemas.decisions import tasks

    before = len(mei.DisplayTask()), len(closed_loop.PlanTask())
    assert tasks.register_loop(loop["day1"], RECIPE, targets=10, minutes=8) == loop["made"]
    assert (len(mei.DisplayTask()), len(closed_loop.PlanTask())) == before


def test_other_numbers_of_a_task_that_exists_are_refused(database, loop):
    """Their results would be the former ones."""
    from schemas import closed_loop
    from schemas.decisions import tasks

    before = len(closed_loop.Loop()), len(closed_loop.PlanTask())
    for other in ({"mei": {**RECIPE.get("mei", {}), "seed": 99}}, {"control_seed": 99}):
        with pytest.raises(DataError, match=r"tasks of mei.* were decided before.*found .*seed"):
            tasks.register_loop(
                loop["day1"], {**RECIPE, **other}, targets=10, minutes=8, again=True
            )
    assert (len(closed_loop.Loop()), len(closed_loop.PlanTask())) == before


def test_a_loop_on_no_scan_is_refused(database):
    from schemas.decisions import tasks

    with pytest.raises(DataError, match="no such scan"):
        tasks.register_loop({"animal_id": 99999, "session": 1, "scan_idx": 1})


def test_responses_follow_the_known_drive(database, loop):
    from schemas import dataset, stimulus

    responses = (dataset.Responses & loop["day1"]).fetch1("responses").load()
    hashes = (stimulus.Trial & loop["day1"]).to_arrays("image_hash", order_by="trial_idx")
    pixels = stimulus.load_images(stimulus.ImageSet.locate(hashes.tolist()))
    truth = drive(np.stack([np.asarray(pixels[name]) for name in hashes]))
    assert responses.shape == truth.shape
    for unit in range(UNITS):
        assert np.corrcoef(responses[:, unit], truth[:, unit])[0, 1] > 0.8


def test_no_image_is_in_two_tiers_and_repeats_are_test(database, loop):
    from schemas import dataset

    row = (dataset.Dataset & (dataset.DatasetSpec.Scan & loop["day1"])).fetch1()
    assert row["n_test"] == 80
    assert row["n_train"] + row["n_validation"] == 400
    data = dataset.load_dataset(row["dataset_file"])
    train = set(data.image_id[data.trials("train")])
    assert not train & set(data.image_id[data.trials("test")])


def test_meis_look_like_the_true_filters(database, loop):
    from schemas import dataset, mei

    truth = filters()
    here = dataset.Dataset.Unit & (dataset.DatasetSpec.Scan & loop["day1"])
    rows = (mei.MEI.Unit & here).to_dicts()
    assert len(rows) == len(mei.Targets.Unit & here & {"kept": True}) >= 6
    sizes = sorted((mei.MEI & (mei.Targets.Unit & here)).to_arrays("n_units"))
    assert sizes[0] == 0  # ten were asked for and there are eight neurons: the last batch is empty
    labels = {r["unit_index"]: r["label"] for r in here.to_dicts()}
    similarity = []
    for row in rows:
        image = (mei.MEI & row).fetch1("images").load()[row["image_row"]]
        deviation = image - image.mean()
        cosine = (deviation * truth[labels[row["unit_index"]] - 1]).sum()
        similarity.append(cosine / np.linalg.norm(deviation))
    assert np.median(similarity) > 0.6


def test_targets_say_what_is_expected_of_them_and_how_well_it_is_known(database, loop):
    from schemas import dataset, mei

    here = dataset.Dataset.Unit & (dataset.DatasetSpec.Scan & loop["day1"])
    rows = (mei.Targets.Unit & here & {"kept": True}).to_dicts()
    measured, expected = (np.array([r[n] for r in rows]) for n in ("measured", "expected"))
    assert np.abs(measured - expected).max() < 0.2
    assert expected.min() > 0.1
    assert all(0 < r["expected_se"] < 0.2 and 0 < r["contrast_se"] < 0.2 for r in rows)
    assert all(r["contrast"] is not None for r in rows)


def test_meis_are_made_from_both_kinds_of_models_combined(database, loop):
    from schemas import closed_loop, model

    shown = (closed_loop.PlanTask.Display & loop["plan"]).to_dicts()
    (maker,) = {row["ensemble_hash"] for row in shown}
    key = {"ensemble_hash": maker}
    spec = model.EnsembleSpec & key
    assert spec.fetch1("ensemble_kind") == "combined"
    assert len(model.EnsembleSpec.Member & spec) == 2
    for kind in ("cnn", "ln"):
        plain = model.EnsembleSpec.of_kind(key, kind)
        assert (model.EnsembleSpec & plain).fetch1("ensemble_kind") == kind
        assert len(model.EnsembleSpec.Member & plain) == 1
        assert model.Evaluation & plain
    np.testing.assert_allclose((model.MemberShares & key).fetch1("shares").load().sum(0), 1)
    assert model.EnsembleSpec.of_kind(key, "gru") is None


def test_what_combined_them_is_explained_and_foreseen(database, ledger, loop):
    from schemas import closed_loop, mei, model
    from workers.insight import ancestry, remaining
    from workers.queue import order as plan
    from workers.queue.lease import Ledger

    connection, prefix = mei.schema.connection, mei.schema.database.removesuffix("_mei")
    known, loaded = Ledger(connection), plan.load("schemas", prefix)
    display = (closed_loop.PlanTask.Display & loop["plan"]).to_dicts()[0]
    key = {name: display[name] for name in mei.MEI.primary_key}
    shares = {"ensemble_hash": key["ensemble_hash"]}
    steps = ancestry.ancestry(known, loaded, "mei.MEI", key)
    (found,) = (step["rows"] for step in steps if step["table"] == "model.MemberShares")
    assert [row["key"] for row in found] == [shares]

    def left() -> int:
        counted, _ = remaining.remaining(known, loaded, loop["plan"])
        return {task.name: jobs for task, jobs in counted}["model.MemberShares"]

    assert left() == 0  # none for the LN models alone
    connection.start_transaction()
    try:
        (model.Evaluation.Shares & shares).delete_quick()
        (model.MemberShares.Member & shares).delete_quick()
        (model.MemberShares & shares).delete_quick()
        assert left() == 1
    finally:
        connection.cancel_transaction()
    assert model.MemberShares & shares


def test_analyses_are_tables_a_row_a_unit_and_have_figures(database, loop):
    from pipeline.plotting import ANALYSIS_FIGURES, predicted_activation_figure
    from schemas import dataset, mei

    here = dataset.Dataset.Unit & (dataset.DatasetSpec.Scan & loop["day1"])
    batches = mei.MaskTask & (mei.Targets.Unit & here)
    for name in ("stability", "contrast_tuning", "linear_filter"):
        method = mei.AnalysisMethod.add(name)
        mei.AnalysisTask.insert(
            ({**key, **method} for key in batches.to_dicts()), skip_duplicates=True
        )
    mei.Analysis.populate(suppress_errors=False)
    targets = len(mei.MEI.Unit & here)
    for name in ("stability", "contrast_tuning", "linear_filter"):
        frame, arrays = mei.Analysis.frame(name, batches), mei.Analysis.arrays(name, batches)
        assert len(frame) == targets
        assert all(len(array) == targets for array in arrays.values())
        assert ANALYSIS_FIGURES[name](frame, arrays).axes
    # the neurons are rectified linear ones, seen through a linear network
    assert mei.Analysis.frame("stability", batches)["median_r"].median() > 0.95
    assert mei.Analysis.frame("linear_filter", batches)["rf_rho"].median() > 0.5
    steep = mei.Analysis.Unit & {"quantity": "monotonic"} & "value = 1"
    assert len(steep) >= targets - 1
    predicted = mei.predicted_activation()
    assert {"mei", "rf", "mni", "fni"} <= set(predicted.columns)
    assert predicted_activation_figure(predicted).axes


def test_a_gallery_of_any_query_is_one_call(database, loop):
    from pipeline.plotting import gallery_figure
    from schemas import dataset, mei

    here = dataset.Dataset.Unit & (dataset.DatasetSpec.Scan & loop["day1"])
    best = mei.Targets.Unit & here & "target_rank < 3"
    shown = mei.gallery(best.proj())
    assert list(shown["images"]) == ["mei", "rf", "mni", "fni"]
    assert shown["images"]["mei"].shape == (3, *SHAPE)
    rows = (mei.Display.Image & best.proj() & {"kind": "mei"}).to_arrays("predicted")
    np.testing.assert_allclose(np.sort(shown["predicted"]["mei"]), np.sort(rows))
    assert len(gallery_figure(**shown).axes) == 12
    with pytest.raises(ValueError, match="no unit"):
        mei.gallery("unit_index = 9999")


def test_a_notebook_gets_a_loops_images_and_a_scans_data_in_one_call(database, loop):
    import schemas
    from schemas import dataset, mei

    made = schemas.meis(loop["day1"])
    assert made.equals(schemas.meis(loop["plan"]))
    assert made["target_rank"].tolist() == sorted(made["target_rank"])
    assert made["unit"].str.startswith("unit ").all()
    key = {"unit_index": made.index[0][1], "dataset_hash": made.index[0][0]}
    row = (mei.MEI.Unit * mei.MEI & key).to_dicts()[0]
    np.testing.assert_array_equal(made["image"].iloc[0], row["images"].load()[row["image_row"]])
    with pytest.raises(DataError, match="no such loop"):
        schemas.meis({"animal_id": 999_999})
    here = dataset.Dataset & (dataset.DatasetSpec.Scan & loop["day1"]).proj()
    named = dataset.load_dataset(here.fetch1("dataset_file"))
    data = schemas.dataset(loop["day1"])
    np.testing.assert_array_equal(data.responses, named.responses)
    assert schemas.dataset(here.fetch1("KEY")).n_units == data.n_units
    with pytest.raises(DataError, match="no data set"):
        schemas.dataset({"animal_id": 999_999})


def test_tables_of_images_show_them(database, loop):
    from schemas import imaging, mei, stimulus

    shown = [mei.MEI.Unit, mei.Display.Image, stimulus.Image, imaging.SummaryImages]
    for table in shown:
        html = (table() & "TRUE")._repr_html_()
        assert 1 <= html.count('src="data:image/png;base64,') <= 8, table
        assert "<table" in html
    assert "base64" not in (mei.MEI.Unit & "unit_index < 0")._repr_html_()


def test_shown_images_are_named_by_their_pixels_and_matched_in_luminance(database, loop):
    from pipeline.stimulus.images import image_hash
    from schemas import closed_loop, mei, stimulus

    shown = (closed_loop.Plan.Image & loop["plan"]).to_dicts()
    pixels = stimulus.load_images(stimulus.ImageSet.locate([r["image_hash"] for r in shown]))
    for row in shown:
        assert image_hash(np.asarray(pixels[row["image_hash"]])) == row["image_hash"]
        if row["kind"] != "natural":
            luminance = 0.3 + 40 * (pixels[row["image_hash"]].astype(float) / 255) ** 2
            assert luminance.mean() == pytest.approx(10.0, rel=0.02)
            assert luminance.std() == pytest.approx(2.0, rel=0.02)
    assert {"mei", "rf", "mni", "fni", "natural"} == {row["kind"] for row in shown}
    assert len(mei.Display.Image & {"ok": True}) > 0


def test_deleting_a_scan_takes_everything_with_it(database, write_bundle):
    from schemas import closed_loop, experiment, imaging
    from schemas.decisions import tasks
    from schemas.decisions.ingest import ingest_bundle

    key = ingest_bundle(write_bundle(running=False, treadmill=None, eye=False))
    tasks.register_loop(key, RECIPE, targets=10, minutes=8)
    imaging.ScanInfo.populate(key)
    mouse = experiment.Mouse & {"animal_id": key["animal_id"]}
    mouse.delete(prompt=False, part_integrity="cascade")  # sets of a scan go with it
    assert len(imaging.ScanInfo & key) == len(closed_loop.Loop & key) == 0
