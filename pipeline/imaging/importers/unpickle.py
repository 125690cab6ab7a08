"""Pickled npy files of other programs, read without running what they say.

A pickle is a program for a stack machine that calls whatever it names, so Python's own reader is
not used at all. The one here knows the instructions that numbers, text, arrays and plain
containers are written with, and the few names that numpy gives them; it calls nothing that a file
names, and reserves no memory that the file does not fill.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import DataError
from pipeline.npy import check_regular, read_header, read_npy

from .pickle_machine import follow
from .pickle_values import Name, Refused, Unfinished

MAX_BYTES = 2 << 30
MAX_DEPTH = 60  # containers within containers; numpy makes arrays of 64 dimensions of lists
_EXPECTED = "an npy file of numbers, text, arrays and containers of them"
_REMEDY = (
    "open it where you trust it and save it again with those only: "
    "numpy.save(path, {'name': array, ...}, allow_pickle=True)"
)


def _check_size(value: Any, most: int) -> None:
    """Refuse what contains itself, goes deep, or is much larger written out than in the file.

    What is referred to twice counts twice: whoever makes an array of a list copies it each time.
    """
    done: dict[int, tuple[int, int]] = {}  # containers by id: bytes and height
    path: set[int] = set()
    todo = [value]
    while todo:
        one = todo[-1]
        if id(one) in done or not _contains(one):
            todo.pop()
            continue
        parts = _parts(one)
        if id(one) in path:
            todo.pop()
            path.remove(id(one))
            found = [done[id(part)] if _contains(part) else (_bytes(part), 0) for part in parts]
            size = 16 + sum(size for size, _ in found)
            height = 1 + max((height for _, height in found), default=0)
            if height > MAX_DEPTH:
                raise Refused(f"it holds containers within containers, more than {MAX_DEPTH} deep")
            if size > most:
                raise Refused("written out it would be far larger than the file")
            done[id(one)] = size, height
        else:
            path.add(id(one))
            if len(path) > MAX_DEPTH:
                raise Refused(f"it holds containers within containers, more than {MAX_DEPTH} deep")
            for part in parts:
                if id(part) in path:
                    raise Refused("it holds a container that contains itself")
                if id(part) not in done and _contains(part):
                    todo.append(part)


def _contains(one: Any) -> bool:
    if isinstance(one, Name | Unfinished | np.dtype):
        raise Refused("it holds a name or a dtype where a value belongs")
    array = isinstance(one, np.ndarray) and one.dtype.hasobject
    return array or isinstance(one, dict | list | tuple | set | frozenset)


def _parts(one: Any) -> list[Any]:
    if isinstance(one, dict):
        return [*one.keys(), *one.values()]
    return one.ravel(order="K").tolist() if isinstance(one, np.ndarray) else list(one)


def _bytes(one: Any) -> int:
    if isinstance(one, np.ndarray | np.generic):
        return 16 + one.nbytes
    return 16 + len(one) if isinstance(one, str | bytes | bytearray) else 16


def read_pickle(content: bytes) -> Any:
    """Return the numbers, text and plain containers that a pickle of any protocol describes.

    Raises
    ------
    ValueError
        If it is damaged, asks for anything else, or would be far larger than its bytes.
    """
    loaded = follow(memoryview(content), oldest=True)
    _check_size(loaded, (1 << 20) + 64 * len(content))
    return loaded


def load_pickled_npy(path: str | os.PathLike) -> np.ndarray:
    """Load an npy file of Python objects: numbers, text, arrays and containers of them only.

    Returns
    -------
    array
        Of objects, as written; a plain npy file is read as well. Paths, dates and types of
        numbers, which some versions write, become text; an OrderedDict becomes a dictionary.

    Raises
    ------
    DataError
        If the file is no npy file, damaged, or asks for anything else.
    """
    path = Path(path)
    try:
        check_regular(path)
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise DataError(
                "is too large", file=path, found=f"{size} bytes", expected=f"at most {MAX_BYTES}"
            )
        content = path.read_bytes()
        stream = io.BytesIO(content)
        header = read_header(stream)
        if not header.dtype.hasobject:
            return read_npy(path)
        if header.dtype != object:
            raise Refused("it holds an array of records with objects")
        loaded = follow(memoryview(content)[stream.tell() :])
        _check_size(loaded, (1 << 20) + min(64 * size, size + (1 << 30)))
        if isinstance(loaded, np.ndarray) and loaded.shape != header.shape:
            raise Refused(f"its header says {header.shape}, its content {loaded.shape}")
    except (OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            "cannot be read safely",
            file=path,
            found=str(error)[:300],
            expected=_EXPECTED,
            remedy=_REMEDY,
        ) from error
    if not isinstance(loaded, np.ndarray):
        raise DataError("holds no array", file=path, found=type(loaded).__name__)
    return loaded


def load_pickled_dict(path: str | os.PathLike) -> dict:
    """Load an npy file of one dictionary, as suite2p's ops and facemap's results are.

    Raises
    ------
    DataError
        As `load_pickled_npy`, and if it holds something else.
    """
    loaded = load_pickled_npy(path)
    content = loaded.reshape(-1)[0] if loaded.size == 1 else loaded
    if not isinstance(content, dict):
        raise DataError("is no dictionary", file=path, found=type(content).__name__)
    return content
