"""A scan goes out as NWB, comes in as another scan, and everything computed of both is equal."""

import json

import h5py
import numpy as np
import pytest

from pipeline.errors import DataError

pytestmark = pytest.mark.tables

SAID = {"age": "P90D", "sex": "F", "excitation_nm": 920}


def populate(key, recipe=None):
    """Process a scan up to its training set, and return the key of that."""
    from schemas import behavior, dataset, imaging
    from schemas.closed_loop import default_recipe
    from schemas.decisions import tasks

    recipe = recipe or default_recipe()
    member = tasks.scan_tasks(key, recipe)
    spec = dataset.DatasetSpec.add(member, (36, 64), {"validation_fraction": 0.3})
    steps = ("ScanInfo", "RasterPhase", "Motion", "SummaryImages", "Quality", "Segmentation")
    tables = [getattr(imaging, name) for name in (*steps, "Fluorescence", "Activity")]
    tables += [behavior.Sync, behavior.Pupil, behavior.Treadmill]
    tables += [dataset.Responses, dataset.TrialBehavior]
    for table in tables:
        table.populate(key, suppress_errors=False)
    dataset.Dataset.populate(spec, suppress_errors=False)
    return spec


def export(key, path, **options):
    pytest.importorskip("pynwb")
    from workers.export import write_nwb

    said = path.with_suffix(".said.json")
    said.write_text(json.dumps(SAID))
    return write_nwb(key, path, entries=said, **options)


@pytest.fixture
def both(database, write_bundle, tmp_path):
    """Return a function that processes a recording, and what its NWB file becomes."""
    from schemas.decisions.ingest import ingest_bundle, ingest_nwb

    def make(process, **bundle):
        first = ingest_bundle(write_bundle(**bundle))
        found = process(first)
        export(first, tmp_path / "scan.nwb")
        second = ingest_nwb(tmp_path / "scan.nwb", entries={"session": 2})
        assert second == {**first, "session": 2}
        return (first, found), (second, process(second))

    return make


def test_traces_give_the_same_responses_and_the_same_training_set(both):
    from schemas import dataset, imaging

    (first, spec), (second, other) = both(populate, n_images=40)
    for table, column in (
        (imaging.Fluorescence, "corrected"),
        (imaging.Activity, "activity"),
        (dataset.Responses, "responses"),
        (dataset.TrialBehavior, "behavior"),
    ):
        a, b = ((table & key).fetch1(column).load() for key in (first, second))
        np.testing.assert_array_equal(a, b, err_msg=column)
    data = [
        dataset.load_dataset((dataset.Dataset & key).fetch1("dataset_file"))
        for key in (spec, other)
    ]
    for name in ("images", "image_id", "tiers", "responses", "behavior", "pupil_center"):
        np.testing.assert_array_equal(*(getattr(one, name) for one in data), err_msg=name)


def movements(key):
    """Process a scan up to the motion of its movie."""
    from schemas import behavior, imaging
    from schemas.closed_loop import default_recipe
    from schemas.decisions import tasks

    tasks.scan_tasks(key, default_recipe())
    tables = (imaging.ScanInfo, imaging.RasterPhase, imaging.Motion, imaging.SummaryImages)
    for table in (*tables, imaging.Quality, behavior.Sync, behavior.Pupil, behavior.Treadmill):
        table.populate(key, suppress_errors=False)


def test_a_movie_gives_the_same_fields_motion_and_images(both):
    from schemas import behavior, imaging

    (first, _), (second, _) = both(movements, tiff=True)
    for table, columns in (
        (imaging.Motion, ("shifts", "template")),
        (imaging.SummaryImages, ("mean_image", "correlation_image")),
        (behavior.Sync, ("frame_times", "trial_times")),
        (behavior.Pupil, ("pupil",)),
        (behavior.Treadmill, ("speed",)),
    ):
        for column in columns:
            a, b = ((table & key).fetch1(column).load() for key in (first, second))
            np.testing.assert_array_equal(a, b, err_msg=column)
    a, b = (
        {n: v for n, v in (imaging.ScanInfo.Field & key).fetch1().items() if n != "session"}
        for key in (first, second)
    )
    assert a == pytest.approx(b)


