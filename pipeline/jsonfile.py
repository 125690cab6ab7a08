"""JSON files of rigs and people, read with every fault in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipeline.errors import DataError


def read_json(path: Path, *, field: str | None = None, expected: str = "JSON in UTF-8") -> Any:
    """Return what a JSON file holds; a mark of byte order is passed over.

    Parameters
    ----------
    path : path
    field, expected : str, optional
        For the message.

    Raises
    ------
    DataError
        If it cannot be read, is no JSON, or is nested too deeply.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            "cannot be read", file=path, field=field, found=error, expected=expected
        ) from error


def read_object(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; DataError as `read_json`, or if it is none."""
    found = read_json(path)
    if not isinstance(found, dict):
        raise DataError("is not a JSON object", file=path, found=type(found).__name__)
    return found
