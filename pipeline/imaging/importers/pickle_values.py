"""The values that pickles of arrays are made of, built from their parts.

Nothing that a file names is looked up: every name that numpy or Python writes has its function
here, which checks what it is given.
"""

from __future__ import annotations

import datetime
import math
import struct
from collections.abc import Callable
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, Literal, TypeVar, cast

import numpy as np

from pipeline.npy import check_content

_SIZES = {"b": (1,), "i": (1, 2, 4, 8), "u": (1, 2, 4, 8), "f": (2, 4, 8), "c": (8, 16)}


class Refused(ValueError):
    """What a file asks for is not done."""


_Bytes = TypeVar("_Bytes", bytes, bytearray)


class Name:
    """A name that numpy or Python writes, to be followed by arguments; never looked up."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


class Unfinished:
    """A dtype or an array between its name and its state, and where the memo keeps it."""

    __slots__ = ("finish", "places")

    def __init__(self, finish: Callable[[Any], Any]) -> None:
        self.finish = finish
        self.places: list[int] = []


def _dtype(args: tuple) -> Unfinished:
    """Begin a dtype of numbers, truth values, text or objects: ('f8', False, True)."""
    code = args[0] if args else None
    code = code.decode("latin1") if isinstance(code, bytes) else code
    if not isinstance(code, str) or len(args) not in (1, 3) or not code.isascii():
        raise Refused("it describes a dtype in an unknown way")
    kind, size = code[:1], code[1:]
    fixed = kind in "SU" and size.isdigit() and 0 < int(size[:9]) < 1 << 24 and len(size) < 9
    if code in ("O", "O8", "O4"):
        dtype = np.dtype(object)
    elif code in _NUMBERS or fixed:
        dtype = np.dtype(code)
    else:
        raise Refused(f"it holds an array of dtype {short(code)}")

    def finish(state: Any) -> np.dtype:
        if len(state) != 8 or type(state[1]) is not str or state[1] not in ("<", ">", "|", "="):
            raise Refused("it describes a dtype in an unknown way")
        if any(part is not None for part in state[2:5]):
            raise Refused("it holds an array of a dtype with fields")
        if type(state[5]) is not int or state[5] not in (-1, dtype.itemsize):
            raise Refused("it describes a dtype that contradicts itself")
        return dtype.newbyteorder(cast(Literal["<", ">", "|", "="], state[1]))

    return Unfinished(finish)


_NUMBERS = {f"{kind}{size}" for kind, sizes in _SIZES.items() for size in sizes}


def _shape(shape: Any) -> tuple[int, ...]:
    shape = (shape,) if type(shape) is int else shape
    if not isinstance(shape, tuple) or len(shape) > 32:
        raise Refused("it holds an array without a shape")
    if not all(type(size) is int and 0 <= size < 1 << 40 for size in shape):
        raise Refused("it holds an array without a shape")
    return shape


def _array(dtype: Any, shape: Any, content: Any, order: Literal["C", "F"]) -> np.ndarray:
    """Make an array of the bytes that the file holds for it, or of its objects."""
    shape = _shape(shape)
    count = math.prod(shape)
    if not isinstance(dtype, np.dtype):
        raise Refused("it holds an array without a dtype")
    if dtype.hasobject:
        if type(content) is not list or len(content) != count:
            raise Refused("it holds an array of objects without them")
        flat = np.empty(count, object)
        for place, one in enumerate(content):
            flat[place] = one
        return flat.reshape(shape, order=order)
    content = _bytes(content)
    if len(content) != count * dtype.itemsize:
        raise Refused(f"it holds {len(content)} bytes for {count} of {dtype.itemsize}")
    flat = np.frombuffer(content, dtype).copy()
    check_content(flat)
    return flat.reshape(shape, order=order)


def _reconstruct(args: tuple) -> Unfinished:
    """Begin an array: (ndarray, (0,), b'b'), which says nothing that is needed."""
    if len(args) != 3 or not isinstance(args[0], Name) or args[0].text != "numpy ndarray":
        raise Refused("it holds an array of a class of its own")

    def finish(state: Any) -> np.ndarray:
        if len(state) != 5 or type(state[3]) not in (bool, int):
            raise Refused("it describes an array in an unknown way")
        _, shape, dtype, fortran, content = state
        return _array(dtype, shape, content, "F" if fortran else "C")

    return Unfinished(finish)


def _frombuffer(args: tuple) -> np.ndarray:
    """Make an array as protocol 5 writes it: (bytes, dtype, shape, order[, axes])."""
    if len(args) not in (4, 5) or type(args[3]) is not str:
        raise Refused("it describes an array in an unknown way")
    content, dtype, shape, order = args[:4]
    axes = args[4] if len(args) == 5 else None
    if order == "K" and axes is not None:
        axes = _shape(tuple(axes) if type(axes) is list else axes)
        if sorted(axes) != list(range(len(_shape(shape)))):
            raise Refused("it describes an array in an unknown way")
        return _array(dtype, shape, content, "C").transpose(axes)
    if order not in ("C", "F"):
        raise Refused("it describes an array in an unknown way")
    return _array(dtype, shape, content, order)


def _scalar(args: tuple) -> Any:
    if len(args) != 2 or not isinstance(args[0], np.dtype) or args[0].hasobject:
        raise Refused("it describes a number in an unknown way")
    return _array(args[0], (), args[1], "C")[()]


def _bytes(value: Any) -> bytes | bytearray:
    if isinstance(value, str):  # of Python 2
        try:
            return value.encode("latin1")
        except UnicodeEncodeError as error:
            raise Refused("it holds text where bytes belong") from error
    if not isinstance(value, bytes | bytearray):
        raise Refused("it holds something else where bytes belong")
    return value


def _encode(args: tuple) -> bytes:
    """Return the bytes that protocol 2 writes as text of latin1."""
    if not args or type(args[0]) is not str:
        raise Refused("it encodes bytes in an unknown way")
    return _plain_bytes(bytes)(args)


def _plain_bytes(kind: type[_Bytes]) -> Callable[[tuple], _Bytes]:
    def make(args: tuple) -> _Bytes:
        encoding = args[1] if len(args) == 2 else "latin1"
        if len(args) > 2 or type(encoding) is not str or encoding not in ("latin1", "latin-1"):
            raise Refused("it encodes bytes in an unknown way")
        return kind(_bytes(args[0]) if args else b"")

    return make


def _pairs(args: tuple) -> dict:
    found: dict = {}
    if len(args) > 1 or not all(type(one) is list for one in args):
        raise Refused("it describes a dictionary in an unknown way")
    for pair in args[0] if args else ():
        if type(pair) not in (list, tuple) or len(pair) != 2:
            raise Refused("it describes a dictionary in an unknown way")
        found[key(pair[0])] = pair[1]
    return found


def _set(kind: type) -> Callable[[tuple], set | frozenset]:
    def make(args: tuple) -> set | frozenset:
        if len(args) > 1 or not all(type(one) is list for one in args):
            raise Refused("it describes a set in an unknown way")
        return kind(key(one) for one in (args[0] if args else ()))

    return make


def _complex(args: tuple) -> complex:
    if len(args) != 2 or not all(type(part) in (int, float) for part in args):
        raise Refused("it describes a number in an unknown way")
    return complex(*map(float, args))


def _slice(args: tuple) -> slice:
    if len(args) != 3 or not all(part is None or type(part) is int for part in args):
        raise Refused("it describes a slice in an unknown way")
    return slice(*args)


def _path(kind: type) -> Callable[[tuple], str]:
    def make(args: tuple) -> str:
        if not all(type(part) is str for part in args):
            raise Refused("it describes a path in an unknown way")
        return str(kind(*args))

    return make


def _moment(args: tuple) -> str:
    """Return a date and time, ten bytes, as text; the zone is left out."""
    packed = _bytes(args[0]) if args else b""
    if len(packed) != 10:
        raise Refused("it describes a date in an unknown way")
    year, month, day, hour, minute, second = struct.unpack(">H5B", packed[:7])
    moment = datetime.datetime(
        year, month & 127, day, hour, minute, second, int.from_bytes(packed[7:], "big")
    )
    return moment.isoformat(sep=" ")


CALLS: dict[str, Callable[[tuple], Any]] = {
    "numpy dtype": _dtype,
    "_codecs encode": _encode,
    "collections OrderedDict": _pairs,
    "datetime datetime": _moment,
}
for _module in ("numpy.core", "numpy._core"):  # before numpy 2, and since
    CALLS[f"{_module}.multiarray _reconstruct"] = _reconstruct
    CALLS[f"{_module}.multiarray scalar"] = _scalar
    CALLS[f"{_module}.numeric _frombuffer"] = _frombuffer
for _module in ("builtins", "__builtin__"):
    CALLS |= {
        f"{_module} {name}": make
        for name, make in {
            "bytes": _plain_bytes(bytes),
            "bytearray": _plain_bytes(bytearray),
            "slice": _slice,
            "set": _set(set),
            "frozenset": _set(frozenset),
            "complex": _complex,
        }.items()
    }
for _module in ("pathlib", "pathlib._local"):
    for _kind, _names in (
        (PurePosixPath, ("PosixPath", "PurePosixPath", "Path")),
        (PureWindowsPath, ("WindowsPath", "PureWindowsPath")),
    ):
        CALLS |= {f"{_module} {name}": _path(_kind) for name in _names}
KNOWN = {*CALLS, "numpy ndarray"}
_LONG = {"i": "int", "u": "uint", "f": "float", "c": "complex"}
TYPES = {  # of numbers, which become their names
    f"numpy {name}": f"numpy.{name}"
    for name in (
        *(f"{_LONG[kind]}{8 * size}" for kind in _LONG for size in _SIZES[kind]),
        *("bool", "bool_"),
    )
}
_KEYS = (str, bytes, float, bool, type(None), np.number, np.bool_)


def key(value: Any) -> Any:
    """Return what may be a key: nothing whose hash takes long or goes deep."""
    parts = value if type(value) is tuple else (value,)
    for part in parts:
        if not (isinstance(part, _KEYS) or (type(part) is int and abs(part) < 1 << 63)):
            raise Refused("it holds a dictionary or a set with keys that are no text or number")
    return value


def as_numbers(value: Any) -> np.ndarray:
    """Return numbers as an array of float64, from an array, a number, or lists of them.

    Raises
    ------
    ValueError
        If it is anything else, such as text, of which numpy would make a wide array first.
    """
    if isinstance(value, np.ndarray | np.number | np.bool_ | float | int):
        if isinstance(value, np.ndarray | np.generic) and value.dtype.kind not in "biuf":
            raise ValueError(f"no numbers but {value.dtype}")
        return np.asarray(value).astype(np.float64)
    if not isinstance(value, list | tuple):
        raise ValueError(f"no numbers but {type(value).__name__}")
    if all(type(one) in (int, float, bool) or isinstance(one, np.number) for one in value):
        return np.array([float(one) for one in value], np.float64)
    return np.stack([as_numbers(one) for one in value])


def short(text: str) -> str:
    """Return the beginning of a text of a file, fit for a message."""
    return ascii(text[:100])[1:-1] + ("..." if len(text) > 100 else "")
