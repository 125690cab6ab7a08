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
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import datajoint as dj

from pipeline.errors import DataError
from pipeline.files import sha256_of
from workers.database import collect, dumps, server
from workers.database.datajoint_internals import backend, store, store_folders
from workers.queue.lease import Ledger
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
    kind = backend(ledger.connection)
    own = server.new_connection()
    try:
        tables = dumps.of(kind).dump(own, databases, part)
    finally:
        own.close()
    files = {}
    for name in databases:
        for path, (size, _) in collect.list_files(name):
            if not path.endswith(".saving"):  # being written at this moment
                files[path] = {"size": size, "sha256": copy_out(path, part / "store" / path)}
    dumps.of(kind).check(part, databases)  # what it refuses could not be restored
    manifest = {
        "format": FORMAT,
        "backend": kind,
        "made": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "version": code_version(),
        "databases": databases,
        "tables": tables,
        "files": files,
        "dump": {
            file.name: sha256_of(file) for file in sorted(part.iterdir()) if file.name != "store"
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
        If the backup is damaged or for another kind of server, holds a name or a statement that
        `backup` does not write, the server is not empty, or what was restored differs from what
        was saved.
    """
    manifest = verify(folder)
    kind = backend(connection)
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
            used = collect.references(Ledger(connection), manifest["databases"])
            strange = next((path for path in used if not is_plain(path)), None)
            if strange is not None:
                raise DataError(
                    "a row refers to a file out of the store",
                    file=folder,
                    found=ascii(strange[:200]),
                    remedy="use a backup that you trust",
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
    missing = dangling(Ledger(connection), manifest["databases"])
    if missing:
        raise DataError("rows without their files", file=folder, found=", ".join(missing[:3]))
    return manifest


def dangling(ledger: Ledger, databases: list[str]) -> list[str]:
    """Return the store paths that rows refer to and that are not there."""
    place = store(collect.STORE)
    used = set(collect.references(ledger, databases))
    return sorted(path for path in used if not (place.exists(path) or place.isdir(path)))


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


def _is_digest(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


def is_entry(value: object) -> bool:
    """Tell whether a manifest's word on a file is one: its size and SHA-256."""
    sized = isinstance(value, dict) and type(value.get("size")) is int
    return sized and _is_digest(value.get("sha256"))


_LARGEST = 1 << 30
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
    "dump": lambda value: isinstance(value, dict) and all(map(_is_digest, value.values())),
}


def is_plain(path: str) -> bool:
    """Tell whether a path stays below the folder that it is taken from, on any system."""
    parts = path.split("/")
    strange = any(ord(letter) < 32 or letter in "\\\x7f" for letter in path)
    return not strange and all(part not in ("", ".", "..") for part in parts) and len(path) < 4096


def read_document(file: Path) -> Any:
    """Return what a JSON file of somebody's folder holds; DataError if it is none, or huge."""
    try:
        if not file.is_file() or file.stat().st_size > _LARGEST:
            raise ValueError("no file, or one that is too large")
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError("cannot be read", file=file, found=str(error)[:200]) from error


def check_files(folder: Path, wanted: Mapping[str, Mapping[str, Any]], remedy: str) -> None:
    """Refuse a folder unless its files are those of a manifest: `sha256`, and `size` if given."""
    for name in wanted:
        check_place(folder, name)
    for name, entry in wanted.items():
        file, found = folder / name, None
        if not file.is_file():
            found = "missing"
        elif "size" in entry and file.stat().st_size != entry["size"]:
            found = f"{file.stat().st_size} bytes"
        elif sha256_of(file) != entry["sha256"]:
            found = "other content"
        if found:
            raise DataError(
                "is damaged",
                file=file,
                found=found,
                expected=f"SHA-256 {entry['sha256'][:16]}...",
                remedy=remedy,
            )


def check_place(folder: Path, name: str) -> None:
    """Refuse a link on the way to a file: what it leads to is no part of the backup."""
    for place in [PurePosixPath(name), *PurePosixPath(name).parents][:-1]:
        if (folder / place).is_symlink():
            raise DataError(
                "is a link",
                file=folder / place,
                expected="files and folders",
                remedy="use a backup that you trust",
            )


def _same(what: str, folder: Path, saved: dict, restored: dict) -> None:
    differing = sorted(name for name in saved if restored.get(name) != saved[name])
    if differing:
        raise DataError(
            f"{len(differing)} {what} differ from the backup",
            file=folder,
            found=", ".join(differing[:3]),
            remedy="drop the schemas and restore again",
        )


def copy_out(path: str, target: Path) -> str:
    """Copy a file out of the store; return its SHA-256."""
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with store(collect.STORE).open(path) as source, target.open("wb") as copy:
        while block := source.read(_BLOCK):
            digest.update(block)
            copy.write(block)
    return digest.hexdigest()
