"""What this machine, or the container on it, lets a worker use."""

from __future__ import annotations

import os
from pathlib import Path

import psutil

_CGROUP = Path("/sys/fs/cgroup")


def usable_cores() -> int:
    """Return the number of cores: the affinity mask, cut by a container's quota."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    quota = _quota()
    return max(1, min(cores, int(quota))) if quota else cores


def _quota() -> float | None:
    """Return the CPU quota in cores (cgroup 2, then 1), or None without one."""
    unified = _read(_CGROUP / "cpu.max").split()
    if len(unified) == 2 and unified[0] != "max":
        return int(unified[0]) / int(unified[1])
    quota = _read(_CGROUP / "cpu" / "cpu.cfs_quota_us")
    period = _read(_CGROUP / "cpu" / "cpu.cfs_period_us")
    if quota and period and int(quota) > 0:
        return int(quota) / int(period)
    return None


def usable_memory() -> int:
    """Return the memory (bytes): the machine's, cut by a container's limit."""
    total = psutil.virtual_memory().total
    for file in (_CGROUP / "memory.max", _CGROUP / "memory" / "memory.limit_in_bytes"):
        text = _read(file)
        if text.isdigit():
            total = min(total, int(text))
    return total


ONE_ORDER = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS")}
"""Threads of the libraries that add in another order with more of them.

That changes the last bits of a sum, and by the end of a training the third digit of its weights:
with one thread each, neither cores nor slots change a result. Another kind of processor does change
the last bits.
"""


def thread_environment(threads: int) -> dict[str, str]:
    """Return the environment of a job that may use some threads.

    They go to the libraries that they change no result of; the others keep to `ONE_ORDER`, unless
    a person has set their variables.
    """
    names = ("NUMBA_NUM_THREADS", "NUMEXPR_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")
    ordered = {name: os.environ.get(name, value) for name, value in ONE_ORDER.items()}
    return {**dict.fromkeys(names, str(threads)), **ordered}


def memory_environment() -> dict[str, str]:
    """Return the environment in which a job uses freed arrays again (glibc; ignored elsewhere).

    By default glibc gives arrays of more than 32 MB back at once, and every page of the next one
    is faulted in and cleared anew. A person's own settings win.
    """
    kept = {"MALLOC_MMAP_THRESHOLD_": 256 << 20, "MALLOC_TRIM_THRESHOLD_": 512 << 20}
    return {name: os.environ.get(name, str(value)) for name, value in kept.items()}


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii").strip()
    except OSError:
        return ""
