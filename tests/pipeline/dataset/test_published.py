"""Published static data as they are downloaded, and what is wrong in them, said in one line."""

import zipfile

import numpy as np
import pytest

from pipeline.dataset import load
from pipeline.dataset.names import unit_numbers
from pipeline.errors import DataError, Finding

TRIALS = 40


def arrays(seed=0):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (TRIALS, 6, 8), dtype=np.uint8)
    images[-4:] = images[-8:-4]  # four test images, twice
    ids = np.r_[np.arange(TRIALS - 4), np.arange(TRIALS - 8, TRIALS - 4)]
    tiers = np.array(["train"] * 26 + ["validation"] * 6 + ["test"] * 8)
    responses = rng.gamma(1.0, size=(TRIALS, 5)).astype(np.float32)
    return {"images": images, "image_id": ids, "tiers": tiers, "responses": responses}


def folder(path, fields, *, ids=True, skip=(), more=None):
    """Write one file a trial, as the published sets have it."""
    for part in ("data/images", "data/responses", "meta/trials", "meta/neurons"):
        (path / part).mkdir(parents=True)
    for i, (image, response) in enumerate(zip(fields["images"], fields["responses"], strict=True)):
        np.save(path / f"data/images/{i}.npy", image[None])
        if i not in skip:
            np.save(path / f"data/responses/{i}.npy", response)
    np.save(path / "meta/trials/tiers.npy", fields["tiers"])
    if ids:
        np.save(path / "meta/trials/frame_image_id.npy", fields["image_id"])
    for name, values in (more or {}).items():
        np.save(path / f"{name}.npy", values)
    return path


def same(data, fields):
    np.testing.assert_array_equal(data.images[data.image_index], fields["images"])
    np.testing.assert_array_equal(data.responses, fields["responses"])
    np.testing.assert_array_equal(data.tiers, fields["tiers"])


