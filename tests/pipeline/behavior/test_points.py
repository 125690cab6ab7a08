"""Pupils through points that other programs have marked, some of them wrong."""

import h5py
import numpy as np
import pytest

from pipeline.behavior import pupil_trackers
from pipeline.errors import DataError

POINTS = 8
ANGLE = np.arange(POINTS) * 2 * np.pi / POINTS
FRAMES = 20
SOME = slice(5, 10)


def edge(long=15.0, short=15.0):
    """Return points (frames, points, 3) on an ellipse about (80, 60), with their likelihood."""
    one = np.stack(
        [80 + long * np.cos(ANGLE), 60 + short * np.sin(ANGLE), np.full(POINTS, 0.99)], axis=1
    )
    return np.tile(one, (FRAMES, 1, 1))


def table(path, points, *, heads=None, names=None, start=""):
    names = names or [f"pupil{k}" for k in range(points.shape[1])]
    columns = [name for name in names for _ in range(3)]
    lines = heads or [["scorer"] + ["net"] * len(columns)]
    lines = [*lines, ["bodyparts", *columns], ["coords"] + ["x", "y", "likelihood"] * len(names)]
    rows = [[str(k), *(f"{v:.6f}" for v in frame.ravel())] for k, frame in enumerate(points)]
    path.write_text(start + "\n".join(",".join(row) for row in [*lines, *rows]) + "\n")
    return path


read = pupil_trackers["deeplabcut"]


def test_an_ellipse_has_the_radius_of_a_circle_of_its_area(tmp_path):
    found = read(table(tmp_path / "dlc.csv", edge(20, 12)))
    np.testing.assert_allclose(found.radius_px, np.sqrt(20 * 12), rtol=1e-3)
    np.testing.assert_allclose(found.axis_ratio, 0.6, rtol=1e-3)
    np.testing.assert_allclose(found.center_x_px, 80, atol=1e-3)


def test_a_point_that_jumps_is_left_out(tmp_path):
    points = edge(18, 14)
    points[SOME, 0, 0] = 400
    points[SOME, 3, 1] += 40
    found = read(table(tmp_path / "dlc.csv", points))
    np.testing.assert_allclose(found.radius_px, np.sqrt(18 * 14), rtol=0.01)
    np.testing.assert_allclose(found.center_x_px, 80, atol=0.2)
    np.testing.assert_allclose(found.visible_fraction[SOME], 0.75)


def lid_line(points):
    points[SOME, :, 0] = 80 + 2 * np.arange(POINTS)
    points[SOME, :, 1] = 60 + 0.001 * np.arange(POINTS) ** 2


def lid_arc(points):
    points[SOME, :, 0] = 80 + 15 * np.cos(np.pi * np.arange(POINTS) / 10)
    points[SOME, :, 1] = 60 + 15 * np.sin(np.pi * np.arange(POINTS) / 10)


def collapsed(points):
    points[SOME, :, 1] = 60 + 0.15 * (points[SOME, :, 1] - 60)


def unlikely(points):
    points[SOME, :5, 2] = 0.3


def huge(points):
    points[SOME, :, :2] = 60 + 5 * (points[SOME, :, :2] - 60)


@pytest.mark.parametrize("change", [lid_line, lid_arc, collapsed, unlikely, huge])
def test_a_blink_or_wild_points_are_nan_and_the_rest_is_not(tmp_path, change):
    points = edge()
    change(points)
    found = read(table(tmp_path / "dlc.csv", points))
    lost = np.zeros(FRAMES, bool)
    lost[SOME] = True
    np.testing.assert_array_equal(np.isnan(found.radius_px), lost)
    np.testing.assert_allclose(found.radius_px[~lost], 15, rtol=0.01)
    assert found.problem == ""


def test_most_frames_without_points_are_told_in_words(tmp_path):
    points = edge()
    points[4:, :, 2] = 0.1
    found = read(table(tmp_path / "dlc.csv", points))
    assert found.problem == ("no pupil in 16 of 20 frames (16: too few points are likely enough)")


