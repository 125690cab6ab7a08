"""Folders that somebody hands over, such as a backup: their files are what a manifest says."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.errors import DataError
from pipeline.files import sha256_of

_LARGEST = 1 << 30


def is_digest(value: object) -> bool:
    """Tell whether a manifest's word is a SHA-256."""
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


def is_entry(value: object) -> bool:
    """Tell whether a manifest's word on a file is one: its size and SHA-256."""
    sized = isinstance(value, dict) and type(value.get("size")) is int
    return sized and is_digest(value.get("sha256"))


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
