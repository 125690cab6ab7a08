import csv
import json
import shutil
from itertools import pairwise

import cv2
import numpy as np
import pytest

from pipeline.errors import DataError
from pipeline.simulate.rig.streams import TREADMILL

from .conftest import read_csv, small_mouse, write_package


def _table(path):
    return np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2)


def _to_rig(bundle, stream, times):
    rows = [r for r in read_csv(bundle / "clocks.csv") if r["stream"] == stream]
    own = np.array([float(r["stream_time_s"]) for r in rows])
    slope, offset = np.polyfit(own, [float(r["rig_time_s"]) for r in rows], 1)
    return slope * times + offset


def test_bundle_says_what_the_format_asks_for(bundle):
    about = json.loads((bundle / "recording.json").read_text())
    assert about["format"] == "inception-recording/1"
    assert (about["animal_id"], about["session"], about["scan_idx"]) == (1, 1, 1)
    assert about["plan"] is None
    assert about["imaging"]["um_per_px"] == [1.5, 1.5]
    for name in [*about["imaging"]["files"], about["monitor"]["calibration"]]:
        assert (bundle / name).is_file()
    headers = {
        "frame_times": "frame,time_s",
        "trials": "trial_idx,image,onset_s,offset_s,blank_before_s",
        "monitor": "pixel_value,luminance_cd_m2",
        "eye_times": "frame,time_s",
        "treadmill": "time_s,counts",
        "clocks": "stream,stream_time_s,rig_time_s",
    }
    for name, header in headers.items():
        assert (bundle / f"{name}.csv").read_text().split("\n")[0] == header


