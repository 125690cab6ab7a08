"""Store, home and database of a deployment know each other by a mark: a random id.

It stands in a row of the database, in a small object of the store, and in a file of the home. The
mount point of a store that is not mounted is an empty folder without the mark: nothing is written
there. A store that bears another id belongs to another database.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import DataError, MachineError
from pipeline.files import written_whole
from schemas.datajoint_internals import quoter, store

if TYPE_CHECKING:
    from datajoint import Connection

FOLDER = "_identity"  # of the store; beside `_schema` and `_hash`
HOME_FILE = "identity.json"
_REMOTE_S = 30.0  # how long the mark of a store that is not a folder is taken as read (s)
ADOPT = "if it is the right one: inception declare --adopt-store"

_expected: dict[str, str] = {}  # prefix to the id that its database holds
_seen: dict[tuple[str, str], float] = {}  # marks of remote stores: when they were read


@dataclass(frozen=True)
class Recorded:
    """What a database says of itself: its id, and whether store and home bear it by now."""

    deployment_id: str
    marked: bool


def recorded(connection: Connection, prefix: str) -> Recorded | None:
    """Return the id that a database holds; None for one of before there were ids."""
    found = connection.query(
        "SELECT 1 FROM information_schema.tables WHERE table_schema=%s AND table_name=%s",
        (f"{prefix}_workers", "deployment"),
    )
    if found.fetchone() is None:
        return None
    quote = quoter(connection)
    row = connection.query(
        "SELECT deployment_id, marked_at IS NOT NULL FROM "
        f"{quote(prefix + '_workers')}.{quote('deployment')}"
    ).fetchone()
    return None if row is None else Recorded(str(row[0]), bool(row[1]))


def learn(connection: Connection, prefix: str) -> None:
    """Read the id of a database, so that its store is checked whenever it is used from now on."""
    found = recorded(connection, prefix)
    if found is not None and found.marked:
        _expected[prefix] = found.deployment_id
    else:
        _expected.pop(prefix, None)


def prefix_of(database: str) -> str | None:
    """Return the prefix, of those learned, of a database schema."""
    fitting = [prefix for prefix in _expected if database.startswith(f"{prefix}_")]
    return max(fitting, key=len, default=None)


def check_store(prefix: str) -> None:
    """Raise unless the store bears the id that the database of a prefix holds.

    Raises
    ------
    MachineError
        If the store bears no id: it is not mounted, or another folder.
    DataError
        If it bears that of another database.
    """
    wanted = _expected.get(prefix)
    if wanted is None or _read_lately(prefix, wanted):
        return
    found = store_mark(prefix)
    if found == wanted:
        _seen[place(), prefix] = time.monotonic()
        return
    raise wrong_store(prefix, found, wanted)


def wrong_store(prefix: str, found: str | None, wanted: str) -> DataError:
    """Return the error for a store without the id of a database, or with another."""
    if found is None:
        return MachineError(
            "the store does not bear the mark of this database",
            file=place(),
            field=mark_path(prefix),
            found="none",
            expected=wanted,
            remedy=f"mount the store; nothing was written; {ADOPT}",
        )
    return DataError(
        "the store belongs to another database",
        file=place(),
        field=mark_path(prefix),
        found=found,
        expected=wanted,
        remedy="name this database's own store (DJ_STORES, --home); nothing was written",
    )


def _read_lately(prefix: str, wanted: str) -> bool:
    """Tell whether the mark of a remote store was read a moment ago; a folder's always is anew."""
    if _location() is not None:
        return False
    return time.monotonic() - _seen.get((place(), prefix), -1e9) < _REMOTE_S


# ---- marks


def mark_path(prefix: str) -> str:
    """Return the path of a deployment's mark in the store."""
    return f"{FOLDER}/{prefix}.json"


def place() -> str:
    """Return where the store is, for messages."""
    import datajoint as dj

    spec = dj.config.stores.get("main", {})
    where = [spec.get("bucket"), spec.get("location")]
    return "/".join(str(part) for part in where if part) or "store main"


def _location() -> Path | None:
    """Return the folder of a store on a file system."""
    import datajoint as dj

    spec = dj.config.stores.get("main", {})
    return Path(spec["location"]) if spec.get("protocol") == "file" else None


def store_mark(prefix: str) -> str | None:
    """Return the id in the store, None if there is no mark."""
    location = _location()
    if location is not None:
        return _read_mark(location / mark_path(prefix), prefix)
    backend = store()
    if not backend.exists(mark_path(prefix)):
        return None
    return _id_in(backend.get_buffer(mark_path(prefix)), mark_path(prefix), prefix)


def write_store_mark(prefix: str, deployment_id: str) -> None:
    """Put the id into the store."""
    text = json.dumps({prefix: deployment_id}) + "\n"
    location = _location()
    if location is None:
        store().put_buffer(text.encode(), mark_path(prefix))
        return
    with written_whole(location / mark_path(prefix)) as partial:
        partial.write_text(text, encoding="utf-8")


def home_mark(home: Path, prefix: str) -> str | None:
    """Return the id in the home, None if there is no mark."""
    return _read_mark(home / HOME_FILE, prefix)


def write_home_mark(home: Path, prefix: str, deployment_id: str) -> None:
    """Put the id into the home, beside those of other prefixes."""
    file = home / HOME_FILE
    known = _content(file.read_bytes(), file) if file.exists() else {}
    with written_whole(file) as partial:
        partial.write_text(json.dumps({**known, prefix: deployment_id}) + "\n", encoding="utf-8")


def _read_mark(file: Path, prefix: str) -> str | None:
    try:
        content = file.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise MachineError(
            "the mark of the store cannot be read", file=file, found=error.strerror
        ) from error
    return _id_in(content, file, prefix)


def _id_in(content: bytes, file: Any, prefix: str) -> str | None:
    found = _content(content, file).get(prefix)
    return found if isinstance(found, str) else None


def _content(content: bytes, file: Any) -> dict[str, Any]:
    try:
        found = json.loads(content)
        if not isinstance(found, dict):
            raise ValueError(f"holds a {type(found).__name__}")
    except ValueError as error:
        raise DataError(
            "the mark of a database is damaged",
            file=file,
            found=str(error)[:100],
            expected="a JSON object of prefixes and ids",
            remedy=f"remove it; then, {ADOPT}",
        ) from error
    return found
