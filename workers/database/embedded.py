"""The private database of a home folder, started when needed.

A laptop needs no Docker, no root and no service: the programs come with a Python package, the data
live below the home folder (`INCEPTION_HOME`, else `~/.inception`). Two homes never meet. Where
`DJ_HOST` or a `datajoint.json` names a server, that server is used and nothing is started.

What lies in a home: `server.json` (port and password, readable by its owner only), `server.lock`,
`server.log`, `pgdata/`, `store/` (arrays). A home may be moved, renamed or copied: what it holds is
named relative to it. As root the server runs as an existing unprivileged account; if that account
cannot enter the home (below `/root`), the data folder lies in `/var/tmp` and `server.json` says
where. No folder's permissions are widened, no account is made.

A database is made only where neither `server.json` nor a data folder is. A data folder that is
missing is an error; one whose `server.json` is missing gets a new password.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workers.database import home_data, postgres
from workers.database.postgres import ServerError

if TYPE_CHECKING:
    import datajoint as dj

__all__ = [
    "ServerError",
    "connect",
    "expect_home",
    "home_folder",
    "home_path",
    "is_embedded",
    "remove",
    "start",
    "status",
    "stop",
    "url",
]

DATABASE = "inception"
logger = logging.getLogger("inception.home")
_children: dict[int, Any] = {}  # servers this process started: reaped when they end
_own_store: str | None = None  # where this module put the store `main`
_configured_home: Path | None = None  # the home that dj.config of this process points to


def home_folder(home: str | os.PathLike | None = None) -> Path:
    """Return the home: the argument, INCEPTION_HOME, or `~/.inception`; made if missing."""
    folder = home_path(home)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def home_path(home: str | os.PathLike | None = None) -> Path:
    """Return where the home is, or would be."""
    chosen = Path(home or os.environ.get("INCEPTION_HOME") or Path.home() / ".inception")
    return chosen.expanduser().resolve()


def expect_home(home: str | os.PathLike | None = None) -> None:
    """Raise unless there is a deployment to look at: whoever reads makes none.

    Raises
    ------
    LookupError
        If the embedded database would be used, and the home has none.
    """
    folder = home_path(home)
    if is_embedded(home) and not any(
        (folder / name).exists() for name in (home_data.SERVER, home_data.DATA)
    ):
        raise LookupError(
            f"{folder}: no pipeline is there; `inception ingest` makes one, --home names another"
        )


def is_embedded(home: str | os.PathLike | None = None) -> bool:
    """Tell whether this process uses the embedded database: no other server is configured.

    `DJ_HOST` names another one. A `datajoint.json` in this folder or above it does, too, unless a
    home is named, by argument or INCEPTION_HOME: a file that happens to lie there does not decide
    over a home that a person chose.
    """
    if os.environ.get("DJ_HOST"):
        return False
    if home is not None or os.environ.get("INCEPTION_HOME") or _configured_home is not None:
        return True
    return _server_of_file() is None and _datajoint().config.database.user is None


def _server_of_file() -> tuple[Path, str] | None:
    """Return the `datajoint.json` on the way up from this folder, and the server that it names."""
    from workers.database import datajoint_internals

    file = datajoint_internals.config_file()
    if file is None:
        return None
    settings = json.loads(file.read_text(encoding="utf-8"))
    host = settings.get("database.host") or settings.get("database", {}).get("host")
    return (file, host) if host else None


def connect(home: str | os.PathLike | None = None) -> dj.Connection:
    """Connect DataJoint, starting the embedded database if no other server is configured.

    Parameters
    ----------
    home : path, optional
        Folder of database and store; see `home_folder`.

    Returns
    -------
    dj.Connection
        What `dj.conn()` returns from now on. The store `main` is `home/store` unless the
        configuration (`DJ_STORES`, `datajoint.json`) has a store of that name.
    """
    global _configured_home
    from workers.database import datajoint_internals

    dj = _datajoint()
    folder = home_folder(home)
    present = dj.config.stores.get("main", {})
    ours = present.get("protocol") == "file" and present.get("location") == _own_store
    if is_embedded(home):
        ours = _not_of_file(dj, folder) or ours
        server = start(folder)
        settings = {
            "backend": "postgresql",
            "host": "127.0.0.1",
            "port": server["port"],
            "user": server["user"],
            "password": server["password"],
            "name": DATABASE,
            "use_tls": False,
        }
        same_home = _configured_home == folder
        for name, value in settings.items():
            setattr(dj.config.database, name, value)
        _store(dj, folder, overwrite=ours)  # never a store that others configured
        _configured_home = folder
        os.environ["INCEPTION_HOME"] = str(folder)  # children of this process use the same home
        connection = dj.conn(reset=not same_home)
        moved = datajoint_internals.address(connection).port != server["port"]
        if moved or not _lives(connection):  # the server was started anew; the
            datajoint_internals.move_to_port(connection, server["port"])
            connection.connect()  # schemas bound to this object go on with it
        return connection
    _store(dj, folder, overwrite=ours and home is not None)
    return dj.conn()


def _lives(connection: dj.Connection) -> bool:
    """Ask the server: on PostgreSQL DataJoint's own question never fails."""
    try:
        return connection.query("SELECT 1", reconnect=False).fetchone() == (1,)
    except Exception:  # of whatever driver: what follows is a new connection
        return False


def _not_of_file(dj: Any, folder: Path) -> bool:
    """Tell whether settings came from a `datajoint.json` that a named home overrules."""
    found = None if _configured_home is not None else _server_of_file()
    if found is None:
        return False
    logger.warning("%s: names the server %s; not used, the home is %s", *found, folder)
    return "DJ_STORES" not in os.environ