@pytest.mark.parametrize("inner", ["", "static1-1-1/"])
def test_the_zip_of_a_published_folder_is_read_as_it_is(tmp_path, inner):
    fields = arrays()
    root = folder(tmp_path / "set", fields)
    with zipfile.ZipFile(tmp_path / "set.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(root.rglob("*.npy")):
            archive.write(file, f"{inner}{file.relative_to(root)}")
    same(load(tmp_path / "set.zip"), fields)
    same(load(root), fields)
    same(load(tmp_path), fields)  # the folder that holds it
    with zipfile.ZipFile(tmp_path / "set.zip", "a") as archive:
        archive.write(root / "meta/trials/tiers.npy", "static2-2-2/meta/trials/tiers.npy")
    with pytest.raises(DataError, match="several data sets"):
        load(tmp_path / "set.zip")


def test_the_older_hdf5_format_is_read(tmp_path):
    h5py = pytest.importorskip("h5py")
    fields = arrays()
    with h5py.File(tmp_path / "static.h5", "w") as file:
        file["images"], file["responses"] = fields["images"][:, None], fields["responses"]
        file["tiers"] = fields["tiers"].astype("S")
        file["item_info/frame_image_id"] = fields["image_id"]
        file["neurons/unit_ids"] = np.arange(5) + 7
    data = load(tmp_path / "static.h5")
    same(data, fields)
    np.testing.assert_array_equal(data.image_id, fields["image_id"])
    np.testing.assert_array_equal(data.unit_ids, np.arange(5) + 7)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = np.zeros(3)
    with pytest.raises(DataError, match=r"other\.h5.*HDF5.*images, responses and tiers"):
        load(tmp_path / "other.h5")


def test_tiers_without_public_responses_are_left_out_and_counted(tmp_path):
    fields = arrays()
    fields["tiers"] = fields["tiers"].astype("<U16")
    fields["tiers"][:3] = "final_test"
    data = load(folder(tmp_path / "a", fields, skip=range(3)))
    assert data.n_trials == TRIALS - 3
    assert data.findings == (
        Finding("trials-left-out", "3 trials of tier 'final_test' are left out"),
    )
    fields["tiers"][:3] = "train"
    hidden = load(folder(tmp_path / "b", fields, skip=range(TRIALS - 8, TRIALS)))
    assert set(hidden.tiers) == {"train", "validation"}
    assert "8 trials of tier 'test' have no responses" in hidden.findings[0].text


def change(fields, **values):
    for name, (where, value) in values.items():
        fields[name] = fields[name].copy()
        if isinstance(value, float):
            fields[name] = fields[name].astype(np.float32)
        fields[name][where] = value
    return fields


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"tiers": (slice(0, 30, 2), "Train")}, "unknown tiers.*Train"),
        ({"image_id": (1, 0)}, "one id stands for different images.*id 0 on trials 0 and 1"),
        ({"images": (0, arrays()["images"][-1])}, "more than one tier.*same pixels on trials 0"),
        ({"images": ((30, 2, 3), np.nan)}, "NaN or infinite.*image 30"),
        ({"images": ((30, 2, 3), np.inf)}, "NaN or infinite.*image 30"),
    ],
)
@pytest.mark.parametrize("kind", ["npz", "folder"])
def test_contradictions_are_one_line(tmp_path, wrong, message, kind):
    fields = change(arrays(), **wrong)
    path = tmp_path / "set.npz"
    if kind == "npz":
        np.savez(path, **fields)
    else:
        path = folder(tmp_path / "set", fields)
    with pytest.raises(DataError, match=message) as caught:
        load(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_folder_whose_files_do_not_fit_names_the_file(tmp_path):
    fields = arrays()
    path = folder(tmp_path / "a", fields)
    np.save(path / "data/images/3.npy", np.zeros((1, 9, 8), np.uint8))
    with pytest.raises(DataError, match=r"images/3\.npy: images differ in size; found \(9, 8\)"):
        load(path)
    short = folder(tmp_path / "b", {**fields, "tiers": fields["tiers"][:-2]})
    with pytest.raises(DataError, match="tiers do not fit the trials; found 38 tiers"):
        load(short)
    (tmp_path / "b/data/images").rename(tmp_path / "b/data/videos")
    with pytest.raises(DataError, match="holds videos"):
        load(tmp_path / "b")


def test_classes_of_images_keep_equal_ids_apart(tmp_path):
    fields = arrays()
    kinds = np.array(["imagenet"] * 20 + ["movie"] * 20)
    fields["image_id"] = np.r_[np.arange(20), np.arange(16), np.arange(12, 16)]
    more = {"meta/trials/frame_image_class": kinds}
    data = load(folder(tmp_path / "a", fields, more=more))
    assert data.image_id[0] == "imagenet/0"
    assert len(data.repeats()) == 4


@pytest.mark.parametrize("scale", [1 / 255, 1 / 256, 2.0, -1.0])
def test_images_on_another_scale_are_refused(tmp_path, scale):
    fields = arrays()
    np.savez(tmp_path / "a.npz", **{**fields, "images": fields["images"] * scale})
    with pytest.raises(DataError, match=r"a\.npz.*another scale.*0-255"):
        load(tmp_path / "a.npz")


def test_a_wild_value_costs_its_trial_and_no_other_unit(tmp_path):
    fields = arrays()
    before, _ = load_complete(tmp_path, fields)
    for value in (np.nan, np.inf, -np.inf, 1e9):
        data, dropped = load_complete(tmp_path, change(dict(fields), responses=((3, 1), value)))
        assert dropped == 1
        assert any("1 of 40 trials have" in finding.text for finding in data.findings)
        np.testing.assert_array_equal(data.responses, np.delete(before.responses, 3, axis=0))


def load_complete(folder, fields):
    np.savez(folder / "x.npz", **fields)
    return load(folder / "x.npz").complete()


def test_the_scale_of_a_unit_is_its_own(tmp_path):
    fields = arrays()
    usual = load_complete(tmp_path, fields)[0].stats.response_scale
    for factor in (1e-6, 1e6):
        other = {**fields, "responses": fields["responses"] * [1, 1, 1, 1, factor]}
        data, dropped = load_complete(tmp_path, other)
        assert dropped == 0
        np.testing.assert_allclose(data.stats.response_scale, usual * [1, 1, 1, 1, factor], 1e-5)
    sparse = fields["responses"] * 0
    sparse[5, :] = 1.0  # a unit that responds once is sparse, not wild
    sparse[:, :4] = fields["responses"][:, :4]
    assert load_complete(tmp_path, {**fields, "responses": sparse})[1] == 0


@pytest.mark.parametrize(
    ("ids", "numbers"),
    [
        (np.array([4, 9]), [4, 9]),
        (np.array(["12", "7"]), [12, 7]),
        (np.array([3.0, 5.0]), [3, 5]),
        (np.array(["m1-u0", "m1-u1"]), [0, 1]),
        (np.array([1.5, 2.0]), [0, 1]),
    ],
)
def test_ids_of_units_that_are_no_numbers_are_numbered(ids, numbers):
    assert unit_numbers(ids) == numbers


@pytest.mark.parametrize("name", ["behavior", "pupil_center"])
def test_one_wild_value_of_behavior_or_gaze_costs_its_trial(tmp_path, name):
    rng = np.random.default_rng(3)
    state = rng.normal(20, 2, (TRIALS, 2 if name == "pupil_center" else 3))
    whole, dropped = load_complete(tmp_path, {**arrays(), name: state})
    assert dropped == 0
    state[9, 1] = 1e7
    data, dropped = load_complete(tmp_path, {**arrays(), name: state})
    assert dropped == 1
    np.testing.assert_array_equal(getattr(data, name), np.delete(getattr(whole, name), 9, axis=0))