def test_trials_lie_in_the_recording_and_repeat_as_asked(bundle, images):
    rows = read_csv(bundle / "trials.csv")
    frames = _table(bundle / "frame_times.csv")
    onset = np.array([float(r["onset_s"]) for r in rows])
    offset = np.array([float(r["offset_s"]) for r in rows])
    assert frames[0, 1] < onset[0] - 2
    assert frames[-1, 1] > offset[-1] + 2
    np.testing.assert_allclose(offset - onset, 0.5, atol=0.002)
    blanks = [float(r["blank_before_s"]) for r in rows[1:]]
    np.testing.assert_allclose(onset[1:] - offset[:-1], blanks, atol=0.002)
    names, counts = np.unique([r["image"] for r in rows], return_counts=True)
    assert sorted(counts) == [1] * 40 + [5] * 4
    for name in names:
        image = cv2.imread(str(bundle / "images" / name), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(image, images[int(name[6:11])])


def test_eye_video_shows_the_pupil_where_it_was(bundle):
    times = _to_rig(bundle, "eye", _table(bundle / "eye_times.csv")[:, 1])
    animal = np.load(bundle / "truth" / "animal.npz")
    video = cv2.VideoCapture(str(bundle / "eye.avi"))
    center, area, frames = [], [], 0
    while True:
        there, frame = video.read()
        if not there:
            break
        frames += 1
        dark = cv2.medianBlur(frame[..., 0], 5) < 52
        _, _, stats, centroids = cv2.connectedComponentsWithStats(dark.astype(np.uint8))
        if len(stats) == 1:
            center.append((np.nan, np.nan))
            area.append(np.nan)
            continue
        largest = 1 + stats[1:, cv2.CC_STAT_AREA].argmax()
        center.append(centroids[largest])
        area.append(stats[largest, cv2.CC_STAT_AREA])
    assert frames == len(times)
    center, area = np.array(center), np.array(area)
    open_eye = (np.interp(times, animal["time_s"], animal["lid"]) < 0.05) & np.isfinite(area)
    assert open_eye.mean() > 0.8
    for k, name in enumerate(("center_x_px", "center_y_px")):
        true = np.interp(times, animal["time_s"], animal[name])
        assert np.median(np.abs(center[open_eye, k] - true[open_eye])) < 1.0
    true = np.interp(times, animal["time_s"], animal["radius_px"])
    r = np.corrcoef(np.sqrt(area[open_eye]), true[open_eye])[0, 1]
    assert r > 0.95


def test_treadmill_counter_wraps_and_gives_the_distance(bundle):
    table = _table(bundle / "treadmill.csv")
    counts = table[:, 1].astype(np.int64)
    assert counts.max() < 2**32
    assert counts.min() >= 0
    steps = (np.diff(counts) + 2**31) % 2**32 - 2**31
    assert (np.diff(counts) < -(2**31)).sum() == 1  # the wrap
    perimeter = np.pi * TREADMILL["diameter_cm"]
    run_cm = steps.sum() / TREADMILL["counts_per_rev"] * perimeter
    animal = np.load(bundle / "truth" / "animal.npz")
    rig = _to_rig(bundle, "treadmill", table[:, 0])
    fine = np.arange(rig[0], rig[-1], 0.005)
    true_cm = np.interp(fine, animal["time_s"], animal["speed_cm_s"]).mean() * (rig[-1] - rig[0])
    assert run_cm == pytest.approx(true_cm, rel=0.02)
    assert np.diff(table[:, 0]).max() == pytest.approx(1.0, abs=0.1)  # the lost packet


def test_clocks_have_the_true_offset_and_drift(bundle):
    clocks = json.loads((bundle / "truth" / "about.json").read_text())["clocks"]
    for stream, true in clocks.items():
        rows = [r for r in read_csv(bundle / "clocks.csv") if r["stream"] == stream]
        rig = np.array([float(r["rig_time_s"]) for r in rows])
        own = np.array([float(r["stream_time_s"]) for r in rows])
        np.testing.assert_allclose(
            own, rig * (1 + true["ppm"] * 1e-6) + true["offset_s"], atol=0.001
        )


def test_spikes_follow_the_true_rates(bundle):
    truth = np.load(bundle / "truth" / "truth.npz")
    frames = truth["frame_times_s"]
    trials = [(frames >= on) & (frames < on + 0.5) for on in truth["onset_s"]]
    counts = np.array([truth["spikes"][:, m].sum(1) for m in trials])
    rates = truth["rates_hz"][:, truth["activity_cell_id"]]
    # mean counts in half a second (6 frames at 12 Hz) against the expected rate
    assert counts.sum() == pytest.approx(rates.sum() * 0.5, rel=0.2)
    r = np.corrcoef(counts.ravel(), rates.ravel())[0, 1]
    assert r > 0.6


@pytest.mark.numerical
def test_the_same_seed_gives_the_same_bytes(tmp_path, images):
    for name in ("a", "b"):
        small_mouse().record(images[:6], tmp_path / name, repeated=2, repeats=2)
    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").glob("*.*"))
    assert len(files) >= 9
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file
    one, other = (np.load(tmp_path / name / "truth" / "truth.npz") for name in ("a", "b"))
    for key in one.files:
        np.testing.assert_array_equal(one[key], other[key])


def test_minutes_limit_the_single_images_and_traces_replace_the_movie(tmp_path, mouse, images):
    folder = mouse.record(
        images, tmp_path / "t", repeated=2, repeats=3, minutes=0.3, imaging="traces", eye="none"
    )
    assert not list(folder.glob("*.tif"))
    assert not (folder / "eye.avi").exists()
    rows = read_csv(folder / "trials.csv")
    assert len(rows) == int(18 / 0.9)
    traces, masks = np.load(folder / "traces.npz"), np.load(folder / "masks.npz")
    about = json.loads((folder / "recording.json").read_text())
    assert about["imaging"]["traces"] == "traces.npz"
    assert traces["fluorescence"].shape == (len(masks["masks"]), len(traces["time_s"]))
    assert masks["masks"].shape[1:] == masks["mean_image"].shape == (72, 96)
    truth = np.load(folder / "truth" / "truth.npz")
    units = truth["cell_id"][truth["in_field"]]
    rows = {cell: i for i, cell in enumerate(truth["activity_cell_id"])}
    r = [
        np.corrcoef(trace, truth["dff"][rows[cell]])[0, 1]
        for cell, trace in zip(units, traces["fluorescence"], strict=True)
        if cell in rows and truth["dff"][rows[cell]].std() > 0.1
    ]
    assert np.median(r) > 0.8


def test_day_two_shows_the_package_and_says_what_went_wrong(answer, package):
    folder, _names, order = package
    assert json.loads((answer / "recording.json").read_text())["plan"] == "0123456789abcdef"
    planned = read_csv(folder / "trials.csv")
    shown = read_csv(answer / "trials.csv")
    faults = dict(json.loads((answer / "truth" / "about.json").read_text())["faults"])
    assert len(set(faults.values())) == 3
    there = {int(row["trial_idx"]): row for row in shown}
    previous = None
    for trial, row in enumerate(planned):
        kind = faults.get(trial)
        assert (trial in there) == (kind != "dropped")
        if kind == "dropped":
            continue
        seen = there[trial]
        if kind == "repeated":
            assert seen["image"] == previous != row["image"]
        else:
            assert seen["image"] == row["image"]
        length = float(seen["offset_s"]) - float(seen["onset_s"])
        assert length == pytest.approx(float(row["duration_s"]), abs=0.002)
        previous = seen["image"]
    assert [int(row["trial_idx"]) for row in shown] == sorted(there)
    for earlier, later in pairwise(shown):
        gap = float(later["onset_s"]) - float(earlier["offset_s"])
        assert gap == pytest.approx(float(later["blank_before_s"]), abs=0.002)
        if int(later["trial_idx"]) == int(earlier["trial_idx"]) + 1:
            extra = gap - float(planned[int(later["trial_idx"])]["blank_before_s"])
            late = faults.get(int(later["trial_idx"])) == "late"
            assert (extra > 0.025) == late
    assert len(order) == len(planned)
    pupil = _table(answer / "pupil.csv")
    assert pupil.shape[1] == 4
    assert np.isnan(pupil[:, 3]).mean() < 0.2


def test_without_faults_every_trial_is_shown_as_planned(tmp_path, mouse, package):
    chances = {"dropped": 0, "late": 0, "shown_twice": 0}
    folder = mouse.record(
        package[0], tmp_path / "d", day=3, eye="none", imaging="traces", session=7, **chances
    )
    shown, planned = read_csv(folder / "trials.csv"), read_csv(package[0] / "trials.csv")
    assert [r["image"] for r in shown] == [r["image"] for r in planned]
    assert json.loads((folder / "recording.json").read_text())["session"] == 7


def test_the_same_cells_come_back_elsewhere_turned_and_not_all(bundle, answer, mouse):
    one = np.load(bundle / "truth" / "truth.npz")
    two = np.load(answer / "truth" / "truth.npz")
    both, i, j = np.intersect1d(one["cell_id"], two["cell_id"], return_indices=True)
    assert len(both) > 0.6 * len(one["cell_id"])
    assert set(one["cell_id"]) - set(both)
    assert set(two["cell_id"]) - set(both)
    about = json.loads((answer / "truth" / "about.json").read_text())
    assert 4 < np.hypot(*about["field_shift_um"]) < 20
    assert 0.5 < abs(about["field_rotation_deg"]) < 2.5
    # the stated transform maps the centroids of one day onto those of the other
    middle = (np.array(mouse.field_px) - 1) / 2
    angle = np.deg2rad(about["field_rotation_deg"])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    expected = (one["centroid_yx_px"][i] - middle) @ turn.T
    expected += middle + np.array(about["field_shift_um"]) / np.array(mouse.um_per_px)
    np.testing.assert_allclose(two["centroid_yx_px"][j], expected, atol=1e-9)
    mass = np.array([np.argwhere(m).mean(0) for m in two["masks"][two["in_field"]]])
    whole = two["masks"][two["in_field"]].sum((1, 2)) > 70
    error = mass[whole] - two["centroid_yx_px"][two["in_field"]][whole]
    assert np.abs(error).max() < 1.0


def test_what_cannot_be_shown_is_refused(tmp_path, mouse, images, package, bundle):
    with pytest.raises(DataError, match="recording already"):
        mouse.record(images, bundle)
    with pytest.raises(DataError, match="manifest"):
        mouse.record(tmp_path, tmp_path / "out")
    with pytest.raises(DataError, match="another animal"):
        small_mouse(animal_id=9).record(package[0], tmp_path / "out")
    edited = tmp_path / "edited"
    shutil.copytree(package[0], edited)
    cv2.imwrite(str(edited / "images" / f"{package[1][0]}.png"), images[20])
    with pytest.raises(DataError, match="pixels"):
        mouse.record(edited, tmp_path / "out")
    folder, _ = write_package(tmp_path / "empty", images[:1], [])
    with pytest.raises(DataError, match="no trials"):
        mouse.record(folder, tmp_path / "out")
    with pytest.raises(ValueError, match="eye"):
        mouse.record(images, tmp_path / "out", eye="film")
    assert not (tmp_path / "out" / "recording.json").exists()


def test_monitor_curve_rises_with_a_gamma_of_about_two(bundle):
    with (bundle / "monitor.csv").open() as file:
        rows = [(int(r["pixel_value"]), float(r["luminance_cd_m2"])) for r in csv.DictReader(file)]
    pixel, luminance = np.array(rows).T
    assert (np.diff(luminance) > 0).all()
    slope = np.polyfit(np.log(pixel[3:]), np.log(luminance[3:] - luminance[0]), 1)[0]
    assert 1.8 < slope < 2.4
