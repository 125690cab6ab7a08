"""The tracker against videos drawn here, by supersampling, without any of its code."""

import cv2
import numpy as np
import pytest

from pipeline.behavior import pupil_trackers
from pipeline.errors import DataError

track = pupil_trackers[pupil_trackers.default]
OVER = 4  # samples per pixel and axis


def eye(
    shape,
    center,
    radius,
    *,
    pupil=35,
    iris=95,
    skin=165,
    ratio=1.0,
    tilt=0.0,
    lid=0.0,
    glints=(),
    seed=0,
):
    """Return one frame: pupil, iris, lids from above by a share of the eye, reflections, noise."""
    height, width = shape
    rng = np.random.default_rng(seed)
    y, x = (np.mgrid[: height * OVER, : width * OVER] + 0.5) / OVER - 0.5
    dx, dy = x - center[0], y - center[1]
    u = dx * np.cos(tilt) + dy * np.sin(tilt)
    v = -dx * np.sin(tilt) + dy * np.cos(tilt)
    image = np.full(x.shape, float(iris))
    image += 6 * np.sin(9 * np.arctan2(dy, dx)) + 0.1 * dx  # streaks, uneven light
    image[(u / (radius / np.sqrt(ratio))) ** 2 + (v / (radius * np.sqrt(ratio))) ** 2 < 1] = pupil
    for gx, gy, size in glints:
        image[np.hypot(x - gx, y - gy) < size] = 250
    half_w, half_h = 0.42 * width, 0.4 * height
    middle = (width / 2, height / 2)
    arch = np.sqrt(np.clip(1 - ((x - middle[0]) / half_w) ** 2, 0, None)) * half_h
    top = middle[1] - arch + lid * 2 * arch
    skin = skin + 12 * np.sin(x / 3) * np.sin(y / 4)
    covered = (y < top) | (y > middle[1] + arch) | (arch == 0)
    image = np.where(covered, skin, image)
    image[covered & (np.abs(y - top) < 1.5)] = 70  # lashes along the lid
    image = image.reshape(height, OVER, width, OVER).mean(axis=(1, 3))
    image = cv2.GaussianBlur(image, (0, 0), 0.7) + rng.normal(0, 3, shape)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def write(path, frames):
    height, width = frames[0].shape
    code = cv2.VideoWriter_fourcc(*"MJPG")
    writer = cv2.VideoWriter(str(path), code, 30.0, (width, height), True)
    for frame in frames:
        writer.write(cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR))
    writer.release()
    return path


def movement(n, shape, seed=0):
    rng = np.random.default_rng(seed)
    x = shape[1] / 2 + 6 * np.sin(np.arange(n) / 5) + rng.normal(0, 0.5, n)
    y = shape[0] / 2 + 4 * np.cos(np.arange(n) / 7) + rng.normal(0, 0.5, n)
    radius = shape[0] * (0.16 + 0.05 * np.sin(np.arange(n) / 9))
    return np.stack([x, y], 1), radius


