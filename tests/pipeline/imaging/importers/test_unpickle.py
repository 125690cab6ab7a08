"""A pickled npy file of anybody is read as numbers, text and containers."""

import datetime
import pickle
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
import pytest
from pickles import everything, same, write

from pipeline.behavior.pupil import pupil_trackers
from pipeline.errors import DataError
from pipeline.imaging.importers.pickle_values import as_numbers
from pipeline.imaging.importers.unpickle import load_pickled_dict, load_pickled_npy, read_pickle

REAL = Path(__file__).parents[5] / "shared" / "data"
FILES = sorted([*REAL.rglob("stat.npy"), *REAL.rglob("ops.npy")]) if REAL.is_dir() else []


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("core", ["numpy._core", "numpy.core"])
def test_what_numpy_pickles_comes_back_as_it_was(tmp_path, protocol, core):
    value = everything()
    whole = np.empty((), object)
    whole[()] = value
    pickled = pickle.dumps(whole, protocol=protocol)
    if core == "numpy.core":  # as numpy 1 writes it; names are counted, so text of protocol 4 is
        for module in (b"multiarray", b"numeric"):
            new, old = b"numpy._core." + module, b"numpy.core." + module
            pickled = pickled.replace(bytes([len(new)]) + new, bytes([len(old)]) + old)
            pickled = pickled.replace(b"c" + new + b"\n", b"c" + old + b"\n")
        assert b"numpy._core" not in pickled
    found = load_pickled_dict(write(tmp_path / "a.npy", pickled, ()))
    assert type(found["ordered"]) is dict
    assert list(found["ordered"].items()) == [("b", 1), ("a", 2)]
    assert (found.pop("sets"), found.pop("slice")) == (value.pop("sets"), value.pop("slice"))
    found.pop("ordered"), value.pop("ordered")
    for name in value:
        assert same(value[name], found[name]), name
    found["plain"][0, 0] = 7  # arrays are the reader's own
    assert found["shared"][2][0, 0] == 7


def test_strings_of_python_2_are_text(tmp_path):
    text = b"\x80\x02}q\x01(U\x03fs\xe9U\x01xu."
    array = pickle.dumps(np.empty(1, object), protocol=2).replace(b"Na", text[2:-1] + b"a")
    assert load_pickled_npy(write(tmp_path / "a.npy", array))[0] == {"fs\xe9": "x"}


def test_paths_dates_and_types_are_text(tmp_path):
    moment = datetime.datetime(2026, 11, 29, 8, 30, 1, 250)
    value = {
        "posix": PurePosixPath("/data/x"),
        "windows": PureWindowsPath("C:/data/x"),
        "when": moment,
        "type": np.float32,
        "here": Path("a") / "b",
    }
    np.save(tmp_path / "a.npy", value, allow_pickle=True)
    found = load_pickled_dict(tmp_path / "a.npy")
    assert found["posix"] == "/data/x"
    assert found["windows"] == "C:\\data\\x"
    assert found["when"] == str(moment)
    assert found["type"] == "numpy.float32"
    assert found["here"] in ("a/b", "a\\b")
    assert {type(one) for one in found.values()} == {str}


@pytest.mark.skipif(not FILES, reason="no real files of suite2p here")
def test_real_files_of_suite2p_are_read_as_numpy_reads_them():
    for path in FILES:
        assert same(np.load(path, allow_pickle=True), load_pickled_npy(path)), path


def test_one_dictionary_is_expected_where_programs_write_one(tmp_path):
    path = tmp_path / "x_proc.npy"
    for value in (np.array([{}, {}], dtype=object), np.array([1, None], dtype=object), np.ones(3)):
        np.save(path, value, allow_pickle=True)
        with pytest.raises(DataError, match="is no dictionary"):
            load_pickled_dict(path)
    area = ["x" * 10_000] + ["a"] * 1000  # numpy would make it 40 MB of text first
    com = np.zeros((3, 2))
    for pupil in ({"area": area, "com": com}, {"area": 3.0, "com": com}, {"com": com}, [], "no"):
        np.save(path, {"pupil": [pupil]}, allow_pickle=True)
        with pytest.raises(DataError) as caught:
            pupil_trackers["facemap"](path)
        assert "\n" not in str(caught.value)


def test_numbers_come_from_arrays_and_lists_and_from_nothing_else():
    np.testing.assert_array_equal(as_numbers([[1, 2.5], (np.int8(3), True)]), [[1, 2.5], [3, 1]])
    assert as_numbers(np.uint8(4)) == 4
    assert as_numbers([]).shape == (0,)
    for value in ("12", ["1"], None, {}, np.array(["1"]), [[1], [1, 2]], np.array([None])):
        with pytest.raises(ValueError, match=r"no numbers|same shape"):
            as_numbers(value)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_of_any_protocol_is_read_where_that_is_asked_for(protocol):
    value = [(1, [("net", "pupil_é\\n", "x"), ("net", "lid", "y")]), None, [-70000, 3]]
    assert read_pickle(pickle.dumps(value, protocol)) == value
