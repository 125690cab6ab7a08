"""Whether the pipeline could run here: packages, database, store, disk, device."""

from __future__ import annotations

import importlib.metadata
import ipaddress
import os
import re
import secrets
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datajoint as dj

from workers.compute import gpu, limits
from workers.database import embedded

_DATAJOINT = "2.3.5"  # the version that everything was measured on
_FREE_GB = 5.0
_OF_THE_MACHINE = ("versions", "device", "cores and memory")
_SERVERS = {"MySQL": 8, "PostgreSQL": 15}  # oldest major versions


def doctor(
    home: str | os.PathLike | None = None, prefix: str = "inception", source: str = "schemas"
) -> list[dict[str, Any]]:
    """Check what the pipeline needs.

    Parameters
    ----------
    home : path, optional
        See `workers.database.embedded`.
    prefix, source : str
        Prefix of the database schemas and module of the tables.

    Returns
    -------
    list of dict
        `check, ok, found, remedy`; a check that fails says what it met and what to do.
    """
    checks: list[tuple[str, Callable[[], str], str]] = [
        ("versions", _versions, "pip install -c constraints.txt -e ."),
        (
            "database",
            lambda: _database(home),
            "inception db start, or check DJ_HOST, DJ_USER, DJ_PASS",
        ),
        ("encryption", lambda: _encryption(home), "set DJ_USE_TLS=true, or use a private network"),
        (
            "grants",
            lambda: _grants(home, prefix),
            f"grant SELECT, INSERT, UPDATE, DELETE on {prefix}_* to this account, and let one "
            "that may CREATE run `inception declare`",
        ),
        (
            "tables",
            lambda: _tables(home, prefix, source),
            "run `inception declare` with this version of the code",
        ),
        (
            "store",
            lambda: _store(home, prefix),
            "check the location of store 'main' and its permissions",
        ),
        ("disk", lambda: _disk(home), f"free at least {_FREE_GB:g} GB, or use another --home"),
        ("device", _device, "install the torch build for this GPU, or set INCEPTION_DEVICE=cpu"),
        ("cores and memory", _machine, "4 GB are enough for the demo"),
    ]
    results = []
    try:
        embedded.expect_home(home)
    except LookupError as error:  # whoever looks makes no database: only the machine is checked
        found = {"check": "database", "ok": False, "found": str(error)}
        results.append({**found, "remedy": "inception db start, or see --home"})
        checks = [check for check in checks if check[0] in _OF_THE_MACHINE]
    for name, check, remedy in checks:
        try:
            found, ok = check(), True
        except Exception as error:  # a doctor reports what it finds
            found, ok = " ".join(f"{type(error).__name__}: {error}".split()), False
        results.append({"check": name, "ok": ok, "found": found, "remedy": "" if ok else remedy})
    return results


def _versions() -> str:
    names = ("datajoint", "numpy", "torch", "opencv-python-headless", "numba")
    versions = {name: importlib.metadata.version(name) for name in names}
    if versions["datajoint"] != _DATAJOINT:
        raise RuntimeError(f"datajoint {versions['datajoint']}; expected {_DATAJOINT}")
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _database(home: str | os.PathLike | None) -> str:
    from workers.database import datajoint_internals

    connection = embedded.connect(home)
    text = str(connection.query("SELECT version()").fetchone()[0])
    product = "PostgreSQL" if "PostgreSQL" in text else "MySQL"
    number = re.search(r"\d+(\.\d+)*", text)
    version = number.group() if number else "0"
    if int(version.split(".")[0]) < _SERVERS[product]:
        raise RuntimeError(f"{product} {version}; expected >= {_SERVERS[product]}")
    kind = "embedded" if embedded.is_embedded() else "configured"
    return f"{kind} {product} {version} at {datajoint_internals.address(connection).host}"


def _encryption(home: str | os.PathLike | None) -> str:
    from workers.database import datajoint_internals

    connection = embedded.connect(home)
    if datajoint_internals.backend(connection) == "postgresql":
        row = connection.query(
            "SELECT cipher FROM pg_stat_ssl WHERE pid=pg_backend_pid()"
        ).fetchone()
        cipher = row[0] if row else None
    else:
        cipher = connection.query("SHOW STATUS LIKE 'Ssl_cipher'").fetchone()[1]
    if cipher:
        return f"TLS, {cipher}"
    host = datajoint_internals.address(connection).host
    if not _private(host):
        raise RuntimeError(f"no TLS to {host}, which is on a public network")
    return f"no TLS; {host} is this machine or on a private network"


