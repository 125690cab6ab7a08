"""Pickled npy files, honest and hostile, for every test that reads one."""

import collections
import io
import struct

import numpy as np


def header(shape=(1,)):
    stream = io.BytesIO()
    entries = {"descr": "|O", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, entries)
    return stream.getvalue()


def write(path, pickled, shape=(1,)):
    path.write_bytes(header(shape) + pickled)
    return path


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


def text(value):
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def name(module, attribute):
    return f"c{module}\n{attribute}\n".encode()


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


def nested(deep, opening, closing):
    return holder(opening * deep + b"N" + closing * deep)


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
