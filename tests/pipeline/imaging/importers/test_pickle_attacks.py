"""A hostile pickle is refused in one line, at once and in little memory."""

import collections
import os
import pickle
import pickletools
import random
import resource
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from pickles import ATTACKS, everything, header, holder, name, text, write

from pipeline.errors import DataError
from pipeline.imaging.importers.unpickle import load_pickled_npy, read_pickle


def refused(path):
    """Return the one line in which a file is refused."""
    with pytest.raises(DataError) as caught:
        load_pickled_npy(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 2000
    assert str(path) in str(caught.value)
    return str(caught.value)


class Runs:
    def __init__(self, call, *args):
        self.parts = call, args

    def __reduce__(self):
        return self.parts


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


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "stat.npy")
    assert "no regular file" in refused(tmp_path / "stat.npy")


@pytest.mark.parametrize(
    "content",
    [
        b"cos\nsystem\n(S'touch run'\ntR.",
        b"(lp0\n"
        + b"".join(b"(lp%d\ng%d\nag%d\na" % (k, k - 1, k - 1) for k in range(1, 40))
        + b".",
        b"(lp0\ng0\na.",
        b"I" + b"9" * 5000 + b"\n.",
        b"Vendless",
        b"p1000000000\n.",
    ],
    ids=["calls", "doubles", "within itself", "huge number", "no end", "keeps nothing"],
)
def test_lines_of_text_may_do_no_more_than_bytes(content):
    with pytest.raises(ValueError, match=r"it |written out"):
        read_pickle(content)
