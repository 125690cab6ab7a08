"""npy and npz files of other people: what they claim is compared with what is there, then read.

numpy reserves the memory that a header asks for and hands on whatever zip and zlib raise. Here a
header is read first, an array is read only if the file holds as many bytes, nothing pickled is
read, and all that can be wrong is a DataError.
"""

from __future__ import annotations

import ast
import math
import os
import warnings
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError

FREE_BYTES = 1 << 29  # that a compressed file may hold, however small it is,
MOST_RATIO = 100  # and how many times its own size beyond; deflate can make 1,032
_MOST_HEADER = 1 << 16
_BLOCK = 1 << 22
_NPY = "an npy file of numbers or text"
_NPZ = "an npz file of numbers or text, as numpy.savez writes it"


class Header:
    """What an npy file says of its array, with `nbytes` that it must hold after that."""

    def __init__(self, shape: tuple[int, ...], fortran: bool, dtype: np.dtype) -> None:
        self.shape, self.fortran, self.dtype = shape, fortran, dtype
        self.nbytes = math.prod(shape) * dtype.itemsize


def read_header(stream: IO[bytes]) -> Header:
    """Read the head of an npy file, to its end.

    Raises
    ------
    ValueError
        If it is none, whatever it is.
    """
    magic = stream.read(8)
    if magic[:6] != b"\x93NUMPY" or len(magic) < 8 or magic[6] not in (1, 2, 3):
        raise ValueError("no npy file: it begins otherwise")
    width = 2 if magic[6] == 1 else 4
    size = int.from_bytes(stream.read(width), "little")
    if size > _MOST_HEADER:
        raise ValueError(f"the header claims {size} bytes")
    text = stream.read(size).decode("utf-8" if magic[6] == 3 else "latin1")
    if len(text.encode("utf-8" if magic[6] == 3 else "latin1")) != size:
        raise ValueError("the file ends within its header")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd escapes
            said = ast.literal_eval(text)
            dtype = np.lib.format.descr_to_dtype(said["descr"])
        shape, fortran = said["shape"], said["fortran_order"]
    except Exception as error:  # literal_eval and numpy raise anything, also MemoryError
        raise ValueError(f"the header cannot be read ({type(error).__name__})") from error
    whole = isinstance(shape, tuple) and all(type(size) is int and size >= 0 for size in shape)
    if not whole or len(shape) > 32 or type(fortran) is not bool:
        raise ValueError("the header names no shape")
    return Header(shape, fortran, dtype)


def read_npy(path: str | os.PathLike) -> NDArray:
    """Read an npy file of numbers or text.

    Raises
    ------
    DataError
        If it is none, is damaged, claims more than it holds, or holds Python objects.
    """
    try:
        check_regular(path)
        with open(path, "rb") as stream:
            return _read(stream, os.fstat(stream.fileno()).st_size)
    except DataError:
        raise
    except (OSError, ValueError) as error:
        raise DataError("cannot be read", file=path, found=_said(error), expected=_NPY) from error


def read_npz(path: str | os.PathLike, names: Iterable[str] | None = None) -> dict[str, NDArray]:
    """Read arrays of an npz file.

    Parameters
    ----------
    path : path
    names : iterable of str, optional
        Those to read, where they are there; otherwise all.

    Raises
    ------
    DataError
        If it is none, is damaged, an array claims more than its member holds, all of them more
        than `FREE_BYTES` and `MOST_RATIO` times the file, or one holds Python objects.
    """
    member = None
    try:
        check_regular(path)
        arrays: dict[str, NDArray] = {}
        left = most_bytes(Path(path).stat().st_size)
        with zipfile.ZipFile(path) as archive:
            wanted = None if names is None else set(names)
            for member in archive.infolist():
                name = member.filename.removesuffix(".npy")
                if wanted is not None and name not in wanted:
                    continue
                if name in arrays:
                    raise ValueError("the name comes twice")
                # what the directory of the zip says; zipfile reads no more than that
                left -= member.file_size
                if left < 0:
                    raise ValueError(
                        f"{member.file_size} bytes of {member.compress_size} that are compressed"
                    )
                arrays[name] = _read_member(archive, member)
        return arrays
    except DataError:
        raise
    except Exception as error:  # zipfile raises BadZipFile, RuntimeError, NotImplementedError, ...
        field = None if member is None else member.filename[:200]
        raise DataError(
            "cannot be read",
            file=path,
            field=field,
            found=_said(error),
            expected=_NPZ,
            remedy="write it with numpy.savez",
        ) from error


