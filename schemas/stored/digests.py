"""What lies in the store is what was written there: a digest in the row, checked when it is read.

Reading checks as a whole; a file that is mapped into memory is read once for it, in blocks, and not
again by this process while its size and time of writing stay the same. Rows from before there were
digests are read unchecked; `inception verify` counts them.
"""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import IO, Any

import numpy as np

from pipeline.errors import DataError
from schemas.datajoint_internals import watch_stored_values
from schemas.stored import identity

KIND = "blake2b-128"
_BLOCK = 1 << 22
_MOST_KNOWN = 10_000
_TOKEN = 9  # letters at the end of a file's name: an underscore and what makes it unique
_SETTLED_NS = 1_000_000_000
_known: dict[str, tuple[tuple[int, ...], str]] = {}  # file to size, times and inode, and digest
_REMEDY = (
    "restore the file from a backup, or delete the row and let it be computed again; "
    "`inception verify` finds all of them"
)


def watch() -> None:
    """Check everything that this process reads from the store, and where it writes."""
    watch_stored_values(_Watch())


class Hasher:
    """A digest that can be written to as a file can."""

    def __init__(self) -> None:
        self._digest = hashlib.blake2b(digest_size=16)

    def write(self, content: Any) -> int:
        self._digest.update(content)
        return len(content)

    def text(self) -> str:
        return f"{KIND}:{self._digest.hexdigest()}"


def digest_of(value: Any) -> str | None:
    """Return the digest of an array as an npy file, of bytes, or of a file; None of a folder."""
    hasher = Hasher()
    if isinstance(value, np.ndarray):
        np.save(hasher, value, allow_pickle=False)
        return hasher.text()
    content = value[1] if isinstance(value, tuple) and len(value) == 2 else value
    if isinstance(content, (bytes, bytearray, memoryview)):
        hasher.write(content)
        return hasher.text()
    if isinstance(content, (str, os.PathLike)) and Path(content).is_file():
        return digest_of_file(content)
    return None


def digest_of_file(file: str | os.PathLike) -> str:
    """Return the digest of a file, read in blocks."""
    with open(file, "rb") as stream:
        return digest_of_stream(stream)


def digest_of_stream(stream: IO[bytes]) -> str:
    """Return the digest of what is left of an open file."""
    hasher = Hasher()
    while block := stream.read(_BLOCK):
        hasher.write(block)
    return hasher.text()


def digest_unless_known(file: str | os.PathLike) -> str:
    """Return the digest of a file; from memory, if it was read and has not been written since.

    One that was written a moment ago is not kept in memory: it may be written again with the same
    time, whose steps are some milliseconds.
    """
    found = os.stat(file)
    state = (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
    name = os.path.abspath(file)
    kept = _known.get(name)
    if kept is not None and kept[0] == state:
        return kept[1]
    settled = time.time_ns() - max(found.st_mtime_ns, found.st_ctime_ns) > _SETTLED_NS
    digest = digest_of_file(file)
    if len(_known) >= _MOST_KNOWN:
        _known.clear()
    if settled:
        _known[name] = (state, digest)
    return digest


def check_local(file: Path, path: str, digest: str | None) -> None:
    """Raise DataError unless a file of a store on this machine is there, and what was written."""
    if not file.exists():
        raise _Watch().missing(path)
    if file.is_file():
        _Watch().check_file(str(file), path, digest)


def damaged(path: str, found: str, expected: str) -> DataError:
    """Return the error for an object of the store that is not what was written."""
    return DataError(
        "the stored object is damaged",
        file=f"{identity.place()}/{path}",
        field=owner(path),
        found=found,
        expected=expected,
        remedy=_REMEDY,
    )


def owner(path: str) -> str:
    """Say which row and column an object belongs to, by its path in the store.

    >>> owner("_schema/inception_imaging/__activity/animal_id=1/scan_idx=2/activity_x7y8_9a0.npy")
    'inception_imaging.activity animal_id=1 scan_idx=2, activity'
    """
    parts = path.split("/")
    if len(parts) < 4:
        return path
    _, database, table, *key, name = parts
    column = name.partition(".")[0][:-_TOKEN] or name
    return f"{database}.{table.lstrip('_#~')} {' '.join(key)}, {column}"


class _Watch:
    """What DataJoint's codecs ask, see `datajoint_internals.Watch`."""

    def before_write(self, database: str) -> None:
        prefix = identity.prefix_of(database)
        if prefix is not None:
            identity.check_store(prefix)

    def digest(self, value: Any) -> str | None:
        return digest_of(value)

    def check_bytes(self, content: Any, path: str, digest: str | None) -> None:
        if digest is not None and (found := digest_of(content)) != digest:
            raise damaged(path, found, digest)

    def check_file(self, file: str, path: str, digest: str | None) -> None:
        if digest is not None and (found := digest_unless_known(file)) != digest:
            raise damaged(path, found, digest)

    def missing(self, path: str) -> Exception:
        parts = path.split("/")
        self.before_write(parts[1] if len(parts) > 1 else "")  # a store that is not there at all?
        return DataError(
            "the stored object is gone",
            file=f"{identity.place()}/{path}",
            field=owner(path),
            remedy=_REMEDY,
        )