def test_a_point_in_the_middle_is_not_on_the_edge(tmp_path):
    points = np.concatenate([edge(), np.full((FRAMES, 1, 3), [80, 60, 0.99])], axis=1)
    names = [f"pupil{k}" for k in range(POINTS)] + ["pupil_center"]
    found = read(table(tmp_path / "dlc.csv", points, names=names))
    np.testing.assert_allclose(found.visible_fraction, 1)


def test_several_animals_are_told_apart(tmp_path):
    both = np.concatenate([edge(), edge(9, 9)], axis=1)
    names = [f"pupil{k}" for k in range(POINTS)] * 2
    who = [animal for animal in ("left", "right") for _ in range(3 * POINTS)]
    heads = [["scorer"] + ["net"] * len(who), ["individuals", *who]]
    path = table(tmp_path / "dlc.csv", both, heads=heads, names=names)
    with pytest.raises(DataError, match=r"individuals: several .*\['left', 'right'\]"):
        read(path)
    np.testing.assert_allclose(read(path, individual="right").radius_px, 9, rtol=1e-3)
    with pytest.raises(DataError, match="no such individual"):
        read(path, individual="middle")


def test_a_table_that_a_spreadsheet_saved_is_read(tmp_path):
    found = read(table(tmp_path / "dlc.csv", edge(), start="\ufeff"))
    np.testing.assert_allclose(found.radius_px, 15, rtol=1e-3)


def test_a_pickle_in_a_table_is_not_run(tmp_path):
    with h5py.File(tmp_path / "dlc.h5", "w") as file:
        group = file.create_group("df_with_missing")
        group["table"] = np.zeros(3, [("index", "i8"), ("values_block_0", "f8", (24,))])
        group.attrs["non_index_axes"] = b"cos\nsystem\n(S'touch run'\ntR."
    with pytest.raises(DataError, match=r"dlc\.h5: is no DeepLabCut table"):
        read(tmp_path / "dlc.h5")


def sleap_h5(path, points, tracks=1):
    with h5py.File(path, "w") as file:
        file["node_names"] = [f"pupil_{k}".encode() for k in range(POINTS)]
        file["tracks"] = np.stack([np.moveaxis(points[..., :2], 0, 2).swapaxes(0, 1)] * tracks)
        file["point_scores"] = np.stack([points[..., 2].T] * tracks)
    return path


@pytest.mark.parametrize("method", ["sleap", "deeplabcut"])
def test_a_table_whose_numbers_lie_in_another_file_is_refused(tmp_path, method):
    sleap_h5(tmp_path / "other.h5", edge())
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name in ("node_names", "tracks"):
            file[name] = h5py.ExternalLink(str(tmp_path / "other.h5"), f"/{name}")
    with pytest.raises(DataError, match=r"a\.h5: .*data lie in another file"):
        pupil_trackers[method](tmp_path / "a.h5")


def test_sleap_files_give_the_same_pupil(tmp_path):
    points = edge(18, 14)
    points[SOME, :, 2] = 0.1
    of_h5 = pupil_trackers["sleap"](sleap_h5(tmp_path / "a.h5", points, tracks=2), track=1)
    head = [f"pupil_{k}.{what}" for k in range(POINTS) for what in ("x", "y", "score")]
    rows = [",".join(["", str(k), "1", *map(str, f.ravel())]) for k, f in enumerate(points)]
    csv = tmp_path / "a.csv"
    csv.write_text("track,frame_idx,instance.score," + ",".join(head) + "\n" + "\n".join(rows))
    of_csv = pupil_trackers["sleap"](csv)
    lost = np.isnan(of_h5.radius_px)
    assert lost[SOME].all()
    assert lost.sum() == 5
    np.testing.assert_allclose(of_h5.radius_px[~lost], np.sqrt(18 * 14), rtol=1e-3)
    np.testing.assert_allclose(of_csv.radius_px, of_h5.radius_px)
    with pytest.raises(DataError, match="no such track"):
        pupil_trackers["sleap"](tmp_path / "a.h5", track=2)
    (tmp_path / "a.slp").write_bytes((tmp_path / "a.h5").read_bytes()[:100])
    with pytest.raises(DataError, match="sleap-convert"):
        pupil_trackers["sleap"](tmp_path / "a.slp")