def _private(host: str) -> bool:
    address = ipaddress.ip_address(socket.gethostbyname(host))
    return address.is_private or address.is_loopback


def _grants(home: str | os.PathLike | None, prefix: str) -> str:
    from workers.database import opening, server
    from workers.queue import tables

    connection = embedded.connect(home)
    makes = "makes tables" if _makes_tables(prefix) else "makes no tables"
    if not server.schema_exists(connection, f"{prefix}_workers"):
        if makes == "makes no tables":
            raise PermissionError("there are no tables, and this account may not make them")
        return makes
    duty = f"doctor {secrets.token_hex(4)}"
    with opening.without_declaring():
        tables.activate(prefix)
        name = tables.Duty.full_table_name
        try:
            with server.transaction(connection):
                connection.query(
                    f"INSERT INTO {name} (duty, next_at) VALUES (%s, '2000-01-01')", (duty,)
                )
                connection.query(f"UPDATE {name} SET next_at='2000-01-02' WHERE duty=%s", (duty,))
                connection.query(f"DELETE FROM {name} WHERE duty=%s", (duty,))
        except Exception as error:
            if not _denied(error):
                raise
            connection.query(f"SELECT count(*) FROM {name}")
            return f"reads, {makes}: an account to look with; a worker's may write"
    return f"reads and writes, {makes}"


def _makes_tables(prefix: str) -> bool:
    try:
        dj.Schema(f"{prefix}_doctor_check").drop(prompt=False)
    except Exception as error:
        if _denied(error):
            return False  # as it should be for a worker's account
        raise
    return True


def _denied(error: Exception) -> bool:
    """Tell whether the server refuses for want of a right; DataJoint says it in several ways."""
    text = str(error).lower()
    refused = any(word in text for word in ("denied", "check permissions", "read-only"))
    return refused or isinstance(error, dj.errors.AccessError)


def _tables(home: str | os.PathLike | None, prefix: str, source: str) -> str:
    from workers.database import opening, server
    from workers.queue import tables

    connection = embedded.connect(home)
    if not server.schema_exists(connection, f"{prefix}_workers"):
        return f"none yet with prefix {prefix}; they are made at first use"
    loaded, missing = opening.look(connection, source, prefix)
    if missing:
        raise RuntimeError(f"not declared: {', '.join(table.__name__ for table in missing)}")
    return f"{len(loaded.tasks) + len(tables.ALL)} declared, prefix {prefix}"


def _store(home: str | os.PathLike | None, prefix: str) -> str:
    from schemas.stored import identity
    from workers.database import datajoint_internals

    identity.learn(embedded.connect(home), prefix)
    identity.check_store(prefix)  # before anything is written there
    store, backend = dj.config.stores["main"], datajoint_internals.store("main")
    name, content = f"doctor/{secrets.token_hex(8)}", secrets.token_bytes(64)
    backend.put_buffer(content, name)
    try:
        if backend.get_buffer(name) != content:
            raise OSError("what is read differs from what was written")
    finally:
        backend.remove(name)
    place = store.get("location") or ""
    return f"{store['protocol']} {store.get('bucket', '')}{place}: writes, reads, deletes"


def _disk(home: str | os.PathLike | None) -> str:
    import tempfile

    folder = embedded.home_folder(home)
    places = {"home": folder, "temporary": Path(tempfile.gettempdir())}
    store = dj.config.stores.get("main", {})
    if store.get("protocol") == "file":
        places["store"] = Path(store["location"])
    free = {name: shutil.disk_usage(place).free / 1e9 for name, place in places.items()}
    short = [name for name in free if name != "temporary" and free[name] < _FREE_GB]
    text = ", ".join(f"{name} {gigabytes:.0f} GB free" for name, gigabytes in free.items())
    if short:
        raise OSError(text)
    return text


def _device() -> str:
    import torch

    from pipeline.device import pick_device

    device = pick_device()
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory / 1e9
        return f"{torch.cuda.get_device_name(device)}, {total:.0f} GB; {len(gpu.names())} GPU(s)"
    if gpu.names() and "INCEPTION_DEVICE" not in os.environ:
        raise RuntimeError(f"{len(gpu.names())} GPU(s), but torch {torch.__version__} sees none")
    return f"{device}, no GPU in use"


def _machine() -> str:
    memory = limits.usable_memory()
    if memory < 4e9:
        raise MemoryError(f"{memory / 1e9:.1f} GB of memory")
    threads = os.environ.get("OMP_NUM_THREADS", "set by the worker")
    return f"{limits.usable_cores()} cores, {memory / 1e9:.0f} GB; OMP_NUM_THREADS {threads}"
