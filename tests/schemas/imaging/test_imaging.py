"""Tables of the imaging stage: what a scan is worth, and which masks are somata."""

from pathlib import Path

import numpy as np
import pytest
from scanimage_files import write_scan
from tiff_files import BROKEN, break_file, software

pytestmark = pytest.mark.tables


def darkening(frames=600, size=24):
    """Return photon counts that lose two thirds of their light."""
    rng = np.random.default_rng(0)
    place = 4 * np.exp(-((np.arange(size) - 12) ** 2) / 40)
    light = np.linspace(1, 0.33, frames)[:, None, None] * (1 + place[:, None] * place)
    return (rng.poisson(light * 3) * 10 + 50).astype(np.int16)


def test_an_unfit_scan_is_a_row_that_says_why(database, write_bundle):
    import tifffile

    from schemas import imaging
    from schemas.closed_loop import default_recipe
    from schemas.decisions import task_rows
    from schemas.decisions.ingest import ingest_bundle

    folder = write_bundle(tiff=True, eye=False, running=False, treadmill=None)
    tifffile.imwrite(folder / "scan.tif", darkening(), photometric="minisblack")
    key = ingest_bundle(folder)
    task_rows.scan_tasks(key, default_recipe())
    lenient = imaging.QualityMethod.add("limits", {"max_intensity_drift": 2.0})
    for table in (imaging.ScanInfo, imaging.RasterPhase, imaging.Motion, imaging.SummaryImages):
        table.populate(key, suppress_errors=False)
    imaging.Quality.populate(key, suppress_errors=False)
    strict = imaging.QualityMethod.add()
    row = (imaging.Quality & key & strict).fetch1()
    assert not row["fit"]
    assert row["intensity_drift"] == pytest.approx(-1.0, abs=0.1)  # (0.33 - 1) / 0.665
    assert row["photon_gain"] == pytest.approx(10, rel=0.1)
    finding = (imaging.Quality.Finding & key & strict).fetch1()
    assert (finding["finding"], finding["allowed"]) == ("intensity_drift", 0.5)
    assert (imaging.Quality & key & lenient).fetch1("fit")
    (imaging.QualityMethod & lenient).delete(prompt=False)
    image = (imaging.SummaryImages & key).fetch1("l6_image").load()
    assert image.shape == (24, 24)
    assert image.min() > 0


