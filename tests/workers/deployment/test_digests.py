"""What is read from the store is what was written: a flipped byte is an error, not a number."""

import datajoint as dj
import numpy as np
import pytest

from pipeline.errors import DataError, MachineError
from schemas import store as stored_values
from schemas.datajoint_internals import backend, stored_digest
from schemas.stored import digests as stored
from workers.database import collect

pytestmark = pytest.mark.tables

RNG = np.random.default_rng(0)
VALUES = {
    "array": RNG.normal(size=(30, 7)).astype(np.float32),
    "fortran": np.asfortranarray(RNG.integers(0, 9, (6, 5, 4))),
    "empty": np.zeros((0, 3)),
    "scalar": np.array(1.5),
    "text": np.array(["a", "unit"]),
}


@pytest.fixture
def files(bench):
    """A table with an array and a file in the store, one row of each value."""
    schema = dj.Schema(f"{bench.prefix}_files", connection=bench.connection)

    @schema
    class Kept(dj.Manual):
        definition = """
        name : varchar(16)
        ---
        array : <npy@main>
        file : <object@main>
        """

    for name, value in VALUES.items():
        Kept.insert1({"name": name, "array": value, "file": (".bin", value.tobytes() + b"end")})
    yield Kept
    schema.drop(prompt=False)


def place():
    spec = dj.config.stores["main"]
    if spec["protocol"] != "file":
        pytest.skip("the store is no file system")
    return stored_values.Path(spec["location"])


def flip(path, at=-1):
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def read_file(reference):
    with stored_values.local_file(reference) as path:
        return path.read_bytes()


def test_every_value_has_the_digest_of_its_file_and_comes_back(files):
    for row in files.to_dicts():
        array, file = row["array"], row["file"]
        np.testing.assert_array_equal(array.load(), VALUES[row["name"]])
        assert stored_digest(array) == stored.digest_of_file(place() / array.path)
        assert stored_digest(file) == stored.digest_of_file(place() / file.path)
        assert read_file(file) == file.read() == VALUES[row["name"]].tobytes() + b"end"
    mapped = (files & {"name": "array"}).fetch1("array").load(mmap_mode="r")
    np.testing.assert_array_equal(mapped, VALUES["array"])


def ways(column, reference, folder):
    """The ways to read a value."""
    if column == "array":
        return [reference.load, lambda: reference[0], lambda: reference.load(mmap_mode="r")]
    return [reference.read, lambda: read_file(reference), lambda: reference.download(folder)]


@pytest.mark.parametrize("column", ["array", "file"])
def test_a_flipped_bit_anywhere_is_refused_in_one_line_that_names_the_row(files, tmp_path, column):
    query = files & {"name": "array"}
    path = place() / query.fetch1(column).path
    size = path.stat().st_size
    for at in (0, 9, size // 2, size - 1):
        for number in range(3):
            before = path.read_bytes()
            flip(path, at)
            with pytest.raises(DataError, match="stored object is damaged; found") as refused:
                ways(column, query.fetch1(column), tmp_path)[number]()
            path.write_bytes(before)
            said = str(refused.value)
            assert f".kept name=array, {column}: " in said
            assert "delete the row and let it be computed again" in said
            assert "\n" not in said
            assert not isinstance(refused.value, MachineError)
    for way in ways(column, query.fetch1(column), tmp_path):
        way()


def test_a_mapped_array_is_checked_once_and_again_when_it_was_written_to(files, monkeypatch):
    read = []
    whole = stored.digest_of_file
    monkeypatch.setattr(stored, "digest_of_file", lambda file: read.append(file) or whole(file))
    key = {"name": "fortran"}
    monkeypatch.setattr(stored, "_SETTLED_NS", 0)  # as if it had been written a second ago
    for _ in range(3):
        (files & key).fetch1("array").load(mmap_mode="r")
    assert len(read) == 1
    flip(place() / (files & key).fetch1("array").path)
    with pytest.raises(DataError, match="is damaged"):
        (files & key).fetch1("array").load(mmap_mode="r")


def test_an_object_that_is_gone_is_named(files):
    array, file = (files & {"name": "text"}).fetch1("array", "file")
    for reference in (array, file):
        (place() / reference.path).unlink()
    for way in (array.load, lambda: array.load(mmap_mode="r"), lambda: read_file(file), file.read):
        with pytest.raises(DataError, match=r"kept name=text, \w+: the stored object is gone"):
            way()


def test_rows_from_before_digests_are_read(files):
    name = files.full_table_name
    without = """"array" = "array" - 'digest'"""
    if backend(files.connection) == "mysql":
        without = "`array` = JSON_REMOVE(`array`, '$.digest')"
    files.connection.query(f"UPDATE {name} SET {without}")
    array = (files & {"name": "array"}).fetch1("array")
    assert stored_digest(array) is None
    np.testing.assert_array_equal(array.load(), VALUES["array"])


def test_references_know_their_digests(files, bench):
    ledger, _ = bench.opened()
    found = {entry.path: entry.digest for entry in collect.objects(ledger, [files.database])}
    assert len(found) == 2 * len(VALUES)
    assert all(digest.startswith("blake2b-128:") for digest in found.values())
    assert set(collect.references(ledger, [files.database])) == set(found)
