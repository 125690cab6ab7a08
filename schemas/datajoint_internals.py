"""What the tables use of DataJoint beyond its documented names; what workers use is in theirs.

`workers.database.datajoint_internals` stands on this module. A test asserts that every name is
there and does what it is used for, so that another version of DataJoint breaks in these two files.
"""

from __future__ import annotations

import contextlib
import importlib
import re
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
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


def quoted(connection: Connection, *names: str) -> str:
    """Return names as the server wants them, with dots between."""
    return ".".join(map(connection.adapter.quote_identifier, names))


class Catalog(Protocol):
    """What a server says of tables, all at once: rows by schema and table."""

    def rows(self, kind: str) -> Mapping[tuple[str, str], list[dict[str, Any]]]:
        """Return all rows of a kind: `tables`, `columns`, `keys`, `indexes` or `lineages`."""
        ...


@dataclass(frozen=True)
class _Answer:
    """As much of a cursor as DataJoint uses of a query for a catalog."""

    rows: list[Any]

    @property
    def rowcount(self) -> int:
        return len(self.rows)

    def fetchone(self) -> Any:
        return self.rows[0] if self.rows else None

    def fetchall(self) -> list[Any]:
        return self.rows

    def __iter__(self) -> Iterator[Any]:
        return iter(self.rows)


def _questions(
    connection: Connection, catalog: Catalog
) -> dict[tuple[str, tuple], tuple[str, tuple[str, str]]]:
    """Return kind and table of every question that DataJoint asks of a table that is there."""
    adapter, found = connection.adapter, {}
    asked = {
        "tables": adapter.get_table_info_sql,
        "columns": adapter.get_columns_sql,
        "keys": adapter.get_primary_key_sql,
        "indexes": adapter.get_indexes_sql,
    }
    for place in catalog.rows("tables"):
        for kind, question in asked.items():
            found[_normal(question(*place)), ()] = kind, place
        database, table = place
        lineages = quoted(connection, database, "~lineage")
        question = f"SELECT attribute_name, lineage FROM {lineages} WHERE table_name = %s"
        found[question, (table,)] = "lineages", place
    return found


def _normal(query: str) -> str:
    return " ".join(query.split())


@contextlib.contextmanager
def answered(connection: Connection, catalog: Catalog) -> Iterator[None]:
    """Let a connection answer from a catalog what DataJoint asks about the tables in it.

    Other questions go to the server; after a statement that is none, all of them do.
    """
    if "query" in vars(connection):  # inside another block like this one
        yield
        return
    questions = _questions(connection, catalog)
    ask = connection.query

    def query(text: str, args: tuple = (), **options: Any) -> Any:
        kind, place = questions.get((_normal(text), tuple(args)), ("", ("", "")))
        rows = catalog.rows(kind).get(place, []) if kind else []
        if rows or kind == "indexes":
            if not options.get("as_dict"):
                rows = [tuple(row.values()) for row in rows]
            return _Answer(rows)
        if not re.match(r"\s*(SELECT|SHOW|BEGIN|COMMIT|ROLLBACK)\b", text, re.IGNORECASE):
            questions.clear()
        return ask(text, args, **options)

    connection.query = query
    try:
        yield
    finally:
        del connection.query


class _NotImported(type):
    """Kind of a class whose module is not imported: nothing can be an instance of it so far."""

    def __instancecheck__(cls, value: object) -> bool:
        return False

    def __call__(cls, *args: Any, **options: Any) -> Any:
        return getattr(importlib.import_module(cls.__module__), cls.__name__)(*args, **options)


class _Later(types.ModuleType):
    """Stand for a module that is imported when one of its names is used.

    Parameters
    ----------
    name : str
        Name of the module.
    asked : str
        Its class that values are compared with; that alone imports nothing.
    """

    def __init__(self, name: str, asked: str) -> None:
        super().__init__(name)
        self._asked = _NotImported(asked, (), {"__module__": name})

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # who asks is the import system, or a debugger
            raise AttributeError(name)
        if name == self._asked.__name__ and self.__name__ not in sys.modules:
            return self._asked
        return getattr(importlib.import_module(self.__name__), name)


def import_without_pandas() -> None:
    """Import DataJoint, but pandas only when a table is returned as, or filled from, a frame.

    It is 0.25 of the 0.6 s of CPU time that importing DataJoint takes.
    """
    if {"datajoint", "pandas"} & set(sys.modules):
        return
    sys.modules["pandas"] = _Later("pandas", asked="DataFrame")
    try:
        importlib.import_module("datajoint")
    finally:
        del sys.modules["pandas"]  # whoever else imports it gets the real one


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
