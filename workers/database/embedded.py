"""The private database of a home folder, started when needed.

A laptop needs no Docker, no root and no service: the programs come with a Python package, the data
live below the home folder (`INCEPTION_HOME`, else `~/.inception`). Two homes never meet. Where
`DJ_HOST` or a `datajoint.json` names a server, that server is used and nothing is started.

What lies in a home: `server.json` (port and password, readable by its owner only), `server.lock`,
`server.log`, `pgdata/`, `store/` (arrays). As root the server runs as an existing unprivileged
account; if that account cannot enter the home (below `/root`), the data folder lies in `/var/tmp`
and `server.json` says where. No folder's permissions are widened, no account is made.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.files import written_whole
from workers.database import postgres
from workers.database.postgres import SUPERUSER, ServerError

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
_ELSEWHERE = Path("/var/tmp")
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
    if is_embedded() and not (folder / "server.json").is_file():
        raise LookupError(
            f"{folder}: no pipeline is there; `inception ingest` makes one, --home names another"
        )


def is_embedded() -> bool:
    """Tell whether this process uses the embedded database: no other server is configured."""
    if os.environ.get("DJ_HOST"):
        return False
    from workers.database import datajoint_internals

    dj = _datajoint()
    file = datajoint_internals.config_file()
    if file is not None:
        settings = json.loads(file.read_text(encoding="utf-8"))
        if settings.get("database.host") or settings.get("database", {}).get("host"):
            return False
    return dj.config.database.user is None or _configured_home is not None


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
    dj.config.safemode = False  # no questions: the command line asks before it deletes
    present = dj.config.stores.get("main", {})
    ours = present.get("protocol") == "file" and present.get("location") == _own_store
    if is_embedded():
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
        if moved or not connection.is_connected:  # the server was started anew; the
            datajoint_internals.move_to_port(connection, server["port"])
            connection.connect()  # schemas bound to this object go on with it
        return connection
    _store(dj, folder, overwrite=ours and home is not None)
    return dj.conn()


def _datajoint() -> Any:
    import datajoint

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
        If there are no programs, or the server ends or does not answer in time.
    """
    folder = home_folder(home)
    server = _read(folder)
    if server is not None and _answers(server):
        return server
    with _locked(folder):
        server = _read(folder)  # another process may have started it while we waited
        if server is not None and _answers(server):
            return server
        if server is None or not (Path(server["data"]) / "PG_VERSION").exists():
            server = _initialize(folder)
        _run(folder, server, timeout_s)
        return server


def stop(home: str | os.PathLike | None = None) -> bool:
    """Stop the embedded server of a home; return whether it ran."""
    folder = home_path(home)
    if not folder.is_dir():
        return False
    with _locked(folder):
        server = _read(folder)
        return server is not None and postgres.halt(Path(server["data"]))


def status(home: str | os.PathLike | None = None) -> dict[str, Any]:
    """Say what is known about a home's server: `home, initialised, running, port, pid, data`."""
    folder = home_path(home)
    server = _read(folder) or {}
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
    server = _read(home_path(home))
    if server is None:
        raise ServerError(f"{home_path(home)} has no database yet; run `inception db start`")
    login = f"{server['user']}:{server['password']}"
    return f"postgresql://{login}@127.0.0.1:{server['port']}/{DATABASE}"


def remove(home: str | os.PathLike) -> None:
    """Stop the server of a home and delete its data folder (not the store)."""
    folder = home_folder(home)
    with _locked(folder):
        server = _read(folder)
        if server is None:
            return
        data = Path(server["data"])
        postgres.halt(data, timeout_s=10.0)
        shutil.rmtree(data.parent if data.parent.parent == _ELSEWHERE else data)
        (folder / "server.json").unlink()


def _read(folder: Path) -> dict[str, Any] | None:
    try:
        return json.loads((folder / "server.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def _write(folder: Path, server: dict[str, Any]) -> None:
    with written_whole(folder / "server.json", private=True) as partial:
        partial.write_text(json.dumps(server), encoding="utf-8")


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the home's lock: one process at a time makes, starts or stops its server."""
    with (folder / "server.lock").open("w", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # released by the kernel if its holder is killed
        yield


def _initialize(folder: Path) -> dict[str, Any]:
    server = {
        "user": SUPERUSER,
        "password": secrets.token_urlsafe(24),
        "data": str(_data_folder(folder) / "pgdata"),
        "port": None,
        "pid": None,
    }
    data = Path(server["data"])
    programs = postgres.reachable_binaries(postgres.find_binaries(), data.parent)
    postgres.init_cluster(programs, data, server["password"])
    _write(folder, server)
    return server


def _data_folder(folder: Path) -> Path:
    """Return the folder that shall hold `pgdata`, one that the server's account can enter."""
    if postgres.server_user() is None or postgres.reachable(folder):
        if (folder / "pgdata").exists():  # its password is lost with server.json
            postgres.halt(folder / "pgdata")
            (folder / "pgdata").rename(folder / f"pgdata.lost{secrets.token_hex(4)}")
        return folder
    for other in _ELSEWHERE.glob("inception-*/home"):
        left_behind = other.stat().st_uid == os.getuid() and other.read_text() == str(folder)
        if left_behind:  # the home was deleted while its server ran, or initdb failed
            postgres.halt(other.parent / "pgdata")
            if not (other.parent / "pgdata").exists():
                shutil.rmtree(other.parent)
    elsewhere = _ELSEWHERE / f"inception-{secrets.token_hex(8)}"
    elsewhere.mkdir(mode=0o755)
    elsewhere.chmod(0o755)  # whatever the umask: the server's account has to pass
    (elsewhere / "home").write_text(str(folder), encoding="utf-8")
    return elsewhere


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
            _write(folder, server)
        time.sleep(0.05)
    tail = log.read_text(encoding="utf-8", errors="replace").splitlines()[-3:]
    raise ServerError(f"the database does not answer after {timeout_s:.0f} s; {log}: {tail}")


def _answers(server: dict[str, Any], database: str = "template1") -> bool:
    import psycopg2

    if server["port"] is None:
        return False
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