@pytest.fixture
def labeled(database, write_bundle):
    """A scan with six units, three of them labeled as somata."""
    from schemas import imaging
    from schemas.closed_loop import default_recipe
    from schemas.decisions import task_rows
    from schemas.decisions.ingest import ingest_bundle

    folder = write_bundle(eye=False, running=False, treadmill=None)
    masks = np.zeros((6, 24, 24), bool)
    rows, columns = np.mgrid[:24, :24]
    for unit in range(6):
        y, x = 4 + 7 * (unit % 3), 5 + 12 * (unit // 3)
        if unit < 3:
            masks[unit] = (rows - y) ** 2 + (columns - x) ** 2 <= 9 + unit
        else:
            masks[unit, y, x - 3 : x + 2 + unit] = True
    np.savez(folder / "masks.npz", masks=masks, mean_image=masks.sum(0, dtype=np.float32))
    key = ingest_bundle(folder)
    task_rows.scan_tasks(key, default_recipe())
    for table in (
        imaging.ScanInfo,
        imaging.RasterPhase,
        imaging.Motion,
        imaging.SummaryImages,
        imaging.Segmentation,
    ):
        table.populate(key, suppress_errors=False)
    units = (imaging.Segmentation.Unit & key).keys(order_by="unit_id")
    imaging.MaskLabel.insert(
        {**unit, "labeler": who, "is_soma": index < 3}
        for index, unit in enumerate(units)
        for who in ("ada", "ben")
    )
    return key, units


def test_labels_in_the_database_train_a_classifier_that_tells_masks_apart(labeled):
    from schemas import imaging

    key, units = labeled
    chosen = imaging.LabelSet.add(key)
    assert chosen == imaging.LabelSet.add(key)
    assert (imaging.LabelSet & chosen).fetch1("n_soma", "n_other") == (3, 3)
    method = imaging.ClassifierMethod.add("logistic", {"min_labels": 3, "folds": 3})
    imaging.MaskClassifier.populate(chosen, suppress_errors=False)
    imaging.MaskClassificationTask.insert1(
        {**{name: key[name] for name in ("animal_id", "session", "scan_idx")}, **chosen, **method}
    )
    imaging.MaskClassification.populate(key, suppress_errors=False)
    found = (imaging.MaskClassification.Unit & key).to_arrays(
        "soma_probability", order_by="unit_id"
    )
    assert len(found) == len(units)
    assert found[:3].min() > 0.5 > found[3:].max()


def test_a_new_label_makes_a_new_set_and_a_tie_is_left_out(labeled):
    from schemas import imaging

    key, units = labeled
    first = imaging.LabelSet.add(key)
    imaging.MaskLabel.insert1({**units[0], "labeler": "cleo", "is_soma": False})
    imaging.MaskLabel.insert1({**units[0], "labeler": "dora", "is_soma": False})
    second = imaging.LabelSet.add(key)
    assert second != first
    assert len(imaging.LabelSet.Label & second) == len(units) - 1
    assert len(imaging.LabelSet.Label & first) == len(units)


def test_no_label_is_said_so(database):
    from schemas import imaging

    with pytest.raises(ValueError, match=r"insert rows into imaging\.MaskLabel"):
        imaging.LabelSet.add({"animal_id": -1})


def test_a_malformed_tiff_costs_one_key_one_clear_error(database, write_bundle):
    import json

    from schemas import experiment, imaging
    from schemas.closed_loop import default_recipe
    from schemas.decisions import task_rows
    from schemas.decisions.ingest import ingest_bundle

    plain = {"tiff": True, "eye": False, "running": False, "treadmill": None}
    keys = []
    for session in (1, 2):
        folder = write_bundle(f"session{session}", **plain)
        said = json.loads((folder / "recording.json").read_text())
        (folder / "recording.json").write_text(json.dumps({**said, "session": session}))
        keys.append(ingest_bundle(folder))
        task_rows.scan_tasks(keys[-1], default_recipe())
    healthy, sick = keys
    path = Path(experiment.Scan.files(sick, "tiff")[0][0])
    assert len(BROKEN) >= 14
    animal = {"animal_id": sick["animal_id"]}
    for kind in BROKEN:
        if path.is_dir():
            path.rmdir()
        path.unlink(missing_ok=True)
        break_file(kind, path)
        errors = imaging.ScanInfo.populate(
            animal, suppress_errors=True, return_exception_objects=True
        )["error_list"]
        assert len(errors) == 1, kind
        key, error = errors[0]
        assert key["session"] == 2
        assert type(error).__name__ == "DataError", f"{kind}: {error!r}"
        assert "scan.tif" in str(error)
        assert "\n" not in str(error)
    assert (imaging.ScanInfo & animal).keys() == [(imaging.ScanInfo & healthy).fetch1("KEY")]


def test_frames_that_were_dropped_shift_no_later_frame(database, write_bundle):
    from schemas import behavior, imaging
    from schemas.closed_loop import default_recipe
    from schemas.decisions import task_rows
    from schemas.decisions.ingest import ingest_bundle

    folder = write_bundle(tiff=True, eye=False, running=False, treadmill=None)
    kept = np.delete(np.arange(600), [100, 101])
    pages = np.zeros((598, 24, 24), np.int16)
    write_scan(folder / "scan.tif", pages, software(), numbers=kept + 1)  # 10 Hz
    key = ingest_bundle(folder)
    task_rows.scan_tasks(key, default_recipe())
    for table in (imaging.ScanInfo, behavior.Sync):
        table.populate(key, suppress_errors=False)
    times = (behavior.Sync & key).fetch1("frame_times").load()
    np.testing.assert_allclose(times, kept / 10)
    assert (imaging.ScanInfo & key).fetch1("n_frames") == 598
    found = (imaging.ScanInfo.Finding & key).to_arrays("finding", order_by="finding_idx").tolist()
    assert found == ["frames-missing", "frame-times-left-over"]
