"""Save a whole deployment, rows and files, and make it again on an empty server.

The database is written as of one moment. Files are copied after it: a row's file is there before
the row, so every row of the dump finds its own; files of rows that came later are orphans of
the copy. Everything is verified by SHA-256 when it is saved and again when it is restored. The
digests lie beside the files, so they tell damage, not who wrote it: a folder of anybody is taken
for data, of which no name leaves the folder and no statement runs but those that make tables.
Raw recordings are not part of it: rows say where they lie.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import datajoint as dj

from pipeline.errors import DataError
from pipeline.files import sha256_of
from schemas.stored import identity as known_store
from schemas.stored.digests import Hasher
from workers.database import collect, dumps, server
from workers.database.datajoint_internals import backend, store, store_folders
from workers.deployment import identity
from workers.deployment.folders import (
    check_files,
    check_place,
    is_digest,
    is_entry,
    is_plain,
    read_document,
)
from workers.queue import tables
from workers.queue.lease import Ledger
from workers.version import code_version

FORMAT = 1
MANIFEST = "manifest.json"
_BLOCK = 1 << 20


def backup(ledger: Ledger, folder: Path, *, despite_damage: bool = False) -> dict[str, Any]:
    """Save all schemas of the active pipeline and their files; workers may go on.

    Parameters
    ----------
    ledger : Ledger
        On the pipeline's connection.
    folder : Path
        Must not exist; it appears when everything is in it.
    despite_damage : bool
        Save what is whole although stored files are missing or damaged.

    Returns
    -------
    dict
        The manifest: `databases`, `tables` (rows and digest), `files` (size and SHA-256), `lost`
        (files that rows refer to and that are missing or damaged), where and when it was made.

    Raises
    ------
    DataError
        If there are no tables, or a file that a row refers to is missing or damaged.
    """
    if folder.exists():
        raise DataError("exists already", file=folder, remedy="name a new folder")
    databases = collect.pipeline_databases(ledger.connection)
    if not databases:
        raise DataError("has no tables to save", field=tables_of_jobs(), remedy="check --prefix")
    kind = backend(ledger.connection)
    digests = {entry.path: entry.digest for entry in collect.objects(ledger, databases)}
    lost = dict.fromkeys(_missing(digests), "missing")
    _refuse_losses(lost, despite_damage)
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    (part / "store").mkdir(parents=True)
    own = server.new_connection()
    try:
        saved = dumps.of(kind).dump(own, databases, part)
    finally:
        own.close()
    files = {}
    for name in databases:
        for path, (size, _) in collect.list_files(name):
            if path.endswith(".saving"):  # being written at this moment
                continue
            sha256, digest = copy_out(path, part / "store" / path)
            if digests.get(path) in (None, digest):
                files[path] = {"size": size, "sha256": sha256}
            else:
                lost[path] = "damaged"
                (part / "store" / path).unlink()
    if lost and not despite_damage:
        shutil.rmtree(part)
    _refuse_losses(lost, despite_damage)
    dumps.of(kind).check(part, databases)  # what it refuses could not be restored
    manifest = {
        "format": FORMAT,
        "backend": kind,
        "made": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "version": code_version(),
        "deployment": identity.id_of(ledger.connection, databases),
        "databases": databases,
        "tables": saved,
        "files": files,
        "lost": sorted(lost),
        "dump": {
            file.name: sha256_of(file) for file in sorted(part.iterdir()) if file.name != "store"
        },
    }
    (part / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    part.rename(folder)
    return manifest


def _refuse_losses(lost: Mapping[str, str], despite: bool) -> None:
    if lost and not despite:
        raise DataError(
            f"{len(lost)} files that rows refer to are missing or damaged; nothing was saved",
            file=known_store.place(),
            found=", ".join(f"{path} ({why})" for path, why in sorted(lost.items())[:3]),
            remedy="`inception verify` lists them; restore them, delete their rows, or save the "
            "rest: --despite-damage",
        )


def tables_of_jobs() -> str:
    """Return the name of the schema of the job tables, for messages."""
    return str(tables.schema.database)


def _missing(paths: Iterable[str]) -> list[str]:
    """Return those of some store paths at which there is neither file nor folder."""
    place = store(collect.STORE)
    return sorted(path for path in paths if not (place.exists(path) or place.isdir(path)))


def restore(
    connection: dj.Connection, folder: Path, *, despite_missing: bool = False
) -> dict[str, Any]:
    """Make a saved deployment again on a server that holds none of its schemas.

    Parameters
    ----------
    connection : dj.Connection
        To a server of the same kind.
    folder : Path
        What `backup` wrote.
    despite_missing : bool
        Go on although rows refer to files that the backup lacks.

    Returns
    -------
    dict
        The manifest; `lost` has all files that rows refer to and that the backup lacks.

    Raises
    ------
    DataError
        If the backup is damaged or for another kind of server, holds a name or a statement that
        `backup` does not write, the server is not empty, or what was restored differs from what
        was saved.
    """
    manifest = verify(folder)
    kind = backend(connection)
    prefix = _prefix(manifest)
    identity.expect_room(prefix, manifest.get("deployment"))
    tops = tuple(top for name in manifest["databases"] for top in store_folders(name))
    for path in manifest["files"]:
        if not path.startswith(tops):
            raise _outside(folder / MANIFEST, path, "names a file of no schema in it")
    if manifest["backend"] != kind:
        raise DataError(
            "is of another kind of server",
            file=folder,
            found=manifest["backend"],
            expected=kind,
            remedy="restore it to a server of its kind",
        )
    taken = [name for name in manifest["databases"] if server.schema_exists(connection, name)]
    if taken:
        raise DataError(
            "the server holds these schemas already",
            file=folder,
            found=", ".join(taken),
            remedy="use an empty server or another home",
        )
    own = server.new_connection()
    try:
        dumps.of(kind).load(own, folder, manifest["databases"])
        try:
            found = dumps.of(kind).digests(own, manifest["databases"])
            _same("tables", folder, manifest["tables"], found)
            used = sorted(set(collect.references(Ledger(connection), manifest["databases"])))
            strange = next((path for path in used if not is_plain(path)), None)
            if strange is not None:
                raise DataError(
                    "a row refers to a file out of the store",
                    file=folder,
                    found=ascii(strange[:200]),
                    remedy="use a backup that you trust",
                )
            absent = _not_among(used, manifest["files"])
            if (new := set(absent) - set(manifest.get("lost", ()))) and not despite_missing:
                raise DataError(
                    f"rows refer to {len(new)} files that are not in the backup",
                    file=folder,
                    found=", ".join(sorted(new)[:3]),
                    remedy="use another backup, or go on without them: --despite-missing",
                )
        except BaseException:
            dumps.of(kind).remove(own, manifest["databases"])
            raise
    finally:
        own.close()
    place = store(collect.STORE)
    for path in manifest["files"]:
        place.put_file(folder / "store" / path, path)
    stored = {path: {"size": place.size(path)} for path in manifest["files"]}
    sizes = {path: {"size": entry["size"]} for path, entry in manifest["files"].items()}
    _same("files", folder, sizes, stored)
    identity.mark_restored(connection, prefix)
    return {**manifest, "lost": absent} if absent else manifest


def _not_among(used: list[str], files: Mapping[str, Any]) -> list[str]:
    """Return the paths that are neither files nor folders of some files."""
    folders = {str(above) for path in files for above in PurePosixPath(path).parents}
    return [path for path in used if path not in files and path not in folders]


def _prefix(manifest: dict[str, Any]) -> str:
    """Return what the names of a backup's schemas begin with."""
    ends = [name for name in manifest["databases"] if name.endswith("_workers")]
    return min(ends, key=len, default="_workers").removesuffix("_workers")