def test_a_file_may_link_its_movie_or_have_none(database, write_bundle, tmp_path):
    from schemas.decisions.ingest import ingest_bundle, ingest_nwb

    folder = write_bundle(tiff=True)
    key = ingest_bundle(folder)
    with pytest.raises(DataError, match=r"not processed yet; found .*; run `inception loop"):
        export(key, tmp_path / "early.nwb")
    movements(key)
    export(key, tmp_path / "link.nwb", movie="link")
    with h5py.File(tmp_path / "link.nwb") as file:
        series = file["acquisition/raw_movie_0"]
        assert [name.decode() for name in series["external_file"][()]] == ["bundle/scan.tif"]
        assert series["data"].size == 0
    with pytest.raises(DataError, match=r"link\.nwb: .*neither a movie nor.*not followed"):
        ingest_nwb(tmp_path / "link.nwb")
    export(key, tmp_path / "none.nwb", movie="none")
    with h5py.File(tmp_path / "none.nwb") as file:
        assert "raw_movie_0" not in file["acquisition"]
        assert file["processing/ophys/motion_0/data"].shape == (600, 2)
    with pytest.raises(DataError, match="unknown way to take the movie"):
        export(key, tmp_path / "x.nwb", movie="half")


def test_results_of_methods_that_are_computed_no_more_go_out(
    database, write_bundle, tmp_path, monkeypatch
):
    from schemas.decisions.ingest import ingest_bundle
    from schemas.method import MethodTable

    key = ingest_bundle(write_bundle(tiff=True))
    movements(key)

    def refuse(*_):
        raise DataError("revision 2 is no longer computed")

    monkeypatch.setattr(MethodTable, "fetch_method", classmethod(refuse))
    export(key, tmp_path / "old.nwb", movie="none")
    with h5py.File(tmp_path / "old.nwb") as file:
        steps = {step.decode() for step in file["processing/misc/imaging_methods/step"][()]}
        assert {"raster", "motion", "segmentation"} <= steps


def test_the_same_file_again_changes_nothing(database, write_bundle, tmp_path):
    from schemas import experiment, stimulus
    from schemas.decisions.ingest import ingest_bundle, ingest_nwb

    key = ingest_bundle(write_bundle(tiff=True))
    movements(key)
    export(key, tmp_path / "scan.nwb")
    with pytest.raises(DataError, match=r"another recording has this key.*--entries"):
        ingest_nwb(tmp_path / "scan.nwb")
    again = ingest_nwb(tmp_path / "scan.nwb", entries={"session": 2}, into=tmp_path / "b")
    before = len(stimulus.Trial & again), len(experiment.Scan.File & again)
    assert ingest_nwb(tmp_path / "scan.nwb", entries={"session": 2}, into=tmp_path / "b") == again
    assert (len(stimulus.Trial & again), len(experiment.Scan.File & again)) == before
    assert experiment.Scan.files(again, "tiff")[0][0] == str(tmp_path / "scan.nwb")


def test_speed_without_counts_is_the_speed_of_the_scan(database, write_bundle):
    from schemas import behavior
    from schemas.closed_loop import default_recipe
    from schemas.decisions import tasks
    from schemas.decisions.ingest import ingest_bundle

    folder = write_bundle(running=False, treadmill=None)
    table = np.column_stack([np.arange(0, 60, 0.1), np.sin(np.arange(600))])
    table[30:34, 1] = np.nan
    np.savetxt(folder / "running.csv", table, "%.17g", ",", header="time_s,speed_cm_s", comments="")
    key = ingest_bundle(folder)
    tasks.scan_tasks(key, default_recipe())
    behavior.Sync.populate(key, suppress_errors=False)
    behavior.Treadmill.populate(key, suppress_errors=False)
    speed = (behavior.Treadmill & key).fetch1("speed").load()
    np.testing.assert_array_equal(speed, table)


def test_speed_that_comes_twice_is_refused(database, write_bundle):
    from schemas.decisions.ingest import ingest_bundle

    folder = write_bundle()
    (folder / "running.csv").write_text("time_s,speed_cm_s\n0,1.5\n1,2\n")
    with pytest.raises(DataError, match="speed comes twice"):
        ingest_bundle(folder)
