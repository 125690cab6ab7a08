"""Take an archive into a database; a folder of anybody is taken for data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.errors import DataError
from workers.archive.rows import RawTable
from workers.archive.write import FORMAT, MANIFEST, bare_name
from workers.database import collect
from workers.database.datajoint_internals import ForeignKeys, store, store_folders
from workers.database.schema_version import SCHEMA_VERSION
from workers.database.server import transaction
from workers.deployment.folders import check_files, is_entry, is_plain, read_document
from workers.queue.lease import Ledger
from workers.queue.order import TaskOrder

TRUST = "use an archive that you trust"


def load_archive(ledger: Ledger, plan: TaskOrder, folder: Path) -> dict[str, Any]:
    """Insert the rows of an archive and put its files into the store, all or nothing.

    Parameters
    ----------
    ledger : Ledger
        On the pipeline's connection.
    plan : TaskOrder
        The active pipeline; its tables are declared.
    folder : path
        What `write_archive` wrote.

    Returns
    -------
    dict
        The manifest. Rows that are there already and equal stay.

    Raises
    ------
    DataError
        If the archive is damaged, of another version or prefix, names tables, columns or files that
        no archive has, or a row of the same key differs from its own.
    """
    manifest = verify_archive(folder)
    if manifest["prefix"] != plan.prefix:
        raise DataError(
            "schemas have another prefix",
            file=folder / MANIFEST,
            field="prefix",
            found=ascii(manifest["prefix"]),
            expected=plan.prefix,
            remedy=f"open the database with --prefix {manifest['prefix']!a}",
        )
    nodes = {
        bare_name(node, plan.prefix): node
        for node in ForeignKeys(ledger.connection, fresh=True).in_order()
    }
    wanted = {entry["table"]: name for name, entry in manifest["tables"].items()}
    strange = sorted(set(wanted) - {name for name in nodes if not name.startswith("workers.")})
    if strange:
        raise DataError(
            "table is not one of this program",
            file=folder / MANIFEST,
            field="tables",
            found=ascii(strange[0]),
            remedy=TRUST,
        )
    tops = tuple(
        top for name in collect.pipeline_databases(ledger.connection) for top in store_folders(name)
    )
    given = {name.removeprefix("store/") for name in manifest["files"] if name.startswith("store/")}
    work = []
    for name in [name for name in nodes if name in wanted]:
        raw = RawTable(ledger.connection, nodes[name])
        rows = _read_rows(folder / "tables" / f"{wanted[name]}.json", raw)
        paths = raw.paths(rows)
        if lost := sorted(p for p in paths if p not in given or not p.startswith(tops)):
            raise DataError(
                "row names a file that is not in the archive",
                file=folder / "tables" / f"{wanted[name]}.json",
                found=ascii(lost[0])[:200],
                remedy=TRUST,
            )
        work.append((raw, rows, paths))
    place = store(collect.STORE)
    for path in sorted(set().union(*(paths for *_, paths in work)) if work else ()):
        if not place.exists(path):
            place.put_file(folder / "store" / path, path)
    with transaction(ledger.connection):
        for raw, rows, _ in work:
            raw.insert(rows)
            kept = raw.rows([{name: row[name] for name in raw.primary} for row in rows])
            if kept != rows:
                differing = [b for a, b in zip(kept, rows, strict=False) if a != b] or rows
                raise DataError(
                    "another row has this key",
                    file=folder,
                    field=bare_name(raw.node, plan.prefix),
                    found={name: differing[0][name] for name in raw.primary},
                    expected="no such row, or the same",
                    remedy="take the archive into a database of its own: --home NEW",
                )
    return manifest


def verify_archive(folder: Path) -> dict[str, Any]:
    """Check every file of an archive against its manifest, and return the manifest.

    Raises
    ------
    DataError
        If it is none, is of another version, or a file is missing or another.
    """
    file = folder / MANIFEST
    manifest = read_document(file)
    found = manifest.get("format") if isinstance(manifest, dict) else type(manifest).__name__
    if found != FORMAT:
        raise DataError("is no archive", file=file, field="format", found=found, expected=FORMAT)
    if manifest.get("schema_version") != SCHEMA_VERSION:
        raise DataError(
            "is of another version of the tables",
            file=file,
            field="schema_version",
            found=manifest.get("schema_version"),
            expected=SCHEMA_VERSION,
            remedy=f"use inception {manifest.get('version')!a}",
        )
    tables, files = manifest.get("tables"), manifest.get("files")
    sound = (
        isinstance(files, dict)
        and isinstance(tables, dict)
        and isinstance(manifest.get("prefix"), str)
    )
    sound = sound and all(
        isinstance(t, dict) and isinstance(t.get("table"), str) for t in tables.values()
    )
    sound = sound and all(map(is_entry, files.values()))
    if not sound or not all(map(is_plain, [*files, *tables])):
        raise DataError(
            "names what no archive holds", file=file, field="files, tables", remedy=TRUST
        )
    check_files(folder, files, "copy the archive again")
    return manifest


def _read_rows(file: Path, raw: RawTable) -> list[dict[str, Any]]:
    """Return rows that have exactly the columns of a table."""
    rows = read_document(file)
    sound = isinstance(rows, list) and all(isinstance(row, dict) for row in rows)
    wrong = None if not sound else next((r for r in rows if set(r) != set(raw.names)), None)
    if not sound or wrong is not None:
        raise DataError(
            "columns are not those of the table",
            file=file,
            found=sorted(wrong)[:20] if wrong else type(rows).__name__,
            expected=raw.names,
            remedy=TRUST,
        )
    return rows
