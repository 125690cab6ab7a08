"""Where the private database of a home lies, and whose it is.

A database is made only where neither `server.json` nor a data folder is. `server.json` names the
data folder relative to the home, if it lies within, so that a home may be moved and copied.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import shutil
from pathlib import Path
from typing import Any

from pipeline.files import written_whole
from workers.database import postgres
from workers.database.postgres import SUPERUSER, ServerError

SERVER = "server.json"
DATA = "pgdata"
ELSEWHERE = Path("/var/tmp")
logger = logging.getLogger("inception.home")


def read(folder: Path) -> dict[str, Any] | None:
    """Return what `server.json` says, with the path at which the data folder lies today."""
    try:
        server = json.loads((folder / SERVER).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    inside = folder / DATA  # former versions wrote where that was before the home was moved
    server["data"] = str(inside if inside.exists() else folder / server["data"])
    return server


def write(folder: Path, server: dict[str, Any]) -> None:
    """Write `server.json`, readable by its owner only."""
    data = Path(server["data"])
    named = data.name if data.parent == folder else str(data)
    with written_whole(folder / SERVER, private=True) as partial:
        partial.write_text(json.dumps({**server, "data": named}), encoding="utf-8")


def own(folder: Path) -> dict[str, Any] | None:
    """Return what `server.json` says, unless its data folder is that of another home."""
    server = read(folder)
    if server is None:
        return None
    data = Path(server["data"])
    label = data.parent / "home"
    if data.parent.parent == ELSEWHERE and label.exists():
        owner = label.read_text(encoding="utf-8")
        if owner != str(folder) and _refers_to(Path(owner), data):
            raise ServerError(
                f"{folder / SERVER}: the data folder {data} is that of the home {owner}, of which "
                "this one is a copy; use that home, or `inception backup` and `restore`"
            )
        if owner != str(folder):
            label.write_text(str(folder), encoding="utf-8")  # the home was moved
    return server


def _refers_to(home: Path, data: Path) -> bool:
    server = read(home)
    return server is not None and Path(server["data"]) == data


def initialize(folder: Path) -> dict[str, Any]:
    """Make an empty data folder and its `server.json`."""
    server = _new(_data_folder(folder) / DATA)
    data = Path(server["data"])
    programs = postgres.reachable_binaries(postgres.find_binaries(), data.parent)
    postgres.init_cluster(programs, data, server["password"])
    write(folder, server)
    return server


def adopt(folder: Path) -> dict[str, Any] | None:
    """Give a data folder that has lost its `server.json` a new password; None if there is none."""
    inside = folder / DATA
    store = folder / "store"
    places = [inside] if inside.exists() else []
    if not places and store.is_dir() and any(store.iterdir()):
        places = [place / DATA for place in _left_elsewhere(folder) if (place / DATA).exists()]
    if not places:
        return None
    if len(places) > 1:
        raise ServerError(
            f"{folder / SERVER}: file is missing; found {len(places)} data folders of this home, "
            f"{', '.join(map(str, places))}; expected one: move the others away"
        )
    server = _new(places[0])
    postgres.halt(places[0])
    _take_over(places[0])
    programs = postgres.reachable_binaries(postgres.find_binaries(places[0]), places[0].parent)
    postgres.set_password(programs, places[0], server["password"])
    logger.warning("%s: file was missing; %s has a new password", folder / SERVER, places[0])
    write(folder, server)
    return server


def _new(data: Path) -> dict[str, Any]:
    password = secrets.token_urlsafe(24)
    return {
        "user": SUPERUSER,
        "password": password,
        "data": str(data),
        "port": None,
        "pid": None,
    }


def prepare(folder: Path, data: Path) -> None:
    """Raise unless the data folder of a home is there and can be entered by the server."""
    if not (data / "PG_VERSION").exists():
        raise ServerError(
            f"{folder / SERVER}: the data folder of its database is missing; expected {data}; "
            "mount or move it there, or restore a backup into another home; only who deletes "
            "server.json begins with an empty database"
        )
    _take_over(data)
    if postgres.server_user() is not None and not postgres.reachable(data.parent):
        raise ServerError(
            f"{data}: the account that runs the database cannot enter the folder; move the home "
            "to where all accounts may pass, or run as another account than root"
        )


def _take_over(data: Path) -> None:
    """Give a data folder copied by root to the server's account again, readable by it alone."""
    user = postgres.server_user()
    if user is not None and data.stat().st_uid != user.pw_uid:
        for path in (data, *data.rglob("*")):
            os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)
    if data.stat().st_mode & 0o077:
        data.chmod(0o700)


def _left_elsewhere(folder: Path) -> list[Path]:
    """Return the folders outside that were made for the data of this home."""
    return [
        label.parent
        for label in ELSEWHERE.glob("inception-*/home")
        if label.stat().st_uid == os.getuid() and label.read_text(encoding="utf-8") == str(folder)
    ]


def _data_folder(folder: Path) -> Path:
    """Return the folder that shall hold `pgdata`, one that the server's account can enter."""
    if postgres.server_user() is None or postgres.reachable(folder):
        return folder
    for other in _left_elsewhere(folder):  # the home was deleted while its server ran, or
        postgres.halt(other / DATA)  # initdb failed
        if not (other / DATA).exists():
            shutil.rmtree(other)
    elsewhere = ELSEWHERE / f"inception-{secrets.token_hex(8)}"
    elsewhere.mkdir(mode=0o755)
    elsewhere.chmod(0o755)  # whatever the umask: the server's account has to pass
    (elsewhere / "home").write_text(str(folder), encoding="utf-8")
    return elsewhere
