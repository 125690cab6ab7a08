"""The rows of a loop go out as open files, and come into a database as they were."""

import hashlib
import json
import shutil

import numpy as np
import pytest

from pipeline.errors import DataError

pytestmark = pytest.mark.tables


@pytest.fixture
def bench(_bound, database, ledger, write_bundle, tmp_path):
    """A processed scan with a loop, its archive, and what takes an archive in."""
    import datajoint as dj

    from schemas import behavior, dataset, imaging
    from schemas.decisions import tasks
    from schemas.decisions.ingest import ingest_bundle
    from workers.archive.load import load_archive
    from workers.archive.write import write_archive
    from workers.queue import order
    from workers.queue.lease import Ledger

    key = ingest_bundle(write_bundle(n_images=40))
    tasks.register_loop(key, targets=2, minutes=3)
    steps = ("ScanInfo", "RasterPhase", "Motion", "SummaryImages", "Segmentation", "Fluorescence")
    tables = [getattr(imaging, name) for name in (*steps, "Activity")]
    tables += [behavior.Sync, behavior.Pupil, behavior.Treadmill]
    for table in (*tables, dataset.Responses, dataset.TrialBehavior):
        table.populate(key, suppress_errors=False)
    dataset.Dataset.populate(dataset.DatasetSpec.Scan & key, suppress_errors=False)
    jobs, plan = Ledger(dj.conn()), order.load("schemas", _bound[2])

    def write(name):
        return write_archive(jobs, plan, key, tmp_path / name)

    return {
        "key": key,
        "write": write,
        "manifest": write("archive"),
        "folder": tmp_path / "archive",
        "load": lambda folder: load_archive(jobs, plan, folder),
    }


def forget(key):
    """Delete a scan with all that was made of it, and the files of its arrays."""
    import datajoint as dj

    from schemas import experiment, imaging

    reference = (imaging.Activity & key).fetch1("activity")
    (experiment.Scan & key).delete(prompt=False, part_integrity="cascade")
    return dj.config.stores["main"]["location"], reference.path


def rows(folder):
    return {
        file.name: json.loads(file.read_text())
        for file in sorted((folder / "tables").glob("*.json"))
        if not file.name.endswith(".computed.json")
    }


def test_what_was_archived_and_deleted_comes_back_as_it_was(bench):
    from pathlib import Path

    from schemas import dataset, experiment, imaging

    key = bench["key"]
    before = (imaging.Activity & key).fetch1("activity").load()
    spec = (dataset.DatasetSpec.Scan & key).fetch1("dataset_hash")
    store, path = forget(key)
    (Path(store) / path).unlink()
    assert not experiment.Scan & key
    assert bench["load"](bench["folder"]) == bench["manifest"]
    np.testing.assert_array_equal((imaging.Activity & key).fetch1("activity").load(), before)
    data = dataset.load_dataset((dataset.Dataset & {"dataset_hash": spec}).fetch1("dataset_file"))
    assert data.n_trials == (dataset.Dataset & {"dataset_hash": spec}).fetch1("n_trials")
    bench["write"]("again")
    assert rows(bench["folder"].with_name("again")) == rows(bench["folder"])


def test_an_archive_is_of_the_scan_alone_and_says_what_it_holds(bench):
    folder, key = bench["folder"], bench["key"]
    found = rows(folder)
    assert bench["manifest"]["scans"] == [key]
    assert [row["animal_id"] for row in found["experiment.Mouse.json"]] == [key["animal_id"]]
    assert len(found["stimulus.Trial.json"]) == 44
    shown = {row["image_hash"] for row in found["stimulus.Trial.json"]}
    members = {row["image_hash"] for row in found["stimulus.ImageSet.Member.json"]}
    assert len(shown) == 40
    assert shown <= members  # the pixels; an image that came with an earlier scan brings its set
    assert len(found["closed_loop.Loop.json"]) == 1
    assert {"imaging.Motion.json", "imaging.MotionMethod.json", "model.ModelTask.json"} & set(found)
    for line in (folder / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    assert "numpy==" in (folder / "packages.txt").read_text()
    assert "inception import" in (folder / "README.md").read_text()
    activity = found["imaging.Activity.json"][0]["activity"]
    assert np.load(folder / "store" / activity["path"]).shape == (6, 600)
    with pytest.raises(DataError, match="exists already"):
        bench["write"]("archive")


def changed(folder, name, change, *, fresh=True):
    """Change a file of a copy of an archive; the manifest follows unless it is damage."""
    copy = folder.with_name("changed")
    shutil.copytree(folder, copy)
    path = copy / name
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    if fresh and name != "manifest.json":
        manifest = json.loads((copy / "manifest.json").read_text())
        data = path.read_bytes()
        entry = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        manifest["files"][name] = entry
        (copy / "manifest.json").write_text(json.dumps(manifest))
    return copy


def more_column(table):
    table[0]["loot"] = 1


def other_path(table):
    table[0]["activity"]["path"] = "../../etc/passwd"


def other_table(manifest):
    manifest["tables"]["experiment.Mouse"]["table"] = "workers.job"


def leaves(manifest):
    manifest["files"]["../x"] = {"size": 1, "sha256": "0" * 64}


def older(manifest):
    manifest["schema_version"] = 1


STRANGE = {
    "damage": ("tables/stimulus.Trial.json", more_column, False, "is damaged"),
    "column": ("tables/stimulus.Trial.json", more_column, True, "columns are not those"),
    "path": ("tables/imaging.Activity.json", other_path, True, "a file that is not in the archive"),
    "table": ("manifest.json", other_table, True, "table is not one of this program"),
    "leaves": ("manifest.json", leaves, True, "names what no archive holds"),
    "older": ("manifest.json", older, True, "another version of the tables; found 1"),
}


def test_what_no_archive_holds_is_refused_in_one_line(bench):
    from schemas import experiment, stimulus

    before = len(stimulus.Trial & bench["key"])
    bench["load"](bench["folder"])  # once more changes nothing
    assert len(stimulus.Trial & bench["key"]) == before
    mouse = {"animal_id": bench["key"]["animal_id"]}
    experiment.Mouse.update1({**mouse, "genotype": "another"})
    with pytest.raises(DataError, match=r"mouse: another row has this key; found .*animal_id"):
        bench["load"](bench["folder"])
    assert (experiment.Mouse & mouse).fetch1("genotype") == "another"
    for name, change, fresh, message in STRANGE.values():
        copy = changed(bench["folder"], name, change, fresh=fresh)
        with pytest.raises(DataError, match=message) as caught:
            bench["load"](copy)
        assert "\n" not in str(caught.value)
        shutil.rmtree(copy)