def dangling(ledger: Ledger, databases: list[str]) -> list[str]:
    """Return the store paths that rows refer to and that are not there."""
    return _missing(set(collect.references(ledger, databases)))


def verify(folder: Path) -> dict[str, Any]:
    """Check every file of a backup against its manifest, and return the manifest."""
    manifest = _read_manifest(folder)
    files = {f"store/{path}": entry for path, entry in manifest["files"].items()}
    wanted = {**{name: {"sha256": digest} for name, digest in manifest["dump"].items()}, **files}
    check_files(folder, wanted, "use another backup")
    dumps.of(manifest["backend"]).check(folder, manifest["databases"])
    return manifest


def _read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest; DataError if there is none, or it names what no backup has."""
    file = folder / MANIFEST
    if not file.exists() and not file.is_symlink():
        raise DataError(
            "is no backup",
            file=folder,
            expected=f"a file {MANIFEST}",
            remedy="name the folder that `inception backup` wrote",
        )
    check_place(folder, MANIFEST)
    manifest = read_document(file)
    found = manifest.get("format") if isinstance(manifest, dict) else type(manifest).__name__
    if found != FORMAT:
        raise DataError(
            "has another format",
            file=file,
            field="format",
            found=str(found)[:100],
            expected=FORMAT,
            remedy="use the version that wrote it",
        )
    field = next((name for name, right in _FIELDS.items() if not right(manifest.get(name))), None)
    if field is not None:
        raise DataError(
            "names what no backup holds",
            file=file,
            field=field,
            expected="what `inception backup` wrote",
            remedy="use another backup",
        )
    if set(manifest["dump"]) != {dumps.of(manifest["backend"]).FILE}:
        raise DataError(
            "names what no backup holds",
            file=file,
            field="dump",
            found=ascii(sorted(manifest["dump"]))[:200],
            expected=dumps.of(manifest["backend"]).FILE,
        )
    seen: set[str] = set()
    for path in manifest["files"]:
        if not is_plain(path) or path.casefold() in seen:
            raise _outside(file, path, "names a file that leaves the folder, or names it twice")
        seen.add(path.casefold())
    return manifest


def _outside(file: Path, path: str, problem: str) -> DataError:
    return DataError(
        problem,
        file=file,
        field="files",
        found=ascii(path[:200]),
        expected="names within the schemas' own folders of the store",
        remedy="use a backup that you trust",
    )


_DATABASE = re.compile("[A-Za-z0-9_$-]{1,64}")
_FIELDS = {
    "backend": lambda value: value in ("mysql", "postgresql"),
    "made": lambda value: isinstance(value, str) and len(value) < 100,
    "databases": lambda value: (
        isinstance(value, list)
        and all(isinstance(name, str) and _DATABASE.fullmatch(name) for name in value)
        and len({name.casefold() for name in value}) == len(value)
    ),
    "tables": lambda value: (
        isinstance(value, dict)
        and all(
            isinstance(table, dict)
            and type(table.get("rows")) is int
            and isinstance(table.get("digest"), str)
            for table in value.values()
        )
    ),
    "files": lambda value: isinstance(value, dict) and all(map(is_entry, value.values())),
    "dump": lambda value: isinstance(value, dict) and all(map(is_digest, value.values())),
}


def _same(what: str, folder: Path, saved: dict, restored: dict) -> None:
    differing = sorted(name for name in saved if restored.get(name) != saved[name])
    if differing:
        raise DataError(
            f"{len(differing)} {what} differ from the backup",
            file=folder,
            found=", ".join(differing[:3]),
            remedy="drop the schemas and restore again",
        )


def copy_out(path: str, target: Path) -> tuple[str, str]:
    """Copy a file out of the store; return its SHA-256, and the digest that rows hold."""
    target.parent.mkdir(parents=True, exist_ok=True)
    digest, own = hashlib.sha256(), Hasher()
    with store(collect.STORE).open(path) as source, target.open("wb") as copy:
        while block := source.read(_BLOCK):
            digest.update(block)
            own.write(block)
            copy.write(block)
    return digest.hexdigest(), own.text()
