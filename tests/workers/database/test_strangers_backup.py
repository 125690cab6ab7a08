"""A backup from anybody is data: nothing in it runs, and no name in it leaves the folder."""

import gzip
import hashlib
import json
import os
import shutil

import pytest
from typer.testing import CliRunner

from pipeline.errors import DataError
from workers.cli import app
from workers.database import backup
from workers.database.dumps import postgresql

DUMP = "CREATE SCHEMA lab_toy;\n"


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def written(folder, *, files=None, **changed):
    """Write a backup of a dump and one file, with a manifest that fits it but for what is told."""
    (folder / "store" / "_schema" / "lab_toy").mkdir(parents=True)
    stored = folder / "store" / "_schema" / "lab_toy" / "a.npy"
    stored.write_bytes(b"content")
    (folder / postgresql.FILE).write_text(DUMP, encoding="utf-8")
    manifest = {
        "format": 1,
        "backend": "postgresql",
        "made": "2026-11-29",
        "version": "x",
        "databases": ["lab_toy"],
        "tables": {},
        "files": {"_schema/lab_toy/a.npy": {"size": 7, "sha256": sha256(stored)}},
        "dump": {postgresql.FILE: sha256(folder / postgresql.FILE)},
        **changed,
    }
    manifest["files"].update(files or {})
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return manifest


def refused(folder):
    with pytest.raises(DataError) as caught:
        backup.verify(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_untouched_folder_is_whole(tmp_path):
    manifest = written(tmp_path / "b")
    assert backup.verify(tmp_path / "b") == manifest


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "_schema/lab_toy/../../../x",
        "/etc/passwd",
        "//host/x",
        "C:\\x",
        "..\\x",
        "_schema\\x",
        ".",
        "",
        "a//b",
        "a/./b",
        "a/..",
        "_schema/lab_toy/a\x00b",
        "_schema/lab_toy/a\nb",
        "_schema/lab_toy/A.npy",
        "a/" * 3000 + "b",
    ],
)
def test_a_name_that_leaves_the_folder_is_refused_before_anything_is_read(tmp_path, name):
    (tmp_path / "x").write_bytes(b"content")
    entry = {"size": 7, "sha256": sha256(tmp_path / "x")}
    written(tmp_path / "b", files={name: entry})
    assert "manifest.json: files: names a file that leaves" in refused(tmp_path / "b")
    done = CliRunner().invoke(app, ["restore", "--check", str(tmp_path / "b")])
    assert done.exit_code != 0


@pytest.mark.parametrize(
    "where", ["store/_schema/lab_toy/a.npy", "store/_schema", postgresql.FILE, "manifest.json"]
)
def test_a_link_in_the_folder_is_refused(tmp_path, where):
    written(tmp_path / "b")
    shutil.move(tmp_path / "b" / where, tmp_path / "elsewhere")
    (tmp_path / "b" / where).symlink_to(tmp_path / "elsewhere")
    assert "is a link" in refused(tmp_path / "b")


def test_a_pipe_or_another_size_is_damage(tmp_path):
    written(tmp_path / "b")
    stored = tmp_path / "b" / "store" / "_schema" / "lab_toy" / "a.npy"
    stored.write_bytes(b"content!")
    assert "found 8 bytes" in refused(tmp_path / "b")
    stored.unlink()
    os.mkfifo(stored)
    assert "found missing" in refused(tmp_path / "b")


@pytest.mark.parametrize(
    "changed",
    [
        {"dump": {}},
        {"dump": {"../x": "0" * 64}},
        {"dump": {"database.sql": 3}},
        {"databases": "lab_toy"},
        {"databases": ["lab_toy", 'x"; DROP SCHEMA public; --']},
        {"databases": ["lab_toy", "LAB_TOY"]},
        {"backend": "os"},
        {"backend": ["mysql"]},
        {"tables": []},
        {"tables": {"a": {"rows": "1"}}},
        {"files": {"a": {"size": -1.5, "sha256": "0" * 64}}},
        {"files": {"a": {"size": 1, "sha256": "x"}}},
        {"files": []},
        {"format": 2},
        {"format": None},
        {"made": 3},
    ],
)
def test_a_manifest_of_another_form_is_one_line(tmp_path, changed):
    written(tmp_path / "b")
    path = tmp_path / "b" / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))
    assert str(path) in refused(tmp_path / "b")


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b"[" * 100_000, b"null"])
def test_a_manifest_that_is_no_json_is_one_line(tmp_path, content):
    written(tmp_path / "b")
    (tmp_path / "b" / "manifest.json").write_bytes(content)
    refused(tmp_path / "b")


