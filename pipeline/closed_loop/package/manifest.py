"""The manifest of a package, and whether the files are what it says."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.errors import DataError
from pipeline.files import sha256_of
from pipeline.npy import most_bytes
from pipeline.registry import canonical_json
from pipeline.stimulus.images import image_hash, read_png

FORMAT = "inception-package/1"
REMEDY = "write the package again"
IGNORED = (".DS_Store", "Thumbs.db", "desktop.ini")  # what file browsers leave behind


def manifest_digest(manifest: Mapping[str, Any]) -> str:
    """Return SHA-256 of the manifest's canonical JSON without its own `digest`."""
    rest = {key: value for key, value in manifest.items() if key != "digest"}
    return hashlib.sha256(canonical_json(rest).encode()).hexdigest()


@contextmanager
def opened(folder: str | os.PathLike) -> Iterator[Path]:
    """Give the folder of a package; a zip is unpacked for the time of the block."""
    path = Path(folder)
    if not path.is_file():
        yield path
        return
    with tempfile.TemporaryDirectory() as temporary:
        try:
            with zipfile.ZipFile(path) as archive:
                _unpack(archive, path, temporary)
        except DataError:
            raise
        except zipfile.BadZipFile as error:
            raise DataError("neither a package folder nor a zip file", file=path) from error
        except Exception as error:  # zlib.error, encryption, unknown methods, a full disk
            raise DataError(
                "the zip file cannot be unpacked", file=path, found=str(error)[:200], remedy=REMEDY
            ) from error
        yield Path(temporary)


def _unpack(archive: zipfile.ZipFile, path: Path, folder: str) -> None:
    """Unpack a package; what its directory says of names and sizes is looked at first."""
    for name in archive.namelist():
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise DataError("the zip file leaves its folder", file=path, found=ascii(name[:200]))
    unpacked = sum(member.file_size for member in archive.infolist())
    most = most_bytes(path.stat().st_size)
    if unpacked > most:
        raise DataError(
            "the zip file holds far more than a package",
            file=path,
            found=f"{unpacked} bytes",
            expected=f"at most {most}",
            remedy=REMEDY,
        )
    archive.extractall(folder)


def read_manifest(root: Path, *, name: str) -> dict:
    """Read manifest.json and check its form and its own digest."""
    path = root / "manifest.json"
    if not path.is_file():
        raise DataError("no manifest.json: not a package", file=name)
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError("manifest.json is damaged", file=name, found=error) from error
    found = manifest.get("format") if isinstance(manifest, dict) else type(manifest).__name__
    if found != FORMAT:
        raise DataError("unknown format", file=name, field="format", found=found, expected=FORMAT)
    needed = ("plan", "animal_id", "source", "monitor", "seed", "files", "digest")
    if missing := [key for key in needed if key not in manifest]:
        raise DataError(f"manifest.json lacks {missing}", file=name, remedy=REMEDY)
    for key in ("files", "monitor"):
        if not isinstance(manifest[key], dict):
            raise DataError("manifest.json is damaged", file=name, field=key, remedy=REMEDY)
    if manifest_digest(manifest) != manifest["digest"]:
        raise DataError("manifest.json was edited", file=name, remedy=REMEDY)
    return manifest


def verify_files(root: Path, manifest: Mapping[str, Any], *, name: str) -> None:
    """Compare every file with the manifest, and every image with its name."""
    listed = manifest["files"]
    there = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*")
        if path.is_file() and path.name not in IGNORED
    } - {"manifest.json"}
    if missing := sorted(set(listed) - there):
        raise DataError(f"{len(missing)} files are missing", file=name, found=missing[0])
    # the player's own log and compiled files may lie in the folder
    if added := sorted(f for f in there - set(listed) if f.startswith("images/")):
        raise DataError(f"{len(added)} files do not belong here", file=name, found=added[0])
    for file, sha in listed.items():
        path = root / file
        if sha256_of(path) != sha:
            raise DataError("a file was edited", file=name, field=file, remedy=REMEDY)
        if file.startswith("images/") and image_hash(read_png(path)) != PurePosixPath(file).stem:
            raise DataError("an image is not what its name says", file=name, field=file)
