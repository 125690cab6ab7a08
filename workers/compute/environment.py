"""What a result was computed with: packages, interpreter, machine and device."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.registry import config_hash
from workers.database import server
from workers.queue import tables

if TYPE_CHECKING:
    from workers.queue.lease import Ledger


@functools.cache
def describe() -> dict[str, Any]:
    """Return `python`, `platform` and `packages` (name to version) of this process."""
    packages = {}
    for found in importlib.metadata.distributions():
        name = found.metadata["Name"]
        if name is not None:  # the remains of a package half removed
            packages.setdefault(name.lower().replace("_", "-"), found.version)
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()} {platform.libc_ver()[1]}".strip(),
        "packages": dict(sorted(packages.items())),
    }


def environment_hash() -> str:
    """Return the hash of `describe()`: equal where the same packages compute."""
    return config_hash(describe())


def record_environment(ledger: Ledger) -> str:
    """Make sure the table `Environment` knows this process's packages; return their hash."""
    name = environment_hash()
    known = ledger.rows(
        f"SELECT 1 FROM {tables.Environment.full_table_name} WHERE environment_hash=%s", (name,)
    )
    if not known:
        found = describe()
        row = (name, found["python"], found["platform"], json.dumps(found["packages"]))
        sql = server.insert_new_sql(
            ledger.connection,
            tables.Environment.full_table_name,
            "environment_hash, python, platform, packages",
            "(%s,%s,%s,%s)",
        )
        ledger.execute(sql, row)
    return name


@contextlib.contextmanager
def device_of(queue: str) -> Iterator[None]:
    """Leave the GPU to the jobs of the queue `gpu`, unless INCEPTION_DEVICE says otherwise."""
    if queue == "gpu" or "INCEPTION_DEVICE" in os.environ:
        yield
        return
    os.environ["INCEPTION_DEVICE"] = "cpu"
    try:
        yield
    finally:
        del os.environ["INCEPTION_DEVICE"]


def device_used() -> str:
    """Return the device of this process's work: the GPU if torch has used one, else the CPU."""
    torch = sys.modules.get("torch")  # not imported: then no GPU was used
    on_cpu = os.environ.get("INCEPTION_DEVICE") == "cpu"
    if torch is not None and not on_cpu and torch.cuda.is_initialized():
        return f"cuda {torch.cuda.get_device_name()}"[:64]
    return f"cpu {_processor()}"[:64]


@functools.cache
def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
