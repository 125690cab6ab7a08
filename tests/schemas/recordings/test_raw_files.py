"""Raw files are read only if they are what was ingested, by content."""

import os
import shutil

import pytest

from pipeline.errors import DataError, MachineError

pytestmark = pytest.mark.tables


@pytest.fixture
def scan(database, write_bundle):
    """A recording that was ingested: its key, its folder, and its files as the tables say."""
    from schemas import experiment
    from schemas.decisions.ingest import ingest_bundle

    folder = write_bundle(tiff=True, eye=False, running=False, treadmill=None)
    key = ingest_bundle(folder)
    return key, folder, lambda: experiment.Scan.files(key, "tiff")


def swap(path):
    """Exchange the bytes of the second half of a file with those before: same size."""
    content = path.read_bytes()
    third = len(content) // 3
    path.write_bytes(content[:third] + content[2 * third :] + content[third : 2 * third])


def test_frames_that_were_exchanged_are_noticed_whatever_the_time_of_the_file(scan):
    from schemas import experiment

    _, folder, files = scan
    path = folder / "scan.tif"
    assert experiment.existing(files()) == [str(path)]
    before = path.stat()
    original = path.read_bytes()
    swap(path)
    assert path.stat().st_size == before.st_size
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(DataError, match=r"scan\.tif: raw file changed after ingest; found blake2b"):
        experiment.existing(files())
    path.write_bytes(original)  # another time of writing, the same content
    assert experiment.existing(files()) == [str(path)]


def test_large_files_are_read_again_only_if_their_time_differs(scan, monkeypatch):
    from schemas import experiment

    _, folder, files = scan
    path = folder / "scan.tif"
    monkeypatch.setattr(experiment, "HASHED_WHOLE_BYTES", 1000)
    read = []
    whole = experiment.raw_digest
    monkeypatch.setattr(experiment, "raw_digest", lambda p: read.append(p) or whole(p))
    experiment.existing(files())
    assert read == []
    os.utime(path)
    experiment.existing(files())
    assert len(read) == 1
    swap(path)
    with pytest.raises(DataError, match="changed after ingest"):
        experiment.existing(files())


def test_a_recording_that_is_not_mounted_is_no_fault_of_the_recording(scan):
    from schemas import experiment

    _, folder, files = scan
    away = folder.with_name("elsewhere")
    folder.rename(away)
    for empty in (False, True):
        if empty:
            folder.mkdir()
        with pytest.raises(MachineError, match="not there, or empty; mount it"):
            experiment.existing(files())
    folder.rmdir()
    away.rename(folder)
    (folder / "scan.tif").rename(folder / "other.tif")
    with pytest.raises(DataError, match="raw file is gone") as gone:
        experiment.existing(files())
    assert not isinstance(gone.value, MachineError)


def test_ingest_again_sees_other_content_and_where_the_files_lie_now(scan, monkeypatch):
    from schemas import experiment
    from schemas.decisions.ingest import ingest_bundle

    key, folder, files = scan
    moved = folder.with_name("archive")
    shutil.move(folder, moved)
    assert ingest_bundle(moved) == key
    assert experiment.existing(files()) == [str(moved / "scan.tif")]
    assert (experiment.Scan & key).fetch1("folder") == str(moved)
    prints = (experiment.Scan.File & key).to_dicts()
    monkeypatch.setattr(  # as of a file whose head and tail alone were looked at
        experiment,
        "fingerprint",
        lambda p: next(row["fingerprint"] for row in prints if row["path"] == str(p)),
    )
    content = bytearray((moved / "scan.tif").read_bytes())
    content[len(content) // 2] ^= 1
    (moved / "scan.tif").write_bytes(content)
    with pytest.raises(DataError, match="changed after ingest"):
        ingest_bundle(moved)


def test_rows_of_before_there_were_digests_get_one_when_ingested_again(scan):
    from schemas import experiment
    from schemas.decisions.ingest import ingest_bundle

    key, folder, files = scan
    for row in (experiment.Scan.File & key).to_dicts():
        experiment.Scan.File.update1({**row, "digest": None, "modified_ns": None})
    assert files()[0].digest is None
    experiment.existing(files())
    ingest_bundle(folder)
    assert files()[0].digest == experiment.raw_digest(folder / "scan.tif")


def test_recordings_that_were_moved_are_found_again_all_or_none(scan, tmp_path):
    from schemas import experiment
    from workers.deployment.relocate import plan, relocate

    key, folder, files = scan
    new = tmp_path / "disk 2" / "day1"
    with pytest.raises(DataError, match="is not at the new place; no row was changed"):
        plan(folder, new)
    shutil.copytree(folder, new)
    shutil.rmtree(folder)
    moves = plan(folder, new)
    assert {move.old for move in moves} >= {str(folder), str(folder / "scan.tif")}
    original = (new / "scan.tif").read_bytes()
    swap(new / "scan.tif")
    with pytest.raises(DataError, match="is not the file that was ingested"):
        plan(folder, new)
    (new / "scan.tif").write_bytes(original)
    with pytest.raises(MachineError, match="inception relocate"):
        experiment.existing(files())
    relocate(plan(f"{folder}/", new))
    assert experiment.existing(files()) == [str(new / "scan.tif")]
    assert files()[0].modified_ns == (new / "scan.tif").stat().st_mtime_ns
    assert (experiment.Scan & key).fetch1("folder") == str(new)
    with pytest.raises(LookupError, match="no recording, prepared set or stack lies there"):
        plan(folder, new)
    with pytest.raises(LookupError, match="no recording"):
        plan(str(new)[:-1], new)  # a name that only begins alike
