"""Values on their way into and out of the database and the store."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import datajoint as dj
import numpy as np

from schemas.datajoint_internals import stored_digest
from schemas.stored.digests import check_local


def number(value: float | None) -> float | None:
    """Return a float, or None (NULL) where it is not finite: not every database stores NaN."""
    return None if value is None or not np.isfinite(value) else float(value)


@contextlib.contextmanager
def local_file(reference: dj.ObjectRef) -> Iterator[Path]:
    """Give the path of a stored file, checked; one of a remote store is fetched for the time being.

    Raises
    ------
    DataError
        If the file is gone, or not what was written.
    """
    spec = dj.config.stores.get(reference.store or dj.config.stores.get("default"), {})
    if spec.get("protocol") == "file":
        file = Path(spec["location"]) / reference.path
        check_local(file, reference.path, stored_digest(reference))
        yield file
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(reference.download(folder))


def file_bytes(write: Callable[[Path], None], suffix: str) -> tuple[str, bytes]:
    """Return (suffix, content) of what `write(path)` writes, for an `<object@main>` column."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"value{suffix}"
        write(path)
        return suffix, path.read_bytes()
