"""What this machine, or the container on it, lets a worker use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psutil

_PROC = Path("/proc/self")


def usable_cores() -> int:
    """Return the number of cores: the affinity mask, cut by quotas of cgroups and of SLURM."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    quotas = [int(quota) for quota in _quotas()]
    return max(1, min([cores, *quotas, *_of_slurm("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE")]))


def usable_memory() -> int:
    """Return the memory (bytes): the machine's, cut by limits of cgroups and of SLURM."""
    most = [psutil.virtual_memory().total]
    for folder in _groups("memory"):
        for name in ("memory.max", "memory.high", "memory.limit_in_bytes"):
            text = _read(folder / name)
            most += [int(text)] if text.isdigit() else []
    megabytes = _of_slurm("SLURM_MEM_PER_NODE")
    if not megabytes and (per_core := _of_slurm("SLURM_MEM_PER_CPU")):
        megabytes = [per_core[0] * usable_cores()]
    return min([*most, *(size << 20 for size in megabytes)])


def _quotas() -> Iterator[float]:
    """Yield the CPU quotas (cores) of the cgroups that this process is in."""
    for folder in _groups("cpu"):
        unified = _read(folder / "cpu.max").split()
        if len(unified) == 2 and unified[0] != "max":
            yield int(unified[0]) / int(unified[1])
        quota, period = (_read(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
        if quota and period and int(quota) > 0:
            yield int(quota) / int(period)


def _groups(controller: str) -> Iterator[Path]:
    """Yield the folders of this process's own cgroup and of all above it, versions 1 and 2.

    /proc/self/cgroup names the group, /proc/self/mountinfo where the hierarchy of a controller is
    mounted, and which of its groups is seen there as the top: in a container it may be its own.
    """
    own = {}  # controllers, empty for version 2, to the group
    for line in _read(_PROC / "cgroup").splitlines():
        _, names, group = line.split(":", 2)
        own[frozenset(names.split(",")) if names else frozenset()] = group
    for line in _read(_PROC / "mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = [*after.split(" "), "", "", ""][:3]
        if kind not in ("cgroup", "cgroup2"):
            continue
        top, mount = (part.replace("\\040", " ") for part in before.split(" ")[3:5])
        names = next((n for n in own if n and n <= set(options.split(","))), frozenset())
        if kind == "cgroup" and controller not in names:
            continue
        group = own.get(names if kind == "cgroup" else frozenset(), "/")
        inside = "" if group == top or not _lies_in(group, top) else group[len(top.rstrip("/")) :]
        folder = Path(mount, inside.lstrip("/"))
        yield folder
        while folder != Path(mount):
            folder = folder.parent
            yield folder


def _lies_in(group: str, top: str) -> bool:
    """Tell whether a group is below another; one that is not seen from here counts as the top."""
    return ".." not in group.split("/") and group.startswith(top.rstrip("/") + "/")


def _of_slurm(*names: str) -> list[int]:
    """Return what the first of some variables of a SLURM job says, if any does; 0 is no limit."""
    if "SLURM_JOB_ID" not in os.environ:
        return []
    said = [os.environ.get(name, "") for name in names]
    return [int(text) for text in said if text.isdigit() and int(text)][:1]


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
