"""A pickled npy file of anybody is read as numbers, text and containers, or refused in one line."""

import collections
import datetime
import io
import os
import pickle
import pickletools
import random
import resource
import struct
import tracemalloc
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
import pytest

from pipeline.behavior.pupil import pupil_trackers
from pipeline.errors import DataError
from pipeline.imaging.importers.pickle_values import as_numbers
from pipeline.imaging.importers.unpickle import load_pickled_dict, load_pickled_npy

REAL = Path(__file__).parents[4] / "shared" / "data"
FILES = sorted([*REAL.rglob("stat.npy"), *REAL.rglob("ops.npy")]) if REAL.is_dir() else []


def header(shape=(1,)):
    stream = io.BytesIO()
    entries = {"descr": "|O", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, entries)
    return stream.getvalue()


def write(path, pickled, shape=(1,)):
    path.write_bytes(header(shape) + pickled)
    return path


def refused(path):
    """Return the one line in which a file is refused."""
    with pytest.raises(DataError) as caught:
        load_pickled_npy(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 2000
    assert str(path) in str(caught.value)
    return str(caught.value)


def same(a, b):
    if isinstance(a, np.ndarray):
        if type(b) is not np.ndarray or (a.dtype, a.shape) != (b.dtype, b.shape):
            return False
        if a.dtype == object:
            return all(same(x, y) for x, y in zip(a.ravel(), b.ravel(), strict=True))
        return np.array_equal(a, b, equal_nan=a.dtype.kind in "fc")
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return (type(a), len(a)) == (type(b), len(b)) and all(map(same, a, b))
    return type(a) is type(b) and (a == b or a != a)


def everything():
    """Return a value of all that such files hold."""
    grid = np.arange(12.0).reshape(3, 4)
    arrays = {
        "plain": grid,
        "fortran": np.asfortranarray(grid),
        "turned": grid.T,
        "strided": grid[:, ::2],
        "big": grid.astype(">f4"),
        "none": np.zeros((0, 3), "i2"),
        "point": np.array(3, "u8"),
        "truth": grid > 4,
        "half": grid.astype("f2"),
        "phase": grid.astype("c8"),
        "words": np.array(["a", "longer", ""]),
        "codes": np.array([b"x", b"yz"]),
        "cube": np.arange(24).reshape(2, 3, 4).transpose(1, 0, 2),
        "ragged": np.array([grid, None, "text"], dtype=object),
        "frozen": np.frombuffer(b"12345678", "u2"),
    }
    values = {
        "numbers": [0, -1, 255, 70_000, 2**40, -(2**70), 1.5, float("inf"), 1 + 2j, True, None],
        "scalars": [np.float32(1.5), np.int64(-3), np.bool_(True), np.str_("ü"), np.complex64(1j)],
        "text": ["", "ascii", "mäuse \u2028 \U0001f42d", "x" * 300],
        "bytes": [b"", b"\x00\xff", bytearray(b"ab")],
        "nested": ([], (), {}, (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), [[{"a": (1, [2])}]]),
        "sets": [{1, 2}, frozenset({"a"}), set()],
        "ordered": collections.OrderedDict([("b", 1), ("a", 2)]),
        "keys": {1: "int", (0, "x"): "tuple", 2.5: "float", None: "none", np.int64(7): "numpy"},
        "slice": slice(1, None, 2),
    }
    values["shared"] = [values["text"], values["text"], arrays["plain"]]
    return {**arrays, **values}


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


def text(value):
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def name(module, attribute):
    return f"c{module}\n{attribute}\n".encode()


DTYPE = name("numpy", "dtype") + text("%s") + b"\x89\x88\x87R"
STATE = b"(K\x03" + text("<") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"


def dtype(code="f8", state=STATE):
    return name("numpy", "dtype") + text(code) + b"\x89\x88\x87R" + state


def array(dtype, content, shape=b"K\x01\x85", kind=None):
    begin = name("numpy.core.multiarray", "_reconstruct") + (kind or name("numpy", "ndarray"))
    return begin + b"K\x00\x85C\x01b\x87R(K\x01" + shape + dtype + b"\x89" + content + b"tb"


def holder(value):
    """Return a pickle of an array of one object."""
    objects = dtype("O8", STATE.replace(text("<"), text("|")))
    return b"\x80\x04" + array(objects, b"]" + value + b"a") + b"."


class Runs:
    def __init__(self, call, *args):
        self.parts = call, args

    def __reduce__(self):
        return self.parts


def nested(deep, opening, closing):
    return holder(opening * deep + b"N" + closing * deep)


HOSTILE_NAMES = [
    ("posix", "system"),
    ("builtins", "eval"),
    ("builtins", "getattr"),
    ("numpy", "load"),
    ("numpy.dtypes", "__builtins__"),
    ("numpy.dtypes", "__dict__"),
    ("numpy.dtypes", "Float64DType"),
    ("numpy", "f2py"),
    ("numpy.core.multiarray", "__loader__"),
    ("copyreg", "_reconstructor"),
    ("numpy.core.multiarray", "_reconstruct.__globals__"),
    ("functools", "partial"),
    ("collections", "defaultdict"),
    ("numpy", "memmap"),
    ("numpy.ma.core", "MaskedArray"),
    ("operator", "attrgetter"),
    ("types", "CodeType"),
    ("", ""),
    ("nümpy", "dtype"),
]


@pytest.mark.parametrize("named", HOSTILE_NAMES)
def test_no_name_but_those_of_arrays_is_looked_up(tmp_path, named):
    module, attribute = named
    for opcode in (name(module, attribute), text(module) + text(attribute) + b"\x93"):
        said = refused(write(tmp_path / "a.npy", holder(opcode)))
        assert "cannot be read safely" in said
        assert "numpy.save" in said  # the way out
    said = refused(write(tmp_path / "a.npy", holder(opcode + b")R")))
    assert "it names" in said


def test_modules_numpy_dtypes_gives_no_way_to_its_attributes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def put(place):
        return b"r" + struct.pack("<I", place)

    def get(place):
        return b"j" + struct.pack("<I", place)

    program = name("numpy.dtypes", "__builtins__") + put(0) + b"0"
    program += name("numpy.dtypes", "__getattribute__") + put(1) + b"0"
    program += get(0) + text("getattr") + get(1) + b"s0" + name("numpy.dtypes", "exec")
    program += text("open('broken_in','w').close()") + b"\x85R0]."
    assert "numpy.dtypes.__builtins__" in refused(write(Path("a.npy"), b"\x80\x02" + program))
    for protocol in (2, 3, 4, 5):
        value = np.array([Runs(os.system, "touch broken_in"), None], dtype=object)
        refused(write(Path("a.npy"), pickle.dumps(value, protocol=protocol), (2,)))
    assert not Path("broken_in").exists()


ATTACKS = {
    "NEWOBJ": holder(name("numpy", "ndarray") + b")\x81"),
    "NEWOBJ_EX": holder(name("numpy", "ndarray") + b")}\x92"),
    "OBJ": holder(b"(" + name("numpy", "ndarray") + b"o"),
    "INST": holder(b"(inumpy\nndarray\n"),
    "EXT1": holder(b"\x82\x01"),
    "EXT4": holder(b"\x84\x01\x00\x00\x00"),
    "PERSID": holder(b"Pfile\n"),
    "BINPERSID": holder(text("file") + b"Q"),
    "NEXT_BUFFER": holder(b"\x97"),
    "DUP": holder(b"N2"),
    "POP": holder(b"NN0"),
    "unknown opcode": holder(b"\xff"),
    "a call of what is no name": holder(text("numpy dtype") + b")R"),
    "a call without a tuple": holder(name("numpy", "dtype") + text("f8") + b"R"),
    "a call of ndarray": holder(name("numpy", "ndarray") + b"K\x01\x85R"),
    "state of a dictionary": holder(b"}" + b"}" + b"b"),
    "state of a name": holder(name("numpy", "dtype") + b"}b"),
    "state of an array that is whole": holder(array(dtype(), b"C\x08" + bytes(8)) + b"N\x85b"),
    "state of a dtype that is whole": holder(dtype() + STATE),
    "a dtype as value": holder(dtype()),
    "a dtype without state": holder(dtype(state=b"")),
    "an array without state": holder(
        name("numpy.core.multiarray", "_reconstruct")
        + name("numpy", "ndarray")
        + b"K\x00\x85C\x01b\x87R"
    ),
    "a foreign class": holder(array(dtype(), b"C\x08" + bytes(8), kind=name("numpy", "dtype"))),
    "objects of raw bytes": holder(array(dtype("O8"), b"C\x08" + b"A" * 8)),
    "fields": holder(
        array(
            dtype(
                "V8",
                STATE.replace(
                    b"NNN", b"N" + text("a") + b"\x85}" + text("a") + dtype("O8") + b"K\x00\x86s"
                ),
            ),
            b"C\x08" + b"A" * 8,
        )
    ),
    "fields of a float": holder(
        array(
            dtype(
                "f8",
                STATE.replace(
                    b"NNN", b"N" + text("a") + b"\x85}" + text("a") + dtype("O8") + b"K\x00\x86s"
                ),
            ),
            b"C\x08" + b"A" * 8,
        )
    ),
    "a subarray": holder(
        array(
            dtype("f8", STATE.replace(b"NNN", dtype("O8") + b"K\x01\x85\x86NN")),
            b"C\x08" + bytes(8),
        )
    ),
    "itemsize of its own": holder(
        array(
            dtype("f8", STATE.replace(b"J\xff\xff\xff\xffJ", b"J\xff\xff\xff\x7fJ", 1)),
            b"C\x08" + bytes(8),
        )
    ),
    "records": holder(array(dtype("i4,O"), b"C\x08" + bytes(8))),
    "void": holder(array(dtype("V8"), b"C\x08" + bytes(8))),
    "text of no width": holder(array(dtype("U0"), b"C\x00", b"J\xff\xff\xff\x7f\x85")),
    "characters that do not exist": holder(array(dtype("U1"), b"C\x04\xff\xff\xff\xff")),
    "bytes too few": holder(array(dtype(), b"C\x07" + bytes(7))),
    "bytes too many": holder(array(dtype(), b"C\x10" + bytes(16))),
    "a shape below 0": holder(array(dtype(), b"C\x08" + bytes(8), b"J\xff\xff\xff\xff\x85")),
    "a shape beyond memory": holder(
        array(dtype("u1"), b"C\x00", b"\x8a\x10" + b"\x7f" * 16 + b"\x85")
    ),
    "many dimensions": holder(array(dtype("u1"), b"C\x01a", b"(" + b"K\x01" * 40 + b"t")),
    "lists in lists": nested(20_000, b"]", b"a"),
    "tuples in tuples": nested(100_000, b"", b"\x85"),
    "dictionaries in dictionaries": nested(20_000, b"}NNs" + text("a"), b"s"),
    "arrays in arrays": holder(b"N" + (b"q\x09" + array(dtype("O8"), b"]h\x09a")) * 2000),
    "marks on marks": holder(b"(" * 100_000),
    "a list of itself": holder(b"]q\x01h\x01a"),
    "a dictionary of itself": holder(b"}q\x01" + text("a") + b"h\x01s"),
    "a tuple as key of depth": holder(b"}" + b")" + b"\x85" * 100_000 + b"Ns"),
    "a list as key": holder(b"}]Ns"),
    "a member of a set that is a list": holder(b"\x8f(]\x90"),
    "huge LONG1": holder(b"\x8a\xff" + b"\x7f" * 255),
    "huge LONG4": holder(b"\x8b" + struct.pack("<i", 1 << 20) + b"\x7f" * (1 << 20)),
    "LONG4 below 0": holder(b"\x8b\xff\xff\xff\xff"),
    "a text longer than the file": holder(b"X\xff\xff\xff\x7fabc"),
    "a text of 2^63": holder(b"\x8d" + b"\xff" * 7 + b"\x7fabc"),
    "bytes of 2^64": holder(b"\x8e" + b"\xff" * 8),
    "bytearray of 2^62": holder(b"\x96" + b"\x00" * 7 + b"\x40"),
    "laughs in lists": holder(
        b"]q\x00"
        + b"".join(
            b"](" + b"h" + bytes([i]) + b"h" + bytes([i]) + b"eq" + bytes([i + 1])
            for i in range(40)
        )
    ),
    "laughs in tuples": holder(b"N" + b"q\x01h\x01\x86" * 50),
    "laughs in arrays": holder(
        b"]N" + b"a" + b"q\x01" + b"](" + b"h\x01" * 5000 + b"eq\x02](" + b"h\x02" * 5000 + b"e"
    ),
    "one content for many arrays": holder(
        b"]("
        + b"B"
        + struct.pack("<I", 100_000)
        + bytes(100_000)
        + b"q\x01"
        + array(dtype("u1"), b"h\x01", b"J" + struct.pack("<i", 100_000) + b"\x85") * 2000
        + b"e"
    ),
    "one text for many bytes": holder(
        b"]("
        + text("a" * 100_000)
        + b"q\x01"
        + (name("_codecs", "encode") + b"h\x01" + text("latin1") + b"\x86R") * 5000
        + b"e"
    ),
    "a name of tuples": holder(b"N" + b"q\x01h\x01\x86" * 50 + text("a") + b"\x93"),
    "a state of tuples": holder(
        dtype("f8", b"N" + b"q\x01h\x01\x86" * 50 + b"q\x02(" + b"h\x02" * 8 + b"tb")
    ),
    "an order of arrays": holder(
        name("numpy.core.numeric", "_frombuffer")
        + b"(C\x08"
        + bytes(8)
        + dtype()
        + b"K\x01\x85"
        + array(dtype("O8"), b"](" + b"N" * 2 + b"e", b"K\x02\x85")
        + b"tR"
    ),
    "an encoder of choice": holder(name("_codecs", "encode") + text("a") + text("zip") + b"\x86R"),
    "a date of 3 bytes": holder(name("datetime", "datetime") + b"C\x03abc\x85R"),
    "a date of month 99": holder(name("datetime", "datetime") + b"C\x0a" + b"c" * 10 + b"\x85R"),
    "no array": b"\x80\x04N.",
    "an empty stack": b"\x80\x04.",
    "no end": b"\x80\x04N",
    "nothing": b"",
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_is_refused_in_one_line_and_little_memory(tmp_path, attack):
    path = write(tmp_path / "stat.npy", ATTACKS[attack])
    tracemalloc.start()
    try:
        refused(path)
        assert tracemalloc.get_traced_memory()[1] < (8 << 20) + 100 * path.stat().st_size
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "repeated", [b"]", b"}", b"\x8f", b"N\x94\x94\x94\x94", b"(", b")\x85", b"\x8a\x00"]
)
def test_short_instructions_make_no_more_than_their_bytes_allow(tmp_path, repeated):
    path = write(tmp_path / "stat.npy", b"\x80\x04" + repeated * 50_000)
    tracemalloc.start()
    try:
        refused(path)
        assert tracemalloc.get_traced_memory()[1] < (2 << 20) + 100 * path.stat().st_size
    finally:
        tracemalloc.stop()


def test_a_place_in_the_memo_costs_nothing(tmp_path):
    path = write(tmp_path / "a.npy", holder(b"]r\xff\xff\xff\x7f"))  # the index 2^31 - 1
    tracemalloc.start()
    assert load_pickled_npy(path)[0] == []
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_random_damage_gives_a_value_or_one_line(tmp_path):
    rng = random.Random(20261129)
    path = tmp_path / "a.npy"
    small = {name: value for name, value in everything().items() if name != "text"}
    seeds = []
    for protocol in (2, 3, 4, 5):
        whole = np.empty((), object)
        whole[()] = small
        seeds.append(header(()) + pickle.dumps(whole, protocol=protocol))
        stat = np.array([{"ypix": np.arange(4), "lam": np.ones(4, "f4")}] * 3, dtype=object)
        seeds.append(header((3,)) + pickle.dumps(stat, protocol=protocol))
    hostile = [header() + attack for attack in ATTACKS.values() if len(attack) < 2000]
    opcodes = bytes(ord(opcode.code) for opcode in pickletools.opcodes)
    outcomes, said = collections.Counter(), []
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(2500):
        data = bytearray(rng.choice(seeds if rng.random() < 0.7 else hostile))
        for _ in range(rng.choice((1, 1, 2, 5))):
            place = (
                rng.randrange(60, len(data)) if rng.random() < 0.95 else rng.randrange(len(data))
            )
            what = rng.randrange(6)
            if what == 0:
                data[place] ^= 1 << rng.randrange(8)
            elif what == 1:
                data[place] = rng.choice(opcodes)
            elif what == 2:
                data[place:place] = bytes([rng.choice(opcodes)])
            elif what == 3:
                del data[place : place + rng.randrange(1, 9)]
            elif what == 4:
                other = rng.choice(hostile)
                start = rng.randrange(len(other))
                data[place:place] = other[start : start + rng.randrange(1, 60)]
            else:
                del data[max(place, 130) :]
            if len(data) < 70:
                break
        path.write_bytes(data)
        try:
            outcomes[type(load_pickled_npy(path)).__name__] += 1
        except DataError as error:
            outcomes["refused"] += 1
            said.append(str(error))
    assert all("\n" not in line and len(line) < 2000 for line in said)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before  # in kB
    assert grown < 100_000
    assert outcomes["ndarray"] > 50  # damage of numbers is no damage of form
    assert outcomes["refused"] > 1000
    assert sum(outcomes.values()) == 2500


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


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "stat.npy")
    assert "no regular file" in refused(tmp_path / "stat.npy")
