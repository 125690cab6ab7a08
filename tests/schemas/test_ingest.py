"""A bundle is checked as a whole, and goes in as a whole or not at all."""

import json
import os

import numpy as np
import pytest

from pipeline.errors import DataError
from pipeline.stimulus.images import image_hash, write_png

pytestmark = pytest.mark.tables


@pytest.fixture
def ingest(database):
    from schemas.decisions.ingest import ingest_bundle

    return ingest_bundle


def edit(folder, name, old, new):
    path = folder / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_everything_of_a_bundle_is_there(ingest, write_bundle):
    from schemas import experiment, stimulus

    folder = write_bundle()
    key = ingest(folder)
    scan = (experiment.Scan & key).fetch1()
    assert scan["folder"] == str(folder)
    assert scan["um_per_px_y"] == 1.5
    assert scan["treadmill_diameter_cm"] == 10.0
    trials = (stimulus.Trial & key).to_dicts(order_by="trial_idx")
    assert len(trials) == 16
    assert trials[0]["image_hash"] == trials[12]["image_hash"]
    assert trials[3]["onset_s"] == pytest.approx(4.6)
    calibration = (experiment.MonitorCalibration & key).fetch1()
    assert calibration["gamma"] == pytest.approx(2.2, abs=0.01)
    kinds = set((experiment.Scan.File & key).to_arrays("file_kind"))
    assert {"traces", "masks", "trials", "monitor", "pupil", "treadmill"} <= kinds


def test_images_come_back_from_the_store_as_they_were(ingest, write_bundle):
    from schemas import stimulus

    key = ingest(write_bundle())
    hashes = (stimulus.Trial & key).to_arrays("image_hash").tolist()
    found = stimulus.load_images(stimulus.ImageSet.locate(hashes))
    assert set(found) == set(hashes)
    for name, image in found.items():
        assert image_hash(np.asarray(image)) == name


def test_the_same_bundle_again_changes_nothing(ingest, write_bundle):
    from schemas import experiment, stimulus

    folder = write_bundle()
    key = ingest(folder)
    before = (len(experiment.Scan.File()), len(stimulus.Trial()), len(stimulus.ImageSet()))
    assert ingest(folder) == key
    assert (len(experiment.Scan.File()), len(stimulus.Trial()), len(stimulus.ImageSet())) == before


def test_another_recording_under_the_same_key_is_refused(ingest, write_bundle):
    folder = write_bundle()
    ingest(folder)
    edit(folder, "trials.csv", "0,picture_0.png,1.0000", "0,picture_0.png,1.0500")
    with pytest.raises(DataError, match="another recording has this key"):
        ingest(folder)


def test_nothing_stays_when_the_insert_fails_halfway(ingest, write_bundle, monkeypatch):
    from schemas import experiment, stimulus

    def fail(*args, **kwargs):
        raise OSError("disk full")

    folder = write_bundle()
    animal = {"animal_id": json.loads((folder / "recording.json").read_text())["animal_id"]}
    monkeypatch.setattr(stimulus.Trial, "insert", fail)
    with pytest.raises(OSError, match="disk full"):
        ingest(folder)
    monkeypatch.undo()
    assert len(experiment.Mouse & animal) == 0
    assert ingest(folder)["animal_id"] == animal["animal_id"]


@pytest.mark.parametrize("kind", ["tiff", "npz"])
def test_other_forms_of_the_same_content(ingest, write_bundle, kind):
    from schemas import experiment, stimulus

    key = ingest(write_bundle(**{kind: True}))
    assert len(stimulus.Trial & key) == 16
    assert bool(experiment.Scan.files(key, "tiff")) == (kind == "tiff")


def test_a_rig_without_eye_and_treadmill_is_legal(ingest, write_bundle):
    from schemas import experiment

    key = ingest(write_bundle(eye=False, running=False, treadmill=None))
    assert experiment.Scan.files(key, "pupil") == []
    assert (experiment.Scan & key).fetch1("treadmill_diameter_cm") is None


def test_a_trial_may_name_an_image_that_the_database_knows(ingest, write_bundle, tmp_path):
    from schemas import stimulus

    ingest(write_bundle())
    folder = write_bundle("second", session=2)
    image = image_hash(np.random.default_rng(0).integers(0, 256, (12, 36, 64), np.uint8)[0])
    for row in ("0,", "12,", "14,"):
        edit(folder, "trials.csv", f"{row}picture_0.png", f"{row}{image}")
    (folder / "images" / "picture_0.png").unlink()
    key = ingest(folder)
    assert (stimulus.Trial & key & "trial_idx = 0").fetch1("image_hash") == image