def _datajoint() -> Any:
    import datajoint

    from schemas.datajoint_internals import let_forks_connect
    from schemas.stored.digests import watch

    let_forks_connect()
    watch()
    if "DJ_LOG_LEVEL" not in os.environ:
        datajoint.logger.setLevel("WARNING")  # one line per connection says nothing new
    return datajoint


def _store(dj: Any, folder: Path, *, overwrite: bool) -> None:
    """Let the store `main` be the home's where none is configured, or to move it."""
    global _own_store
    if "main" not in dj.config.stores or overwrite:
        location = folder / "store"
        location.mkdir(exist_ok=True)
        _own_store = str(location)
        dj.config.stores["main"] = {"protocol": "file", "location": _own_store}
    dj.config.stores.setdefault("default", "main")


def start(home: str | os.PathLike | None = None, *, timeout_s: float = 90.0) -> dict[str, Any]:
    """Make sure the embedded server of a home runs and answers; safe to call from many processes.

    Parameters
    ----------
    home : path, optional
        See `home_folder`.
    timeout_s : float
        How long a server may take to answer (s); after a crash it first recovers.

    Returns
    -------
    dict
        `port, user, password, data, pid`.

    Raises
    ------
    ServerError
        If there are no programs, the data folder is missing or another home's, or the server
        ends or does not answer in time.
    """
    folder = home_folder(home)
    server = home_data.own(folder)
    if server is not None and _answers(server):
        return server
    with _locked(folder):
        server = home_data.own(folder)  # another process may have started it while we waited
        if server is not None and _answers(server):
            return server
        if server is None:
            server = home_data.adopt(folder) or home_data.initialize(folder)
        home_data.prepare(folder, Path(server["data"]))
        _run(folder, server, timeout_s)
        return server


def stop(home: str | os.PathLike | None = None) -> bool:
    """Stop the embedded server of a home; return whether it ran."""
    folder = home_path(home)
    if not folder.is_dir():
        return False
    with _locked(folder):
        server = home_data.own(folder)
        return server is not None and postgres.halt(Path(server["data"]))


def status(home: str | os.PathLike | None = None) -> dict[str, Any]:
    """Say what is known about a home's server: `home, initialised, running, port, pid, data`."""
    folder = home_path(home)
    server = home_data.read(folder) or {}
    process = postgres.postmaster(Path(server["data"])) if server else None
    return {
        "home": str(folder),
        "initialised": bool(server),
        "running": process is not None,
        "port": server.get("port") if process else None,
        "pid": process.pid if process else None,
        "data": server.get("data"),
    }


def url(home: str | os.PathLike | None = None) -> str:
    """Return the URL for other clients, password included; the server must have been made."""
    server = home_data.read(home_path(home))
    if server is None:
        raise ServerError(f"{home_path(home)} has no database yet; run `inception db start`")
    login = f"{server['user']}:{server['password']}"
    return f"postgresql://{login}@127.0.0.1:{server['port']}/{DATABASE}"


def remove(home: str | os.PathLike) -> None:
    """Stop the server of a home and delete its data folder (not the store)."""
    folder = home_folder(home)
    with _locked(folder):
        server = home_data.own(folder)
        if server is None:
            return
        data = Path(server["data"])
        postgres.halt(data, timeout_s=10.0)
        made = data.parent if data.parent.parent == home_data.ELSEWHERE else data
        if made.exists():
            shutil.rmtree(made)
        (folder / home_data.SERVER).unlink()


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the home's lock: one process at a time makes, starts or stops its server."""
    try:
        lock = (folder / "server.lock").open("w", encoding="ascii")
    except OSError as error:
        raise ServerError(
            f"{folder}: its database cannot run there: {error.strerror}; found a home that this "
            "account cannot write to, expected one that it can: copy it, or change its permissions"
        ) from error
    with lock as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # released by the kernel if its holder is killed
        yield


def _run(folder: Path, server: dict[str, Any], timeout_s: float) -> None:
    data = Path(server["data"])
    deadline = time.monotonic() + timeout_s
    programs = postgres.reachable_binaries(postgres.find_binaries(data), data.parent)
    log = folder / "server.log"
    process = None
    while time.monotonic() < deadline:
        if _answers(server):
            _create_database(server)
            return
        if postgres.postmaster(data) is None and (process is None or process.poll() is not None):
            # first start, or it ended: the port was taken meanwhile, or processes of a killed
            # server still hold its shared memory for a moment
            if process is not None:
                time.sleep(0.5)
            server["port"] = postgres.free_port(server["port"])
            process = postgres.launch(programs, data, server["port"], log)
            server["pid"] = process.pid
            _children[process.pid] = process
            home_data.write(folder, server)
        time.sleep(0.05)
    tail = log.read_text(encoding="utf-8", errors="replace").splitlines()[-3:]
    raise ServerError(f"the database does not answer after {timeout_s:.0f} s; {log}: {tail}")


def _answers(server: dict[str, Any], database: str = "template1") -> bool:
    import psycopg2

    if server["port"] is None or postgres.postmaster(Path(server["data"])) is None:
        return False  # or it is the server of the home that this one was copied from
    try:
        _connection(server, database).close()
    except psycopg2.OperationalError:
        return False
    return True


def _connection(server: dict[str, Any], database: str) -> Any:
    import psycopg2

    return psycopg2.connect(
        host="127.0.0.1",
        port=server["port"],
        user=server["user"],
        password=server["password"],
        dbname=database,
        sslmode="disable",
        connect_timeout=5,
    )


def _create_database(server: dict[str, Any]) -> None:
    connection = _connection(server, "template1")
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,))
            if cursor.fetchone() is None:
                cursor.execute(f"CREATE DATABASE {DATABASE} TEMPLATE template0")
    finally:
        connection.close()