def signed_again(folder, change, *, tables=True):
    """Change the dump of a backup as a forger would, checksum included."""
    manifest = json.loads((folder / "manifest.json").read_text())
    (name,) = manifest["dump"]
    path = folder / name
    opened = gzip.open if name.endswith(".gz") else open
    with opened(path, "rt", encoding="utf-8", newline="\n") as file:
        text = file.read()
    with opened(path, "wt", encoding="utf-8", newline="\n") as file:
        file.write(change(text))
    manifest["dump"][name] = sha256(path)
    if not tables:
        manifest["tables"] = {}
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.tables
def test_a_strangers_backup_runs_nothing_and_leaves_nothing(bench, tmp_path):
    from workers.database import embedded, server
    from workers.queue.lease import Ledger

    bench.toy.Seed.insert([(1, 0.0, "good"), (2, 0.0, "it's")])
    bench.toy.Value.populate()
    saved = tmp_path / "saved"
    manifest = backup.backup(Ledger(bench.connection), saved)
    lost = dict.fromkeys(manifest["databases"])

    def drop():
        import datajoint as dj

        for name in lost:
            dj.Schema(name, connection=bench.connection).drop(prompt=False)
        bench.connection.dependencies.clear()

    def kept():
        return [name for name in lost if server.schema_exists(bench.connection, name)]

    drop()
    ran = tmp_path / "ran"
    for number, attack in enumerate(
        (f"\\! touch {ran}\n", f"SELECT 1; COPY x TO PROGRAM 'touch {ran}';\n")
    ):
        copy = tmp_path / f"attack{number}"
        shutil.copytree(saved, copy)
        signed_again(copy, lambda text, attack=attack: text + attack)
        for verb in (["restore", "--check"], ["restore"]):
            home = ["--home", str(bench.home)]
            done = CliRunner().invoke(app, [*verb, str(copy), *home])
            assert done.exit_code != 0
        assert not ran.exists()
        assert kept() == []
    embedded.connect(bench.home)
    other = tmp_path / "other"
    shutil.copytree(saved, other)
    signed_again(other, lambda text: text.replace("it's", "it,s").replace("it\\'s", "it,s"))
    with pytest.raises(DataError, match="differ from the backup"):
        backup.restore(bench.connection, other)
    assert kept() == []
    row = tmp_path / "row"
    shutil.copytree(saved, row)
    path = json.loads((row / "manifest.json").read_text())["files"].popitem()[0]
    assert path.endswith(".npy")
    signed_again(row, lambda text: text.replace(path, "../" * 8 + "etc/hostname"), tables=False)
    with pytest.raises(DataError, match="a row refers to a file out of the store"):
        backup.restore(bench.connection, row)
    assert kept() == []
    far = tmp_path / "far"
    shutil.copytree(saved, far)
    changed = json.loads((far / "manifest.json").read_text())
    (far / "store" / "_schema" / "somebody").mkdir(parents=True)
    (far / "store" / "_schema" / "somebody" / "a").write_bytes(b"x")
    entry = {"size": 1, "sha256": hashlib.sha256(b"x").hexdigest()}
    changed["files"]["_schema/somebody/a"] = entry
    (far / "manifest.json").write_text(json.dumps(changed))
    with pytest.raises(DataError, match="names a file of no schema in it"):
        backup.restore(bench.connection, far)
    assert kept() == []
    assert backup.restore(bench.connection, saved) == manifest
    assert sorted(kept()) == sorted(lost)