def broken(name):
    """Return a function that damages a bundle, and the words its error must have."""

    def bad_json(folder, **entries):
        path = folder / "recording.json"
        content = {**json.loads(path.read_text()), **entries}
        path.write_text(json.dumps(content))

    def big_image(folder):
        write_png(folder / "images" / "picture_1.png", np.zeros((40, 64), np.uint8))

    def swap(folder, make):
        path = folder / "images" / "picture_1.png"
        path.unlink()
        make(path)

    def square_images(folder):
        for file in (folder / "images").iterdir():
            write_png(
                file,
                np.random.default_rng(hash(file.name) % 99).integers(
                    0, 255, (64, 64), dtype=np.uint8
                ),
            )

    def short_traces(folder):
        traces = np.load(folder / "traces.npz")
        np.savez(
            folder / "traces.npz", time_s=traces["time_s"][:-5], fluorescence=traces["fluorescence"]
        )

    def few_masks(folder):
        masks = np.load(folder / "masks.npz")
        np.savez(folder / "masks.npz", masks=masks["masks"][:2], mean_image=masks["mean_image"])

    trials, pupil, wheel = "trials.csv", "pupil.csv", "treadmill.csv"
    cases = {
        "no recording.json": (lambda f: (f / "recording.json").unlink(), "recording.json"),
        "not JSON": (lambda f: (f / "recording.json").write_text("{"), "JSON"),
        "not UTF-8": (lambda f: (f / "recording.json").write_bytes(b"\xff\xfe\x00"), "UTF-8"),
        "other format": (lambda f: bad_json(f, format="inception-recording/9"), "format"),
        "animal is text": (lambda f: bad_json(f, animal_id="one"), "animal_id"),
        "session too large": (lambda f: bad_json(f, session=40000), "session"),
        "date in the future": (lambda f: bad_json(f, scan_ts="2999-01-01T00:00:00"), "scan_ts"),
        "path traversal": (
            lambda f: bad_json(f, imaging={"files": ["../../etc/passwd"]}),
            "outside of the bundle",
        ),
        "missing movie": (lambda f: bad_json(f, imaging={"files": ["scan.tif"]}), "scan.tif"),
        "neither movie nor traces": (lambda f: bad_json(f, imaging={}), "files or traces"),
        "absurd pixel size": (
            lambda f: bad_json(
                f, imaging={"traces": "traces.npz", "masks": "masks.npz", "um_per_px": [0, 1]}
            ),
            "um_per_px",
        ),
        "no monitor": (lambda f: (f / "monitor.csv").unlink(), "monitor.csv"),
        "flat monitor": (
            lambda f: (f / "monitor.csv").write_text(
                "pixel_value,luminance_cd_m2\n0,1\n100,1\n255,1\n"
            ),
            "luminance",
        ),
        "no trials": (lambda f: (f / trials).unlink(), trials),
        "column missing": (lambda f: edit(f, trials, "offset_s", "off"), "offset_s"),
        "offset before onset": (lambda f: edit(f, trials, "1.5000", "0.5000"), "onset_s"),
        "not a number": (lambda f: edit(f, trials, "2.2000", "soon"), "soon"),
        "trial twice": (lambda f: edit(f, trials, "\n1,", "\n0,"), "trial_idx"),
        "trials overlap": (lambda f: edit(f, trials, "1.5000", "2.5000"), "overlap"),
        "foreign clock": (
            lambda f: np.savez(
                f / "traces.npz", time_s=1e6 + np.arange(600) / 10, fluorescence=np.eye(6, 600)
            ),
            "clock",
        ),
        "image missing": (lambda f: (f / "images" / "picture_3.png").unlink(), "picture_3"),
        "unknown hash": (lambda f: edit(f, trials, "picture_2.png", "ab" * 32), "abab"),
        "image of another size": (big_image, "size"),
        "wrong aspect": (square_images, "aspect"),
        "image is a pipe": (lambda f: swap(f, os.mkfifo), "no regular file"),
        "image is a device": (lambda f: swap(f, lambda p: p.symlink_to("/dev/zero")), "outside"),
        "image elsewhere": (lambda f: swap(f, lambda p: p.symlink_to(__file__)), "outside"),
        "image is text": (lambda f: (f / "images" / "picture_1.png").write_text("x"), "picture_1"),
        "times go back": (
            lambda f: np.savez(
                f / "traces.npz", time_s=np.arange(600)[::-1] / 10, fluorescence=np.ones((6, 600))
            ),
            "increase",
        ),
        "traces too long": (short_traces, "traces.npz"),
        "masks too few": (few_masks, "masks.npz"),
        "masks damaged": (lambda f: (f / "masks.npz").write_bytes(b"PK\x03\x04zz"), "masks.npz"),
        "pupil without radius": (lambda f: edit(f, pupil, "radius_px", "size"), "radius_px"),
        "wheel of no size": (lambda f: bad_json(f, treadmill=None), "treadmill"),
        "treadmill empty": (lambda f: (f / wheel).write_text(""), wheel),
        "unknown stream": (
            lambda f: (f / "clocks.csv").write_text("stream,stream_time_s,rig_time_s\nlicks,1,2\n"),
            "licks",
        ),
        "unknown plan": (lambda f: bad_json(f, plan="0123456789abcdef"), "no such plan"),
    }
    return cases if name is None else cases[name]


