"""Find and remove what killed jobs leave behind: files in the store that no row points to.

Safe while workers compute: files are listed before the rows are read, so that a row committed
meanwhile keeps its file; and a file is touched only if it is older than an age, and older than
every job under way. Empty folders stay: a job may be about to write there. A table that cannot
be read ends the collection before anything is removed.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import datajoint as dj

from schemas.stored import identity
from workers.database.datajoint_internals import (
    ForeignKeys,
    store,
    store_files,
    store_folders,
    stored_columns,
)
from workers.queue import tables
from workers.queue.lease import Ledger

STORE = "main"


def collect(ledger: Ledger, *, age_s: float = 24 * 3600.0, delete: bool = False) -> dict[str, Any]:
    """List, and remove if told to, the store's files that no row refers to.

    Parameters
    ----------
    ledger : Ledger
        Job tables; the schemas of their deployment are looked at, no others.
    age_s : float
        Younger files are kept (s): they may belong to a row that is about to be committed.
    delete : bool
        False changes nothing.

    Returns
    -------
    dict
        `referenced` and `stored`, numbers of files; `orphans` (paths) and `orphan_bytes`; `young`,
        orphans that are kept because of their age; `deleted`.
    """
    identity.check_store(tables.schema.database.removesuffix("_workers"))
    databases = pipeline_databases(ledger.connection)
    stored = {name: entry for db in databases for name, entry in list_files(db)}
    limit = _oldest_claim(ledger, age_s)
    used = set(references(ledger, databases))
    free = [path for path in stored if not is_covered(path, used)]
    old = sorted(path for path in free if stored[path][1] < limit)
    place = store(STORE)
    deleted = 0
    if delete:
        for path in old:
            place.remove(path)
            deleted += 1
    return {
        "stored": len(stored),
        "referenced": len(stored) - len(free),
        "orphans": old,
        "orphan_bytes": sum(stored[path][0] for path in old),
        "young": len(free) - len(old),
        "deleted": deleted,
    }


def is_covered(path: str, used: set[str]) -> bool:
    """Tell whether a file, or a folder above it, is what a row refers to."""
    path = path.removesuffix(".manifest.json")  # beside every object that is a folder
    while path:
        if path in used:
            return True
        path = path.rpartition("/")[0]
    return False


def pipeline_databases(connection: dj.Connection) -> list[str]:
    """Return the names of the database schemas of the active deployment.

    They share the prefix of the job tables; whatever else the connection knows is somebody else's.
    """
    tables_there = ForeignKeys(connection).in_order()
    names = {name.split(".")[0].strip('`"') for name in tables_there}
    prefix = tables.schema.database.removesuffix("workers")
    own = sorted(name for name in names if name.startswith(prefix))
    # a server that writes all names in small letters
    return own or sorted(name for name in names if name.startswith(prefix.lower()))


def list_files(database: str) -> Iterator[tuple[str, tuple[int, datetime.datetime]]]:
    """List the files of one schema in the store: path, size (bytes) and time of writing (UTC)."""
    for folder in store_folders(database, STORE):
        for path, info in store_files(folder, STORE):
            yield path, (int(info["size"]), _written(info))


def _written(info: dict[str, Any]) -> datetime.datetime:
    """Return when a file was written (UTC, naive), from what its file system says."""
    moment = info.get("mtime") or info.get("LastModified") or info.get("created")
    if isinstance(moment, (int, float)):
        return datetime.datetime.fromtimestamp(moment, datetime.UTC).replace(tzinfo=None)
    if isinstance(moment, datetime.datetime):
        return moment.astimezone(datetime.UTC).replace(tzinfo=None)
    raise ValueError(f"the store does not say when {info['name']} was written")


@dataclass(frozen=True)
class Stored:
    """A file of the store that a row refers to."""

    path: str
    digest: str | None  # None in rows from before there were digests
    table: str
    column: str
    key: dict[str, Any]


def references(ledger: Ledger, databases: list[str]) -> Iterator[str]:
    """Yield the store path of every file that a row refers to; see `objects`."""
    return (entry.path for entry in objects(ledger, databases))


def objects(ledger: Ledger, databases: list[str]) -> Iterator[Stored]:
    """Yield every file of the store that a row refers to.

    Raises
    ------
    Exception
        If any table cannot be read: what it refers to must not be taken for an orphan.
    """
    for database in databases:
        schema = dj.Schema(database, connection=ledger.connection)
        for name in schema.list_tables():
            table = schema.get_table(name)
            for column, paths_of in stored_columns(table):
                query = table.proj(column)
                rows = ledger.persist(lambda query=query: list(query.cursor(as_dict=True)))
                for row in rows:
                    for path, kept_in in paths_of(row[column]):
                        if kept_in in (None, STORE):
                            value = row[column]
                            said = json.loads(value) if isinstance(value, str) else value
                            key = {part: row[part] for part in table.primary_key}
                            digest = said.get("digest")
                            yield Stored(path, digest, table.full_table_name, column, key)


def _oldest_claim(ledger: Ledger, age_s: float) -> datetime.datetime:
    """Return the time (UTC) before which a file without a row belongs to no job under way."""
    ((now, claimed),) = ledger.rows(
        f"SELECT {ledger.now()}, (SELECT MIN(claimed_at) FROM {tables.Job.full_table_name} "
        "WHERE status='running')"
    )
    limit = now - datetime.timedelta(seconds=age_s)
    return min(limit, claimed) if claimed is not None else limit
