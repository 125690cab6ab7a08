"""Compare what rows say with what lies in the store and where the recordings are, both ways."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import datajoint as dj

from pipeline.errors import DataError
from schemas import dataset, experiment
from schemas.datajoint_internals import backend, quoter, store
from schemas.stored import identity
from schemas.stored.digests import digest_of_stream, owner
from workers.database import collect
from workers.queue import tables
from workers.queue.lease import Ledger


def verify(
    ledger: Ledger,
    *,
    raw: bool = True,
    record: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Read every object of the store and every raw file, and compare them with the rows.

    Parameters
    ----------
    ledger : Ledger
        On the pipeline's connection.
    raw : bool
        Look at the recordings, too, where the pipeline has any.
    record : bool
        Write the digest of what is there into rows of before there were digests.
    say : callable
        Told of everything that is wrong, one line each, as it is found.

    Returns
    -------
    dict
        `objects` looked at; `missing`, `damaged` (lines); `without_digest`, `recorded` (numbers);
        `orphans`, files that no row refers to; `raw_files`, and `raw_problems` (lines).
    """
    identity.check_store(tables.schema.database.removesuffix("_workers"))
    databases = collect.pipeline_databases(ledger.connection)
    stored = {path for name in databases for path, _ in collect.list_files(name)}
    place = store(collect.STORE)
    found: dict[str, Any] = {"objects": 0, "missing": [], "damaged": [], "without_digest": 0}
    found |= {"recorded": 0, "raw_files": 0, "raw_problems": []}
    used = set()
    for entry in list(collect.objects(ledger, databases)):
        found["objects"] += 1
        used.add(entry.path)
        if not place.exists(entry.path):
            if not place.isdir(entry.path):
                _note(found["missing"], f"{owner(entry.path)}: {entry.path} is missing", say)
            continue
        with place.open(entry.path) as stream:
            digest = digest_of_stream(stream)
        if entry.digest is None and record:
            _record(ledger.connection, entry, digest)
            found["recorded"] += 1
        elif entry.digest is None:
            found["without_digest"] += 1
        elif entry.digest != digest:
            _note(found["damaged"], f"{owner(entry.path)}: {entry.path} is damaged", say)
    found["orphans"] = sorted(path for path in stored if not collect.is_covered(path, used))
    for path, problem in _raw_files(ledger, record=record) if raw else ():
        found["raw_files"] += 1
        if problem is not None:
            _note(found["raw_problems"], problem or path, say)
    return found


def _note(lines: list[str], line: str, say: Callable[[str], None]) -> None:
    lines.append(line)
    say(line)


def _record(connection: dj.Connection, entry: collect.Stored, digest: str) -> None:
    """Write a digest beside path and shape of an object, in the row that refers to it."""
    quote = quoter(connection)
    column = quote(entry.column)
    where = " AND ".join(f"{quote(name)}=%s" for name in entry.key)
    if backend(connection) == "postgresql":
        change = f"{column} || %s::jsonb"
        value = json.dumps({"digest": digest})
    else:
        change, value = f"JSON_SET({column}, '$.digest', %s)", digest
    connection.query(
        f"UPDATE {entry.table} SET {column}={change} WHERE {where}", (value, *entry.key.values())
    )


def _raw_files(ledger: Ledger, *, record: bool) -> Iterator[tuple[str, str | None]]:
    """Yield every raw file with what is wrong with it; None: nothing."""
    for table in (experiment.Scan.File, dataset.PreparedFile):
        for row in ledger.persist(lambda table=table: table().to_dicts(order_by="KEY")):
            path = experiment.Path(row["path"])
            try:
                if not path.exists():
                    raise experiment.gone(path)
                digest = experiment.raw_digest(path)
                if row["digest"] is None:
                    _check_fingerprint(path, row["fingerprint"])
                    if record:
                        table.update1({**_key(table, row), "digest": digest})
                elif row["digest"] != digest:
                    raise experiment.changed(str(path), digest, row["digest"])
            except DataError as error:
                yield row["path"], str(error)
            else:
                yield row["path"], None


def _check_fingerprint(path: Any, expected: str) -> None:
    if (found := experiment.fingerprint(path)) != expected:
        raise experiment.changed(str(path), found, expected)


def _key(table: Any, row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in table.primary_key}
