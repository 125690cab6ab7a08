"""Files that are there whole or not at all, and what they hold in one number."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(path: str | os.PathLike, *, private: bool = False) -> Iterator[Path]:
    """Yield a name to write to, which becomes `path` when the block ends without an error.

    The name lies in the folder of `path` and ends as it does. What dies in between, the process
    or the machine, leaves the former file as it was; a reader sees the old content or the new.

    Parameters
    ----------
    path : path
        Folders above it are made.
    private : bool
        Let only its owner read the file.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with written_whole(folder / "note.txt") as partial:
    ...     _ = partial.write_text("done")
    >>> (folder / "note.txt").read_text(), len(list(folder.iterdir()))
    ('done', 1)
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        if private:
            os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, 64 hex digits, without holding it in memory."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
