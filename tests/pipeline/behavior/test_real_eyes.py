"""The tracker on eyes of real mice, whose pupils were marked by hand."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.behavior import pupil_trackers
from pipeline.behavior.pupil import NoPupil

REAL = Path(__file__).parents[4] / "shared" / "data" / "real"
pytestmark = pytest.mark.skipif(not (REAL / "eye").is_dir(), reason="no recordings of real eyes")
track = pupil_trackers[pupil_trackers.default]


def thinned(source, target, numbers):
    """Write some frames of a video without loss."""
    video = cv2.VideoCapture(str(source))
    writer, index = None, 0
    while video.grab():
        if index in numbers:
            _, frame = video.retrieve()
            if writer is None:
                size = (frame.shape[1], frame.shape[0])
                writer = cv2.VideoWriter(str(target), cv2.VideoWriter_fourcc(*"FFV1"), 25.0, size)
            writer.write(frame)
        index += 1
    video.release()
    writer.release()
    return target


@pytest.mark.parametrize("name", ["einlab_face.mp4", "eyeloop_sample1.avi"])
def test_pupils_lie_where_they_were_marked(tmp_path, name):
    source = REAL / "eye" / name
    marked = np.loadtxt(source.with_name(f"{source.stem}_truth.csv"), delimiter=",", skiprows=1)
    truth = {int(row[0]): row[1:] for row in marked}
    numbers = sorted(frame + more for frame in truth for more in (0, 3))
    found = track(thinned(source, tmp_path / "eye.mkv", set(numbers)))
    place = [numbers.index(frame) for frame in truth]
    x, y, short, long = np.array(list(truth.values())).T
    distance = np.hypot(found.center_x_px[place] - x, found.center_y_px[place] - y)
    assert np.isfinite(found.radius_px).mean() >= 0.95
    assert np.nanmax(distance) < 2
    assert found.region.polarity == "dark"
    # marked at a level darker than halfway, up to 1.5 px further in
    assert np.abs(found.radius_px[place] - np.sqrt(short * long)).max() < 3
    assert np.abs(found.axis_ratio[place] - short / long).max() < 0.12


def test_an_eye_without_a_border_of_the_pupil_is_refused_with_what_was_tried(tmp_path):
    writer = cv2.VideoWriter(
        str(tmp_path / "face.mkv"), cv2.VideoWriter_fourcc(*"FFV1"), 25.0, (864, 646)
    )
    for path in sorted((REAL / "eye" / "face_stills").glob("*.png")):
        writer.write(cv2.imread(str(path)))
    writer.release()
    with pytest.raises(NoPupil, match=r"face\.mkv: shows nothing like a pupil") as refused:
        track(tmp_path / "face.mkv")
    assert len(refused.value.tried) == 7


@pytest.mark.parametrize(
    ("name", "frames", "seen", "center", "radius"),
    [
        ("mousegoggles_m1_left_dlc.csv", 5088, 0.833, (258, 280), 40),
        ("mousegoggles_m1_right_dlc.h5", 5080, 0.77, (262, 251), 40.4),
        ("ibl_pupil_lp_rng0.csv", 2000, 1.0, (51.4, 51.5), 8.3),
        ("ibl_pupil_lp_rng3.csv", 2000, 1.0, (51.8, 50.7), 7.6),
    ],
)
def test_points_of_other_programs_give_the_pupils_known_of_them(name, frames, seen, center, radius):
    found = pupil_trackers["deeplabcut"](REAL / "pose" / name)
    known = np.isfinite(found.radius_px)
    assert len(known) == frames
    assert known.mean() == pytest.approx(seen, abs=0.01)
    assert np.median(found.center_x_px[known]) == pytest.approx(center[0], abs=3)
    assert np.median(found.center_y_px[known]) == pytest.approx(center[1], abs=3)
    assert np.median(found.radius_px[known]) == pytest.approx(radius, rel=0.03)


@pytest.mark.parametrize(("side", "ending"), [("left", "csv"), ("right", "h5")])
def test_the_radius_follows_the_diameter_that_the_laboratory_published(side, ending):
    from scipy.io import loadmat

    found = pupil_trackers["deeplabcut"](REAL / "pose" / f"mousegoggles_m1_{side}_dlc.{ending}")
    data = loadmat(REAL / "pose" / "mousegoggles_m1_data.mat", simplify_cells=True)["data"]
    diameter = np.asarray(data[f"{side}pupildiam"], float)
    known = np.isfinite(found.radius_px) & np.isfinite(diameter)
    assert np.corrcoef(found.radius_px[known], diameter[known])[0, 1] > 0.96


def test_a_table_without_a_pupil_is_one_line():
    with pytest.raises(ValueError, match=r"SL18\.csv: bodyparts: too few points on the pupil"):
        pupil_trackers["deeplabcut"](REAL / "pose" / "dlc_no_eye_SL18.csv")


@pytest.mark.parametrize(("name", "frame"), [("left", 0), ("left", 1), ("right", 0)])
def test_a_still_whose_pupil_cannot_be_told_or_is_shut_gives_none(tmp_path, name, frame):
    """The eye is 3 % of the frame: a whisker over it, shut, or a pupil of 8 px."""
    still = np.load(REAL / "eye" / f"ibl_frames_{name}.npy")[frame]
    size = still.shape[1], still.shape[0]
    writer = cv2.VideoWriter(
        str(tmp_path / "still.mkv"), cv2.VideoWriter_fourcc(*"FFV1"), 25.0, size, False
    )
    for _ in range(2):
        writer.write(still)
    writer.release()
    with pytest.raises(NoPupil, match=r"still\.mkv: shows nothing like a pupil"):
        track(tmp_path / "still.mkv")


def test_points_of_another_animal_are_as_many_as_their_frames():
    found = pupil_trackers["deeplabcut"](REAL / "pose" / "mousegoggles_m2_left_dlc.h5")
    seen = np.isfinite(found.radius_px)
    assert len(seen) > 4000
    assert seen.mean() > 0.5
    assert 25 < np.nanmedian(found.radius_px) < 60
