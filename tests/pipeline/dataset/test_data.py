import numpy as np
import pytest

from pipeline.dataset import Dataset, load
from pipeline.errors import DataError


def _arrays(rng, n_images=30, units=5):
    images = rng.integers(0, 256, (n_images, 6, 8), dtype=np.uint8)
    index = np.concatenate(
        [np.arange(n_images - 5), np.repeat(np.arange(n_images - 5, n_images), 4)]
    )
    tiers = np.where(index >= n_images - 5, "test", np.where(index % 5 == 0, "validation", "train"))
    order = rng.permutation(len(index))
    index, tiers = index[order], tiers[order]
    return {
        "images": images,
        "image_index": index,
        "image_id": index + 100,
        "responses": rng.gamma(1.0, size=(len(index), units)).astype(np.float32),
        "tiers": tiers,
        "behavior": rng.normal(size=(len(index), 3)),
        "pupil_center": rng.normal(80, 3, size=(len(index), 2)),
        "unit_ids": np.arange(10, 10 + units),
        "um_xyz": rng.normal(size=(units, 3)),
    }


@pytest.fixture
def arrays():
    return _arrays(np.random.default_rng(0))


def _equal(a: Dataset, b: Dataset):
    for name in [
        "image_id",
        "responses",
        "tiers",
        "behavior",
        "pupil_center",
        "unit_ids",
        "um_xyz",
    ]:
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    np.testing.assert_array_equal(a.images[a.image_index], b.images[b.image_index])


def test_statistics_are_those_of_the_training_trials_alone(arrays):
    data = Dataset(**arrays)
    train = arrays["tiers"] == "train"
    shown = arrays["images"][arrays["image_index"][train]].astype(float)
    stats = data.stats
    assert stats.image_mean == pytest.approx(shown.mean())
    assert stats.image_sd == pytest.approx(shown.std())
    np.testing.assert_allclose(stats.response_sd, arrays["responses"][train].std(0, ddof=1), 1e-5)
    np.testing.assert_allclose(stats.behavior_mean, arrays["behavior"][train].mean(0))
    arrays["responses"] = np.where(train[:, None], arrays["responses"], 1e6)
    again = Dataset(**arrays).stats
    np.testing.assert_array_equal(again.response_mean, stats.response_mean)


def test_normalizers_invert_and_spare_a_silent_unit(arrays):
    arrays["responses"][:, 2] = 0.25
    data = Dataset(**arrays)
    normal = data.stats.normalize_responses(data.responses)
    np.testing.assert_allclose(data.stats.restore_responses(normal), data.responses, rtol=1e-6)
    np.testing.assert_array_equal(normal[:, 2], 0.25)
    images = data.images.astype(float)
    round_trip = data.stats.restore_images(data.stats.normalize_images(images))
    np.testing.assert_allclose(round_trip, images)


def test_an_image_in_two_tiers_is_refused(arrays):
    repeated = np.flatnonzero(arrays["tiers"] == "test")[0]
    arrays["tiers"][repeated] = "train"
    with pytest.raises(DataError, match="more than one tier"):
        Dataset(**arrays)


@pytest.mark.parametrize("name", ["image_id", "tiers", "behavior", "pupil_center", "um_xyz"])
def test_an_array_of_another_length_is_named(arrays, name):
    arrays[name] = arrays[name][:-1]
    with pytest.raises(DataError, match=name):
        Dataset(**arrays)


def test_trials_without_behavior_are_dropped_and_counted(arrays):
    arrays["behavior"][[3, 7], 0] = np.nan
    arrays["pupil_center"][7] = np.nan
    arrays["responses"][9] = np.nan
    data, dropped = Dataset(**arrays).complete()
    assert dropped == 3
    assert data.n_trials == len(arrays["tiers"]) - 3
    assert np.isfinite(data.responses).all()
    kept = np.delete(np.arange(len(arrays["tiers"])), [3, 7, 9])
    np.testing.assert_array_equal(data.image_id, arrays["image_id"][kept])
    np.testing.assert_array_equal(
        data.images[data.image_index], arrays["images"][arrays["image_index"][kept]]
    )


def test_a_missing_stream_costs_its_column_and_no_trial(arrays):
    arrays["behavior"][:, 2] = np.nan
    arrays["pupil_center"][:] = np.nan
    arrays["responses"][:, 1] = np.nan
    data, dropped = Dataset(**arrays).complete()
    assert dropped == 0
    assert data.behavior.shape[1] == 2
    assert data.pupil_center is None
    np.testing.assert_array_equal(data.unit_ids, [10, 12, 13, 14])


def test_repeats_lists_each_test_image_with_its_trials(arrays):
    repeats = Dataset(**arrays).repeats()
    assert sorted(name for name, _ in repeats) == [125, 126, 127, 128, 129]
    for name, trials in repeats:
        assert (arrays["image_id"][trials] == name).all()
        assert len(trials) == 4


def test_save_and_load_return_the_same(arrays, tmp_path):
    data = Dataset(**arrays)
    data.save(tmp_path / "scan.npz")
    _equal(load(tmp_path / "scan.npz"), data)
    assert [file.name for file in tmp_path.iterdir()] == ["scan.npz"]


def test_a_prepared_file_with_one_image_a_trial_is_read(arrays, tmp_path):
    prepared = {name: arrays[name] for name in ("responses", "tiers", "image_id", "behavior")}
    prepared["images"] = arrays["images"][arrays["image_index"]]
    np.savez(tmp_path / "prepared.npz", **prepared)
    data = load(tmp_path / "prepared.npz")
    assert len(data.images) == len(arrays["images"])  # each unique image once
    np.testing.assert_array_equal(data.images[data.image_index], prepared["images"])
    np.testing.assert_array_equal(data.behavior, arrays["behavior"])
    assert data.pupil_center is None


def test_the_published_folder_layout_is_read(arrays, tmp_path):
    for name in ("images", "responses", "behavior", "pupil_center"):
        (tmp_path / "data" / name).mkdir(parents=True)
    per_trial = {
        "images": arrays["images"][arrays["image_index"]][:, None].astype(np.float64),
        "responses": arrays["responses"],
        "behavior": arrays["behavior"],
        "pupil_center": arrays["pupil_center"],
    }
    for name, values in per_trial.items():
        for trial, value in enumerate(values):
            np.save(tmp_path / "data" / name / f"{trial}.npy", value)
    (tmp_path / "meta" / "trials").mkdir(parents=True)
    (tmp_path / "meta" / "neurons").mkdir()
    np.save(tmp_path / "meta" / "trials" / "tiers.npy", arrays["tiers"])
    np.save(tmp_path / "meta" / "trials" / "frame_image_id.npy", arrays["image_id"])
    np.save(tmp_path / "meta" / "neurons" / "unit_ids.npy", arrays["unit_ids"])
    np.save(tmp_path / "meta" / "neurons" / "cell_motor_coordinates.npy", arrays["um_xyz"])
    data = load(tmp_path)
    _equal(data, Dataset(**arrays))
    assert data.images.dtype == np.uint8
    (tmp_path / "data" / "responses" / "3.npy").unlink()
    with pytest.raises(DataError, match=r"3\.npy"):
        load(tmp_path)


def test_damaged_or_foreign_files_give_one_line_that_names_them(arrays, tmp_path):
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(DataError, match=r"a\.npz"):
        load(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", images=arrays["images"])
    with pytest.raises(DataError, match="missing"):
        load(tmp_path / "b.npz")
    with pytest.raises(DataError, match="no such"):
        load(tmp_path / "c.npz")
    with pytest.raises(DataError, match=r"tiers\.npy"):
        load(tmp_path)
