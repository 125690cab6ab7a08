import csv
import hashlib
import json
import os
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pandas as pd
import pytest

from pipeline.closed_loop.package.files import read_package, verify_package, write_package
from pipeline.closed_loop.presentation.answer import check_answer
from pipeline.closed_loop.presentation.audit import audit_presentation
from pipeline.errors import DataError
from pipeline.stimulus.monitor import MonitorCurve


@pytest.fixture
def package(tmp_path, contents):
    return write_package(tmp_path / "package", **contents)


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_is_what_the_design_says_to_a_program_that_knows_only_the_design(package, contents):
    manifest = json.loads((package / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["format"] == "inception-package/1"
    assert manifest["plan"] == "0123456789abcdef"
    assert manifest["animal_id"] == 7
    assert manifest["source"] == [{"session": 1, "scan_idx": 2}]
    assert manifest["monitor"]["width_px"] == 256
    assert manifest["seed"] == 3
    files = {p.relative_to(package).as_posix() for p in package.rglob("*") if p.is_file()}
    assert set(manifest["files"]) == files - {"manifest.json"}
    for name, sha in manifest["files"].items():
        assert hashlib.sha256((package / name).read_bytes()).hexdigest() == sha

    trials = rows_of(package / "trials.csv")
    assert list(trials[0]) == ["trial_idx", "image", "duration_s", "blank_before_s"]
    assert [row["image"] for row in trials] == contents["trials"].image.tolist()
    for name, expected in contents["images"].items():
        picture = cv2.imread(str(package / "images" / f"{name}.png"), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(picture, expected)
    images = rows_of(package / "images.csv")
    columns = "image kind variant session scan_idx field unit_id mean_cd_m2 sd_cd_m2"
    assert list(images[0]) == [*columns.split(), "clipped_fraction", "predicted"]
    assert {row["variant"] for row in images} == {"0"}
    assert images[0]["unit_id"] == "5"  # not 5.0, beside the empty cells of natural images
    assert images[-1]["kind"] == "natural"
    assert images[-1]["unit_id"] == ""
    units = rows_of(package / "units.csv")
    assert list(units[0]) == ["session", "scan_idx", "field", "unit_id", "y_px", "x_px"]
    assert [float(row["x_px"]) for row in units] == [2.0, 3.0, 4.25]
    assert manifest["luminance"]["mei"]["mean_cd_m2"] == [10.0, 10.2]


@pytest.mark.parametrize("name", ["package", "package.zip"])
def test_reads_what_it_wrote_from_folder_or_zip(tmp_path, contents, name):
    goal = write_package(tmp_path / name, **contents)
    assert [p.name for p in tmp_path.iterdir()] == [name]  # nothing temporary is left
    verify_package(goal, plan_id=contents["plan_id"], animal_id=7)
    package = read_package(goal)
    pd.testing.assert_frame_equal(
        package.trials,
        contents["trials"][["trial_idx", "image", "duration_s", "blank_before_s"]],
        check_dtype=False,
    )
    assert set(package.images) == set(contents["images"])
    for image in package.images:
        np.testing.assert_array_equal(package.images[image], contents["images"][image])
    assert package.curve.digest() == contents["curve"].digest()
    assert package.manifest["monitor"]["calibration_digest"] == contents["curve"].digest()


@pytest.mark.numerical
def test_is_the_same_bytes_each_time(tmp_path, contents):
    first, second = (write_package(tmp_path / f"{n}.zip", **contents) for n in "ab")
    assert first.read_bytes() == second.read_bytes()


def edit_text(package, name, old, new):
    text = (package / name).read_text(encoding="utf-8")
    assert old in text
    (package / name).write_text(text.replace(old, new, 1), encoding="utf-8")


def swap_images(package):
    first, second = sorted((package / "images").iterdir())[:2]
    a, b = first.read_bytes(), second.read_bytes()
    first.write_bytes(b)
    second.write_bytes(a)


def reseal(package, name):
    """Forge the manifest's SHA-256 of an edited file."""
    manifest = json.loads((package / "manifest.json").read_text())
    manifest["files"][name] = hashlib.sha256((package / name).read_bytes()).hexdigest()
    (package / "manifest.json").write_text(json.dumps(manifest))


def forge_trials(package):
    edit_text(package, "trials.csv", "0.5,", "0.6,")
    reseal(package, "trials.csv")


TAMPERINGS = {
    "trials edited": (lambda p: edit_text(p, "trials.csv", "0.5,", "0.6,"), "trials.csv.*edited"),
    "manifest edited": (
        lambda p: edit_text(p, "manifest.json", '"animal_id": 7', '"animal_id": 8'),
        "manifest.json was edited",
    ),
    "forged": (forge_trials, "manifest.json was edited"),
    "images swapped": (swap_images, r"\.png: a file was edited"),
    "image missing": (lambda p: next((p / "images").iterdir()).unlink(), "1 files are missing"),
    "image added": (
        lambda p: shutil.copy(next((p / "images").iterdir()), p / "images" / "more.png"),
        "do not belong here",
    ),
    "no manifest": (lambda p: (p / "manifest.json").unlink(), "not a package"),
    "cut manifest": (
        lambda p: (p / "manifest.json").write_text((p / "manifest.json").read_text()[:99]),
        "damaged",
    ),
    "other format": (
        lambda p: edit_text(p, "manifest.json", "inception-package/1", "inception-package/9"),
        "unknown format",
    ),
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_refuses_an_edited_package_in_one_line(package, name):
    tamper, message = TAMPERINGS[name]
    tamper(package)
    for check in (verify_package, read_package):
        with pytest.raises(DataError, match=message) as caught:
            check(package)
        assert "\n" not in str(caught.value)


def test_refuses_a_foreign_package(package, contents):
    with pytest.raises(DataError, match="another plan"):
        verify_package(package, plan_id="ffff")
    with pytest.raises(DataError, match="another animal"):
        verify_package(package, animal_id=8)
    with pytest.raises(DataError, match="another monitor calibration"):
        verify_package(package, calibration_digest="0" * 16)


def test_refuses_contents_that_contradict_each_other(tmp_path, contents):
    name = contents["trials"].image[0]
    wrong = {**contents["images"], name: 255 - contents["images"][name]}
    less = {key: value for key, value in contents["images"].items() if key != name}
    wide = {**contents["monitor"], "width_px": 300}
    for change, message in (
        ({"images": wrong}, "not what its name says"),
        ({"images": less}, "1 images of trials are missing"),
        ({"monitor": wide}, "aspect ratio"),
        ({"units_table": contents["units_table"][:2]}, "units.csv does not list"),
        ({"images_table": contents["images_table"][1:]}, "no row in images.csv"),
        ({"trials": contents["trials"].drop(columns="duration_s")}, "duration_s"),
    ):
        with pytest.raises(DataError, match=message):
            write_package(tmp_path / "p", **{**contents, **change})
    assert not list(tmp_path.iterdir())


def test_overwrites_only_its_own_plan(tmp_path, contents):
    goal = write_package(tmp_path / "package", **contents)
    write_package(goal, **contents)
    verify_package(goal)
    with pytest.raises(DataError, match="another plan"):
        write_package(goal, **{**contents, "plan_id": "other"})
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match="no package"):
        write_package(tmp_path / "data", **contents)
    assert (tmp_path / "data" / "thesis.txt").exists()


def play(package, out, *more):
    command = [sys.executable, "-I", str(package / "player.py"), "--dry-run", "--out", str(out)]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(
        [*command, *more], capture_output=True, text=True, env=environment, check=False
    )


def test_player_shows_the_plan_on_whole_refreshes(package, tmp_path, contents):
    result = play(package, tmp_path / "day2")
    assert result.returncode == 0, result.stderr
    log = pd.read_csv(tmp_path / "day2" / "trials.csv")
    assert list(log) == ["trial_idx", "image", "onset_s", "offset_s", "blank_before_s"]
    assert log.image.tolist() == contents["trials"].image.tolist()
    refreshes = (log[["onset_s", "offset_s"]] * 60).to_numpy()
    np.testing.assert_allclose(refreshes, refreshes.round(), atol=1e-2)
    np.testing.assert_allclose(log.offset_s - log.onset_s, 0.5, atol=1e-4)
    np.testing.assert_allclose(
        log.blank_before_s, contents["trials"].blank_before_s, atol=0.5 / 60 + 1e-4
    )
    audit = audit_presentation(read_package(package).trials, log)
    assert audit.summary["ok"] == len(log)
    assert json.loads((tmp_path / "day2" / "player.json").read_text())["animal_id"] == 7
    assert play(package, tmp_path / "day2").returncode == 1  # never over an earlier log


BAD_LOGS = {
    "cut": (lambda log: log[:-5], "5 of 32 planned trials are not in the log"),
    "swapped": (
        lambda log: log.assign(image=[*log.image[1::-1], *log.image[2:]]),
        "2 of 32 trials showed another image than planned, the first is trial 0",
    ),
    "short": (
        lambda log: log.assign(offset_s=log.offset_s.where(log.trial_idx != 7, log.onset_s + 0.3)),
        "1 of 32 images were on 50 ms longer or shorter than planned, the first is trial 7",
    ),
    "extra": (
        lambda log: pd.concat([log, log[-1:].assign(trial_idx=99)]),
        "1 of 32 logged trials are not planned, the first is trial 99",
    ),
    "twice": (lambda log: pd.concat([log, log[-1:]]), "1 of 32 rows log a trial once more"),
    "reversed": (lambda log: log[::-1], "31 of 32 trials are out of order"),
}


def test_the_log_of_a_flawless_day_proves_its_plan(package, tmp_path):
    play(package, tmp_path / "day2")
    result = play(package, tmp_path / "day2", "--verify")
    assert (result.returncode, result.stderr) == (0, "")
    assert "shows the plan, trial by trial" in result.stdout


@pytest.mark.parametrize("name", BAD_LOGS)
def test_a_log_that_is_not_the_plan_is_told_in_one_line(package, tmp_path, name):
    play(package, tmp_path / "day2")
    change, line = BAD_LOGS[name]
    path = tmp_path / "day2" / "trials.csv"
    change(pd.read_csv(path)).to_csv(path, index=False)
    result = play(package, tmp_path / "day2", "--verify")
    assert result.returncode == 3
    assert result.stderr.startswith(line)
    assert result.stderr.count("\n") == 1


def test_a_log_of_another_package_proves_nothing(package, tmp_path):
    play(package, tmp_path / "day2")
    path = tmp_path / "day2" / "player.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "package_digest": "0" * 64}))
    result = play(package, tmp_path / "day2", "--verify")
    assert result.returncode == 3
    assert "package_digest 0000" in result.stderr


def test_player_refuses_an_edited_package(package, tmp_path):
    edit_text(package, "trials.csv", "0.5,", "0.6,")
    result = play(package, tmp_path / "day2")
    assert result.returncode == 1
    assert "edited" in result.stderr
    assert not (tmp_path / "day2" / "trials.csv").exists()


def test_refuses_an_answer_to_something_else_and_warns_of_gaps(package, contents):
    read = read_package(package)
    good = {"plan": contents["plan_id"], "animal_id": 7}
    shown = contents["trials"][["trial_idx", "image"]]
    assert check_answer(read, good, shown, curve=contents["curve"]) == []
    for change, message in (
        ({"plan": "other"}, "another plan"),
        ({"animal_id": 8}, "another animal"),
    ):
        with pytest.raises(DataError, match=message):
            check_answer(read, {**good, **change}, shown)
    curve = contents["curve"]
    dim = MonitorCurve(curve.pixel_value, curve.luminance_cd_m2 * 0.8)
    with pytest.raises(DataError, match="not calibrated as the package assumes"):
        check_answer(read, good, shown, curve=dim)
    with pytest.raises(DataError, match="no image of the plan"):
        check_answer(read, good, shown.assign(image="f" * 64))
    cut = check_answer(read, good, shown[:10])
    assert any("22 of 32 planned trials" in finding.text for finding in cut)


def test_a_zip_that_holds_far_more_than_its_size_is_not_unpacked(tmp_path, contents, monkeypatch):
    import zipfile

    path = write_package(tmp_path / "a.zip", **contents)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images/zeros.png", bytes(1 << 24))
    monkeypatch.setattr("pipeline.npy.FREE_BYTES", 1 << 20)
    with pytest.raises(DataError, match="far more than a package"):
        read_package(path)


def test_a_damaged_zip_is_one_line(tmp_path, contents):
    whole = write_package(tmp_path / "a.zip", **contents).read_bytes()
    central, local = whole.find(b"PK\x01\x02"), whole.find(b"PK\x03\x04")
    damages = {
        "encrypted": {central + 8: whole[central + 8] | 1, local + 6: whole[local + 6] | 1},
        "method": {central + 10: 99, local + 8: 99},
        "deflate": {place: whole[place] ^ 0x55 for place in range(60, 80)},
    }
    for name, changes in damages.items():
        data = bytearray(whole)
        for place, value in changes.items():
            data[place] = value
        path = tmp_path / f"{name}.zip"
        path.write_bytes(data)
        with pytest.raises(DataError) as caught:
            read_package(path)
        assert "\n" not in str(caught.value)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("images.csv", b"image,kind\n\xff,\xfe\n"),
        ("units.csv", b""),
        ("units.csv", b"a\n1,2\n1,2,3\n"),
        ("trials.csv", b"trial_idx,picture\n0,x\n"),
        ("trials.csv", b"trial_idx,image\n0,../../x\n"),
        ("trials.csv", b"trial_idx,image\n0,\n"),
        ("manifest.json", None),
    ],
)
def test_a_table_that_cannot_be_used_is_one_line(tmp_path, contents, file, content):
    import hashlib
    import json

    from pipeline.closed_loop.package.manifest import manifest_digest

    root = write_package(tmp_path / "a", **contents)
    manifest = json.loads((root / "manifest.json").read_text())
    if content is None:
        manifest["monitor"] = [1]
    else:
        (root / file).write_bytes(content)
        manifest["files"][file] = hashlib.sha256(content).hexdigest()
    manifest["digest"] = manifest_digest(manifest)
    (root / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError) as caught:
        read_package(root)
    assert "\n" not in str(caught.value)