CASES = {
    "plain": {},
    "low contrast": {"pupil": 60, "iris": 88},
    "dark eye": {"pupil": 12, "iris": 45},
    "oval": {"ratio": 0.85, "tilt": 0.6},
    "20 % lid": {"lid": 0.2},
    "dark fur": {"skin": 50, "lid": 0.1},
    "fur as dark as the pupil": {"skin": 35, "pupil": 30},
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("shape", [(96, 128), (180, 240)])
def test_center_within_a_pixel_and_radius_within_3_percent(tmp_path, case, shape):
    center, radius = movement(16, shape)
    frames = [
        eye(
            shape,
            c,
            r,
            seed=i,
            glints=[(c[0] + 0.5 * r, c[1] - 0.4 * r, 2.5), (c[0] - 0.95 * r, c[1] + 0.2 * r, 2.0)],
            **CASES[case],
        )
        for i, (c, r) in enumerate(zip(center, radius, strict=True))
    ]
    result = track(write(tmp_path / "eye.avi", frames))
    distance = np.hypot(result.center_x_px - center[:, 0], result.center_y_px - center[:, 1])
    assert np.isfinite(distance).mean() > 0.95
    assert np.nanmax(distance) < 1.0
    assert np.nanmedian(distance) < 0.4
    assert np.nanmax(np.abs(result.radius_px / radius - 1)) < 0.03
    if case == "oval":
        np.testing.assert_allclose(np.nanmedian(result.axis_ratio), 0.85, atol=0.04)


def test_blinks_are_nan_and_what_follows_is_not(tmp_path):
    shape = (96, 128)
    center, radius = movement(40, shape)
    lid = np.zeros(40)
    lid[[10, 11, 12, 25, 26]] = 0.9
    frames = [
        eye(shape, c, r, lid=s, seed=i)
        for i, (c, r, s) in enumerate(zip(center, radius, lid, strict=True))
    ]
    result = track(write(tmp_path / "eye.avi", frames))
    np.testing.assert_array_equal(np.isnan(result.radius_px), lid > 0)
    np.testing.assert_array_equal(np.isnan(result.center_x_px), lid > 0)
    assert result.confidence[lid == 0].min() > 0.6
    assert result.confidence[lid > 0].max() < 0.35


@pytest.mark.numerical
def test_frames_do_not_influence_each_other(tmp_path):
    shape = (96, 128)
    center, radius = movement(20, shape)
    frames = [eye(shape, c, r, seed=i) for i, (c, r) in enumerate(zip(center, radius, strict=True))]
    forward = track(write(tmp_path / "a.avi", frames))
    backward = track(write(tmp_path / "b.avi", frames[::-1]))
    np.testing.assert_allclose(forward.radius_px, backward.radius_px[::-1], atol=1e-6)


@pytest.mark.parametrize("content", [b"", b"RIFF", b"no video at all" * 100])
def test_what_is_no_video_is_refused(tmp_path, content):
    path = tmp_path / "eye.avi"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"eye\.avi"):
        track(path)
    with pytest.raises(DataError):
        track(tmp_path / "absent.avi")


def test_a_cut_video_is_refused(tmp_path):
    shape = (96, 128)
    frames = [eye(shape, (64, 48), 15, seed=i) for i in range(30)]
    path = write(tmp_path / "eye.avi", frames)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError):
        track(path)


def test_a_video_without_an_eye_is_refused(tmp_path):
    path = write(tmp_path / "grey.avi", [np.full((96, 128), 120, np.uint8)] * 10)
    with pytest.raises(DataError, match="pupil"):
        track(path)


def test_deeplabcut_points_on_a_circle_give_it_back(tmp_path):
    angle = np.arange(8) * np.pi / 4
    rows = ["scorer" + ",net" * 27, "bodyparts", "coords"]
    names = [f"pupil_{i}" for i in range(8)] + ["nose"]
    rows[1] += "".join(f",{n},{n},{n}" for n in names)
    rows[2] += ",x,y,likelihood" * 9
    for frame in range(3):
        likelihood = 0.2 if frame == 2 else 0.99
        points = [(50 + frame + 9 * np.cos(a), 40 + 9 * np.sin(a), likelihood) for a in angle]
        cells = [f"{v:.6f}" for p in [*points, (1, 2, 1)] for v in p]
        rows.append(",".join([str(frame), *cells]))
    path = tmp_path / "dlc.csv"
    path.write_text("\n".join(rows))
    result = pupil_trackers["deeplabcut"](path)
    np.testing.assert_allclose(result.center_x_px, [50, 51, np.nan], atol=1e-4)
    np.testing.assert_allclose(result.center_y_px, [40, 40, np.nan], atol=1e-4)
    np.testing.assert_allclose(result.radius_px, [9, 9, np.nan], atol=1e-4)
    with pytest.raises(DataError, match="too few points"):
        pupil_trackers["deeplabcut"](path, point_prefix="nose")
    path.write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="DeepLabCut"):
        pupil_trackers["deeplabcut"](path)


def test_facemap_area_becomes_a_radius(tmp_path):
    area = np.array([np.pi * 100, np.nan, np.pi * 25])
    com = np.array([[3.0, 7.0], [np.nan, np.nan], [4.0, 8.0]])  # row, column
    path = tmp_path / "cam_proc.npy"
    np.save(path, {"pupil": [{"area": area, "com": com}]}, allow_pickle=True)
    result = pupil_trackers["facemap"](path)
    np.testing.assert_allclose(result.radius_px, [10, np.nan, 5])
    np.testing.assert_allclose(result.center_x_px, [7, np.nan, 8])
    np.testing.assert_allclose(result.center_y_px, [3, np.nan, 4])
    with pytest.raises(DataError, match=r"pupil\[1\]"):
        pupil_trackers["facemap"](path, pupil_index=1)
