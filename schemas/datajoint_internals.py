"""What the tables use of DataJoint beyond its documented names; what workers use is in theirs.

`workers.database.datajoint_internals` stands on this module. A test asserts that every name is
there and does what it is used for, so that another version of DataJoint breaks in these two files.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from datajoint import Connection


def backend(connection: Connection) -> str:
    """Return the kind of database server: `postgresql` or `mysql`."""
    return connection.adapter.backend


def quoter(connection: Connection) -> Callable[[str], str]:
    """Return the function that quotes a name as the server wants it."""
    return connection.adapter.quote_identifier


def let_help_read_tables() -> None:
    """Let an attribute that needs a database be absent from a class that has none.

    `help()` looks up the attributes of a table in all its base classes. In `dj.Computed`, which no
    schema binds, DataJoint fails an assertion then, where Python expects AttributeError.
    """
    from datajoint.user_tables import TableMeta

    original = TableMeta.__getattribute__
    if getattr(original, "absent_without_database", False):
        return

    def look_up(cls: type, name: str) -> Any:
        try:
            return original(cls, name)
        except AssertionError as error:
            if type.__getattribute__(cls, "_connection") is not None:
                raise
            raise AttributeError(f"{cls.__name__}.{name}: no database is bound") from error

    look_up.absent_without_database = True
    TableMeta.__getattribute__ = look_up


_links_of_parents: list[Any] = []  # never closed: that would end the parent's session


def let_forks_connect() -> None:
    """Give a forked process a link of its own to the server, at its first query.

    The link that it has inherited is its parent's: two processes that read from one would each get
    answers to the other's questions. A transaction stays with the parent.
    """
    import functools
    import os

    from datajoint.connection import Connection

    query, connect = Connection.query, Connection.connect
    if getattr(query, "minds_forks", False):
        return

    @functools.wraps(connect)
    def connect_noting(self: Connection) -> None:
        connect(self)
        self.linked_by = os.getpid()

    @functools.wraps(query)
    def query_own(self: Connection, *args: Any, **kwargs: Any) -> Any:
        if getattr(self, "linked_by", os.getpid()) != os.getpid():
            _links_of_parents.append(self._conn)
            self._in_transaction = False
            self.connect()
        return query(self, *args, **kwargs)

    query_own.minds_forks = True
    Connection.query, Connection.connect = query_own, connect_noting


# ---- what lies in the store


class Watch(Protocol):
    """What is done before an object is written to the store, and with what is read from it."""

    def before_write(self, database: str) -> None:
        """Raise if the objects of a database schema must not be written."""

    def digest(self, value: Any) -> str | None:
        """Return the digest of a value as it will lie in the store; None if it has none."""

    def check_bytes(self, content: Any, path: str, digest: str | None) -> None:
        """Raise if the content of an object is not what was written."""

    def check_file(self, file: str, path: str, digest: str | None) -> None:
        """Raise if a file is not the object that was written."""

    def missing(self, path: str) -> Exception:
        """Return the error that says why an object is not there."""


def store(name: str | None = "main") -> Any:
    """Return the storage backend: `put_file`, `put_buffer`, `get_buffer`, `open`, `size` and so on.

    Parameters
    ----------
    name : str or None
        Name in the configuration; None for its default.
    """
    from datajoint.hash_registry import get_store_backend

    return get_store_backend(name)


def watch_stored_values(watch: Watch) -> None:
    """Have a digest written beside every stored array and file, and checked when it is read.

    DataJoint keeps path, type and shape of an object in the row, as JSON; `digest` joins them. The
    codecs keep their names, so that definitions and stored rows are as before.
    """
    from datajoint.builtin_codecs.npy import NpyCodec, NpyRef
    from datajoint.builtin_codecs.object import ObjectCodec
    from datajoint.objectref import ObjectRef

    if getattr(NpyRef.load, "is_watched", False):
        return

    def watched_encode(codec: Any) -> Any:
        original = codec.encode

        def encode(self, value, *, key=None, context=None, store_name=None):
            database = self._extract_context(key, context)[0]
            watch.before_write(database)
            said = original(self, value, key=key, context=context, store_name=store_name)
            digest = watch.digest(value)
            return said if digest is None else {**said, "digest": digest}

        return encode

    NpyCodec.encode, ObjectCodec.encode = watched_encode(NpyCodec), watched_encode(ObjectCodec)
    load = NpyRef.load

    def checked_load(self: NpyRef, mmap_mode: str | None = None) -> Any:
        if mmap_mode is None and self._cached is not None:
            return self._cached
        digest = self._meta.get("digest")
        try:
            if mmap_mode is not None:
                here = self._backend.protocol == "file"
                if here:
                    watch.check_file(self._backend._full_path(self.path), self.path, digest)
                array = load(self, mmap_mode)
                if not here:  # a copy on this machine, perhaps of an earlier day
                    watch.check_file(array.filename, self.path, digest)
                return array
            content = _read(self._backend, self.path)
        except FileNotFoundError as error:
            raise watch.missing(self.path) from error
        watch.check_bytes(content, self.path, digest)
        self._cached = _array(content)
        return self._cached

    checked_load.is_watched = True
    NpyRef.load = checked_load
    decode = ObjectCodec.decode

    def decode_with_digest(self, stored, *, key=None, context=None):
        reference = decode(self, stored, key=key, context=context)
        reference.digest = stored.get("digest")
        return reference

    ObjectCodec.decode = decode_with_digest
    download = ObjectRef.download

    def checked_read(self: ObjectRef) -> bytes:
        try:
            content = _read(self._backend, self.path)
        except FileNotFoundError as error:
            raise watch.missing(self.path) from error
        watch.check_bytes(content, self.path, getattr(self, "digest", None))
        return content

    def checked_download(
        self: ObjectRef, destination: Path | str, subpath: str | None = None
    ) -> Path:
        target = Path(destination)
        target = target / Path(self.path).name if target.is_dir() else target
        was_there = target.exists()
        try:
            file = download(self, destination, subpath)
        except FileNotFoundError as error:
            raise watch.missing(self.path) from error
        try:
            if not self.is_dir:
                watch.check_file(str(file), self.path, getattr(self, "digest", None))
        except Exception:
            if not was_there:  # DataJoint writes over no file: the next try would find it
                file.unlink()
            raise
        return file

    ObjectRef.read, ObjectRef.download = checked_read, checked_download


def _read(backend: Any, path: str) -> bytes:
    import datajoint as dj

    try:
        return backend.get_buffer(path)
    except dj.errors.MissingExternalFile as error:
        raise FileNotFoundError(path) from error


def _array(content: bytes) -> Any:
    import io

    import numpy as np

    return np.load(io.BytesIO(content), allow_pickle=False)


def stored_digest(reference: Any) -> str | None:
    """Return the digest that a row holds of its stored array or file; None of older rows."""
    if hasattr(reference, "digest"):
        return reference.digest
    return reference._meta.get("digest") if hasattr(reference, "_meta") else None