def npz_rows(path: str | os.PathLike, name: str, rows: int | None = None) -> Iterator[NDArray]:
    """Read one array of an npz file in blocks along its first axis, never whole.

    Parameters
    ----------
    path : path
    name : str
        Of an array of at least one axis, in the order of C.
    rows : int, optional
        At a time; otherwise as many as a few megabytes hold.

    Yields
    ------
    array, shape (some rows, ...)

    Raises
    ------
    DataError
        As `read_npz`, or if there is no such array, or it is in the order of Fortran.
    """
    try:
        check_regular(path)
        with zipfile.ZipFile(path) as archive:
            member = archive.getinfo(f"{name}.npy")
            with archive.open(member) as stream:
                header = _checked_header(stream, member.file_size)
                if not header.shape or header.fortran:
                    raise ValueError("it is no array whose rows follow each other")
                size = header.nbytes // max(header.shape[0], 1)
                step = rows or max(1, _BLOCK // max(size, 1))
                for first in range(0, header.shape[0], step):
                    some = (min(step, header.shape[0] - first), *header.shape[1:])
                    flat = np.empty(math.prod(some), header.dtype)
                    _fill(stream, flat)
                    yield flat.reshape(some)
                _expect_end(stream)
    except DataError:
        raise
    except Exception as error:
        raise DataError(
            "cannot be read",
            file=path,
            field=name,
            found=_said(error),
            expected=_NPZ,
            remedy="write it with numpy.savez",
        ) from error


def read_member(archive: zipfile.ZipFile, member: str, path: str | os.PathLike) -> NDArray:
    """Read an npy file within an open zip file of any content.

    Parameters
    ----------
    archive : ZipFile
    member : str
        Its whole name there.
    path : path
        Of the zip file, for messages.

    Raises
    ------
    DataError
        As `read_npy`.
    """
    try:
        return _read_member(archive, archive.getinfo(member))
    except Exception as error:
        raise DataError(
            "cannot be read", file=path, field=member[-200:], found=_said(error), expected=_NPY
        ) from error


def npz_shape(path: str | os.PathLike, name: str) -> tuple[int, ...]:
    """Return the shape of one array of an npz file; DataError as `npz_rows`."""
    try:
        check_regular(path)
        with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as stream:
            return read_header(stream).shape
    except Exception as error:
        raise DataError(
            "cannot be read", file=path, field=name, found=_said(error), expected=_NPZ
        ) from error


def npz_names(path: str | os.PathLike) -> list[str]:
    """Return the names of the arrays in an npz file, in their order; DataError as `read_npz`."""
    try:
        check_regular(path)
        with zipfile.ZipFile(path) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist()]
    except Exception as error:
        raise DataError(
            "cannot be read",
            file=path,
            found=_said(error),
            expected=_NPZ,
            remedy="write it with numpy.savez",
        ) from error


def most_bytes(stored: int, ratio: int = MOST_RATIO) -> int:
    """Return how many bytes may be read of what takes so many in a compressed file."""
    return max(FREE_BYTES, ratio * stored)


def check_regular(path: str | os.PathLike) -> None:
    """Raise OSError if a path is gone, DataError if it is a pipe, a device or a folder."""
    if not Path(path).is_file():
        os.stat(path)
        raise DataError("is no regular file", file=path, expected="a file")


def _checked_header(stream: IO[bytes], size: int) -> Header:
    """Read the head of an array that so many bytes hold; ValueError if they cannot."""
    header = read_header(stream)
    if header.dtype.hasobject:
        raise ValueError("it holds Python objects, which are not read")
    if header.nbytes > size:
        raise ValueError(f"the header claims {header.nbytes} bytes of a file of {size}")
    return header


def _read(stream: IO[bytes], size: int) -> NDArray:
    """Read an array from a stream of so many bytes; ValueError if they are others."""
    header = _checked_header(stream, size)
    if header.dtype.itemsize == 0 or header.nbytes == 0:
        return np.zeros(header.shape, header.dtype)
    flat = np.empty(math.prod(header.shape), header.dtype)
    _fill(stream, flat)
    return flat.reshape(header.shape, order="F" if header.fortran else "C")


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray:
    """Read an array that is a whole member of a zip file; ValueError if it is not."""
    with archive.open(member) as stream:
        array = _read(stream, member.file_size)
        _expect_end(stream)
    return array


def _expect_end(stream: IO[bytes]) -> None:
    """Raise ValueError unless a member of a zip file ends here; its checksum is compared then."""
    if stream.read(1):
        raise ValueError("the member is longer than its array")


def _fill(stream: IO[bytes], flat: NDArray) -> None:
    """Fill an array from a stream; ValueError if that ends early."""
    there, place = flat.view(np.uint8), 0
    while place < flat.nbytes:
        block = stream.read(min(_BLOCK, flat.nbytes - place))
        if not block:
            raise ValueError(f"{flat.nbytes - place} bytes are missing")
        there[place : place + len(block)] = np.frombuffer(block, np.uint8)
        place += len(block)
    check_content(flat)


def check_content(flat: NDArray) -> None:
    """Make truth values of bytes 0 and 1, and raise ValueError for text that is no text."""
    if flat.dtype.kind == "b":
        np.not_equal(flat.view(np.uint8), 0, out=flat)
    elif flat.dtype.kind == "U" and flat.size:
        codes = flat.view(np.dtype("u4").newbyteorder(flat.dtype.byteorder))
        if codes.max() > 0x10FFFF:
            raise ValueError("text with characters that do not exist")


def _said(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return (f"{text[:200]}" if text else type(error).__name__).encode("ascii", "replace").decode()