@pytest.mark.parametrize("name", broken(None))
def test_a_broken_bundle_is_refused_in_one_line(ingest, write_bundle, name):
    from schemas import experiment

    damage, words = broken(name)
    folder = write_bundle()
    animal = {"animal_id": json.loads((folder / "recording.json").read_text())["animal_id"]}
    damage(folder)
    with pytest.raises(DataError) as caught:
        ingest(folder)
    message = str(caught.value)
    assert words in message
    assert "\n" not in message
    assert len(message) < 600
    assert len(experiment.Mouse & animal) == 0


def test_frame_times_must_fit_the_movie(ingest, write_bundle):
    folder = write_bundle(tiff=True)
    text = (folder / "frame_times.csv").read_text().splitlines()
    (folder / "frame_times.csv").write_text("\n".join(text[:-10]) + "\n")
    with pytest.raises(DataError, match=r"590 times.*600 frames"):
        ingest(folder)


def test_a_prepared_dataset_is_registered_once(database, tmp_path):
    from schemas import dataset
    from schemas.decisions.ingest import ingest_dataset

    rng = np.random.default_rng(3)
    tiers = np.array(["train"] * 40 + ["validation"] * 10 + ["test"] * 10)
    image_id = np.concatenate([np.arange(50), np.repeat([100, 101], 5)])
    shown = {i: rng.integers(0, 256, (18, 32), dtype=np.uint8) for i in np.unique(image_id)}
    path = tmp_path / "prepared.npz"
    np.savez(
        path,
        images=np.stack([shown[i] for i in image_id]),
        responses=rng.random((60, 5)),
        tiers=tiers,
        image_id=image_id,
    )
    key = ingest_dataset(path)
    assert ingest_dataset(path) == key
    dataset.Dataset.populate(key)
    row = (dataset.Dataset & key).fetch1()
    assert (row["n_units"], row["n_train"], row["n_validation"], row["n_test"]) == (5, 40, 10, 10)
    assert row["n_images"] == 52
    loaded = dataset.load_dataset(row["dataset_file"])
    np.testing.assert_array_equal(loaded.images[loaded.image_index[0]], shown[0])


def test_a_prepared_dataset_reaches_its_meis(database, tmp_path):
    from schemas import dataset, mei, model
    from schemas.decisions.ingest import ingest_dataset
    from schemas.decisions.tasks import register_dataset

    rng = np.random.default_rng(5)
    images = rng.integers(0, 256, (200, 18, 32), dtype=np.uint8)
    place = np.zeros((3, 18, 32))
    place[0, 4:8, 4:8] = place[1, 8:12, 14:18] = place[2, 10:14, 24:28] = 1
    drive = np.einsum("nhw,uhw->nu", images - 127.5, place) / 1000
    responses = np.maximum(drive, 0) + 0.5
    tiers = np.array(["train"] * 150 + ["validation"] * 50)
    path = tmp_path / "spots.npz"
    np.savez(path, images=images, responses=responses, tiers=tiers, image_id=np.arange(200))
    key = ingest_dataset(path)
    ln = {"core": {"name": "linear"}, "training": {"name": "plateau", "max_epochs": 6}}
    recipe = {
        "model": {"cnn": ln, "ln": ln, "cnn_seeds": [1], "ln_seeds": [2]},
        "targets": {"method": "validation", "params": {"min_score": -1.0, "share_of_best": 0.0}},
    }
    register_dataset(key, recipe, targets=3)
    members = (model.EnsembleSpec & key).proj()
    for table in (dataset.Dataset, model.TrainedModel):
        table.populate(key, suppress_errors=False)
    for table in (model.MemberShares, model.Evaluation, mei.Targets, mei.MEI):
        table.populate(members, suppress_errors=False)
    made = (mei.MEI.Unit & key).to_dicts()
    assert len(made) == 3
    assert len({row["image_row"] for row in made}) == 3


def test_a_prepared_dataset_must_be_one(database, tmp_path):
    from schemas.decisions.ingest import ingest_dataset

    path = tmp_path / "nothing.npz"
    np.savez(path, images=np.zeros((3, 4, 4)))
    with pytest.raises(DataError, match="fields are missing"):
        ingest_dataset(path)
