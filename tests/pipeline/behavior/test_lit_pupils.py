"""Eyes that the simulator draws: pupils dark, bright by the laser, or in turn; containers."""

import cv2
import numpy as np
import pytest
import tifffile

from pipeline.behavior import pupil_trackers
from pipeline.behavior.pupil import NoPupil
from pipeline.behavior.video import frames_of
from pipeline.errors import DataError
from pipeline.simulate.brain.behavior import AnimalState
from pipeline.simulate.rig.eye import write_video

track = pupil_trackers[pupil_trackers.default]
FRAMES = 48
BLINK = slice(20, 23)


def state():
    t = np.arange(FRAMES) / 20
    lid = np.zeros(FRAMES)
    lid[BLINK] = 1
    return AnimalState(
        time_s=t,
        radius_px=16 + 3 * np.sin(2 * t),
        center_x_px=80 + 6 * np.sin(3 * t),
        center_y_px=60 + 4 * np.cos(2.3 * t),
        lid=lid,
        speed_cm_s=np.zeros(FRAMES),
    )


LASER = {
    "dark": np.zeros(FRAMES, bool),
    "bright": np.ones(FRAMES, bool),
    "both": np.arange(FRAMES) // 6 % 2 == 1,
}


def drawn(path, laser, seed=1):
    eye = {"shape": (120, 160), "mean_px": (80.0, 60.0)}
    write_video(path, state(), state().time_s, seed=seed, day=1, laser=laser, **eye)
    return path


@pytest.mark.parametrize("polarity", LASER)
def test_pupils_are_found_whether_the_laser_lights_them_or_not(tmp_path, polarity):
    found = track(drawn(tmp_path / "eye.avi", LASER[polarity]))
    true, open_ = state(), np.ones(FRAMES, bool)
    open_[BLINK] = False
    distance = np.hypot(found.center_x_px - true.center_x_px, found.center_y_px - true.center_y_px)
    assert found.region.polarity == polarity
    assert np.isnan(found.radius_px[~open_]).all()
    assert np.isfinite(found.radius_px[open_]).all()
    assert distance[open_].max() < 1
    assert np.abs(found.radius_px / true.radius_px - 1)[open_].max() < 0.03
    np.testing.assert_array_equal(found.bright[open_], LASER[polarity][open_])


def test_region_and_polarity_can_be_given(tmp_path):
    path = drawn(tmp_path / "eye.avi", LASER["both"])
    found = track(path, polarity="bright", region=[20, 10, 140, 110])
    lit = np.isfinite(found.radius_px)
    np.testing.assert_array_equal(lit, LASER["both"] & (state().lid == 0))
    assert (found.region.left, found.region.top) >= (20, 10)
    assert found.problem.startswith("no pupil in 27 of 48 frames")
    with pytest.raises(DataError, match="does not lie in the frame"):
        track(path, region=[150, 110, 400, 300])


def test_a_closed_eye_is_refused_with_what_was_tried(tmp_path):
    frames = list(frames_of(drawn(tmp_path / "eye.avi", LASER["dark"])))[BLINK]
    tifffile.imwrite(tmp_path / "shut.tif", np.stack(frames * 3), photometric="minisblack")
    with pytest.raises(NoPupil, match=r"shut\.tif: shows nothing like a pupil") as refused:
        track(tmp_path / "shut.tif")
    assert refused.value.tried[0].image.shape == (120, 160)


def blobs(count):
    y, x = np.mgrid[:48, :64]
    away = (np.hypot(x - 20 - k, y - 24) for k in range(count))
    return [np.where(d < 9, 30, 120).astype(np.uint8) for d in away]


@pytest.mark.parametrize(
    ("name", "code"),
    [("a.avi", "MJPG"), ("a.mp4", "mp4v"), ("a.mov", "MJPG"), ("a.mkv", "FFV1"), ("a.wmv", "WMV2")],
)
def test_whole_files_give_all_frames_and_cut_ones_an_error(tmp_path, name, code):
    path = tmp_path / name
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*code), 30.0, (64, 48))
    for frame in blobs(40):
        writer.write(cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR))
    writer.release()
    assert sum(1 for _ in frames_of(path)) == 40
    assert sum(1 for _ in frames_of(path, every=7)) == 6
    content = path.read_bytes()
    path.write_bytes(content[: int(0.7 * len(content))])
    with pytest.raises(DataError, match=name):
        list(frames_of(path))


def test_a_recorder_that_was_interrupted_leaves_its_frames(tmp_path):
    path = tmp_path / "eye.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 30.0, (64, 48))
    for frame in blobs(20):
        writer.write(cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR))
    writer.release()
    content = bytearray(path.read_bytes())
    index = content.rfind(b"idx1")
    content[4:8] = bytes(4)  # the length of the file is written at the end of a recording
    path.write_bytes(content[:index])  # and so is the index
    assert sum(1 for _ in frames_of(path)) == 20


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_tiff_stack_is_a_video(tmp_path, dtype):
    stack = np.stack(blobs(5)).astype(dtype) * (1 if dtype == np.uint8 else 17)
    tifffile.imwrite(tmp_path / "eye.tif", stack, photometric="minisblack")
    read = np.stack(list(frames_of(tmp_path / "eye.tif")))
    assert read.dtype == np.uint8
    assert read.shape == stack.shape
    low, high = read.min(), read.max()
    assert low / high == pytest.approx(0.25, abs=0.01)
