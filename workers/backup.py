"""Save a whole deployment, rows and files, and make it again on an empty server.

The database is written as of one moment. Files are copied after it: a row's file is there before
the row, so every row of the dump finds its own; files of rows that came later are orphans of
the copy. Everything is verified by SHA-256 when it is saved and again when it is restored.
Raw recordings are not part of it: rows say where they lie.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import datajoint as dj
from datajoint.hash_registry import get_store_backend

from pipeline.errors import DataError
from workers import collect, database, dumps
from workers.lease import Ledger
from workers.version import code_version

FORMAT = 1
MANIFEST = "manifest.json"
_BLOCK = 1 << 20


def backup(ledger: Ledger, folder: Path) -> dict[str, Any]:
    """Save all schemas of the active pipeline and their files; workers may go on.

    Parameters
    ----------
    ledger : Ledger
        On the pipeline's connection.
    folder : Path
        Must not exist; it appears when everything is in it.

    Returns
    -------
    dict
        The manifest: `databases`, `tables` (rows and digest), `files` (size and SHA-256), and
        where and when it was made.
    """
    if folder.exists():
        raise DataError("exists already", file=folder, remedy="name a new folder")
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    (part / "store").mkdir(parents=True)
    databases = collect.pipeline_databases(ledger.connection)
    backend = ledger.connection.adapter.backend
    own = database.new_connection()
    try:
        tables = dumps.of(backend).dump(own, databases, part)
    finally:
        own.close()
    files = {}
    for name in databases:
        for path, (size, _) in collect.list_files(name):
            if not path.endswith(".saving"):  # being written at this moment
                files[path] = {"size": size, "sha256": _save(path, part / "store" / path)}
    manifest = {
        "format": FORMAT,
        "backend": backend,
        "made": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "version": code_version(),
        "databases": databases,
        "tables": tables,
        "files": files,
        "dump": {
            file.name: _sha256(file) for file in sorted(part.iterdir()) if file.name != "store"
        },
    }
    (part / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    part.rename(folder)
    return manifest


def restore(connection: dj.Connection, folder: Path) -> dict[str, Any]:
    """Make a saved deployment again on a server that holds none of its schemas.

    Parameters
    ----------
    connection : dj.Connection
        To a server of the same kind.
    folder : Path
        What `backup` wrote.

    Returns
    -------
    dict
        The manifest.

    Raises
    ------
    DataError
        If the backup is damaged or for another kind of server, the server is not empty, or what
        was restored differs from what was saved.
    """
    manifest = verify(folder)
    backend = connection.adapter.backend
    if manifest["backend"] != backend:
        raise DataError(
            "is of another kind of server", file=folder, found=manifest["backend"],
            expected=backend, remedy="restore it to a server of its kind",
        )  # fmt: skip
    taken = [name for name in manifest["databases"] if database.schema_exists(connection, name)]
    if taken:
        raise DataError(
            "the server holds these schemas already", file=folder, found=", ".join(taken),
            remedy="use an empty server or another home",
        )  # fmt: skip
    own = database.new_connection()
    try:
        dumps.of(backend).load(own, folder, manifest["databases"])
        found = dumps.of(backend).digests(own, manifest["databases"])
    finally:
        own.close()
    _same("tables", folder, manifest["tables"], found)
    store = get_store_backend(collect.STORE)
    for path in manifest["files"]:
        store.put_file(folder / "store" / path, path)
    stored = {path: {"size": store.size(path)} for path in manifest["files"]}
    sizes = {path: {"size": entry["size"]} for path, entry in manifest["files"].items()}
    _same("files", folder, sizes, stored)
    missing = dangling(Ledger(connection), manifest["databases"])
    if missing:
        raise DataError("rows without their files", file=folder, found=", ".join(missing[:3]))
    return manifest


def dangling(ledger: Ledger, databases: list[str]) -> list[str]:
    """Return the store paths that rows refer to and that are not there."""
    store = get_store_backend(collect.STORE)
    used = set(collect.references(ledger, databases))
    return sorted(path for path in used if not (store.exists(path) or store.isdir(path)))


def verify(folder: Path) -> dict[str, Any]:
    """Check every file of a backup against its manifest, and return the manifest."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(
            "is no backup", file=folder, expected=f"a file {MANIFEST}",
            remedy="name the folder that `inception backup` wrote",
        ) from error  # fmt: skip
    if manifest["format"] != FORMAT:
        raise DataError(
            "has another format", file=folder / MANIFEST, field="format",
            found=manifest["format"], expected=FORMAT, remedy="use the version that wrote it",
        )  # fmt: skip
    wanted = {f"store/{path}": entry["sha256"] for path, entry in manifest["files"].items()}
    for name, digest in {**manifest["dump"], **wanted}.items():
        file = folder / name
        if not file.is_file() or _sha256(file) != digest:
            raise DataError(
                "is damaged", file=file, found="missing" if not file.is_file() else "other content",
                expected=f"SHA-256 {digest[:16]}...", remedy="use another backup",
            )  # fmt: skip
    return manifest


def _same(what: str, folder: Path, saved: dict, restored: dict) -> None:
    differing = sorted(name for name in saved if restored.get(name) != saved[name])
    if differing:
        raise DataError(
            f"{len(differing)} {what} differ from the backup", file=folder,
            found=", ".join(differing[:3]), remedy="drop the schemas and restore again",
        )  # fmt: skip


def _save(path: str, target: Path) -> str:
    """Copy a file out of the store; return its SHA-256."""
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with get_store_backend(collect.STORE).open(path) as source, target.open("wb") as copy:
        while block := source.read(_BLOCK):
            digest.update(block)
            copy.write(block)
    return digest.hexdigest()


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
