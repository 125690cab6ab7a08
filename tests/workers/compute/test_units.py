"""Small parts of the workers that need no database."""

import datetime
import errno
import os
import signal
import subprocess
import sys

import numpy as np
import psycopg2
import pymysql
import pytest

from pipeline.errors import DataError, MachineError
from workers.commands import computing
from workers.compute import gpu, limits, slot
from workers.compute.faults.classes import classify
from workers.compute.faults.pauses import Pauses
from workers.compute.make import NoRowError
from workers.database import server
from workers.queue import claims


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (DataError("bad"), "data"),
        (ValueError("bad"), "data"),
        (FileNotFoundError("scan.tif"), "data"),
        (OSError(errno.ENOSPC, "disk full"), "machine"),
        (OSError(errno.EDQUOT, "quota"), "machine"),
        (OSError(errno.EROFS, "read-only"), "machine"),
        (OSError(errno.ESTALE, "stale file handle"), "machine"),
        (OSError(errno.EIO, "input/output"), "transient"),
        (MachineError("not mounted"), "machine"),
        (ModuleNotFoundError("No module named 'cv2'"), "machine"),
        (ImportError("libGL.so.1: cannot open shared object file"), "machine"),
        (RuntimeError("Found no NVIDIA driver on your system."), "machine"),
        (RuntimeError("CUDA error: no kernel image is available for execution"), "machine"),
        (RuntimeError("shapes do not fit"), "error"),
        (FileNotFoundError(2, "No usable temporary directory found in ['/x']"), "machine"),
        (pymysql.err.OperationalError(1290, "running with the --read-only option"), "machine"),
        (pymysql.err.OperationalError(1290, "the --secure-file-priv option"), "error"),
        (pymysql.err.OperationalError(1792, "in a READ ONLY transaction"), "machine"),
        (pymysql.err.OperationalError(1836, "Running in read-only mode"), "machine"),
        (pymysql.err.OperationalError(1114, "The table is full"), "machine"),
        (psycopg2.OperationalError("server closed the connection"), "transient"),
        (psycopg2.InterfaceError("connection already closed"), "transient"),
        (pymysql.err.OperationalError(2013, "lost"), "transient"),
        (pymysql.err.OperationalError(1213, "deadlock"), "transient"),
        (pymysql.err.OperationalError(1054, "unknown column"), "error"),
        (MemoryError(), "memory"),
        (NoRowError("no row"), "error"),
        (RuntimeError("bug"), "error"),
    ],
)
def test_what_is_tried_again_and_what_is_not(error, kind):
    assert classify(error) == kind


def test_a_deadlock_is_no_lost_connection():
    deadlock = pymysql.err.OperationalError(1213, "deadlock")
    assert server.is_contention(deadlock)
    assert not server.is_connection_error(deadlock)


def test_canonical_keys_do_not_depend_on_order_or_integer_type():
    first = claims.canonical({"b": np.int64(2), "a": datetime.date(2026, 1, 2)})
    assert first == claims.canonical({"a": datetime.date(2026, 1, 2), "b": 2})
    assert first == '{"a":"2026-01-02","b":2}'
    assert claims.job_id("x.Y", first) != claims.job_id("x.Z", first)


SUMS = """
import numpy as np
import torch
rng = np.random.default_rng(0)
a, b = rng.normal(size=(2, 5003, 42))
images = torch.from_numpy(rng.normal(size=(16, 4, 36, 64)).astype(np.float32))
weights = torch.nn.Parameter(torch.ones(8, 4, 5, 5))
torch.nn.functional.conv2d(images, weights).square().sum().backward()
print((a.T @ b).tobytes().hex(), weights.grad.numpy().tobytes().hex())
"""


def test_sums_do_not_hang_on_the_threads_that_a_job_is_given(monkeypatch):
    """Two threads of OpenBLAS, or of torch, add these in another order than one."""
    for name in limits.ONE_ORDER:
        monkeypatch.delenv(name, raising=False)
    sums = {
        subprocess.run(
            [sys.executable, "-c", SUMS],
            env={**os.environ, **limits.thread_environment(threads)},
            capture_output=True,
            check=True,
        ).stdout
        for threads in (1, 2)
    }
    assert len(sums) == 1


ARRAYS = """
import resource
import numpy as np
def touch():
    for _ in range(4):
        np.ones((16, 1024, 1024), np.float32)
touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
touch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's settings")
def test_freed_arrays_are_used_again(monkeypatch):
    for name in limits.memory_environment():
        monkeypatch.delenv(name, raising=False)
    told = {**os.environ, **limits.memory_environment(), "NUMPY_MADVISE_HUGEPAGE": "0"}
    faults = subprocess.run(
        [sys.executable, "-c", ARRAYS], env=told, capture_output=True, check=True, text=True
    ).stdout
    assert int(faults) < 200  # of 65,536 pages


def test_a_persons_own_settings_of_memory_win(monkeypatch):
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "12345")
    assert limits.memory_environment()["MALLOC_TRIM_THRESHOLD_"] == "12345"


def test_a_full_disk_behind_a_readers_words_is_the_machines():
    said = DataError("cannot be read", file="scan.tif")
    said.__cause__ = OSError(errno.ESTALE, "stale file handle")
    assert classify(said) == "machine"
    said.__cause__ = OSError(errno.EINVAL, "invalid")
    assert classify(said) == "data"


def test_a_processor_without_an_instruction_is_no_fault_of_the_job():
    dead = slot.Slot.__new__(slot.Slot)
    dead.cause, dead.tail = None, lambda: "here"
    dead.process = subprocess.Popen(["sh", "-c", f"kill -{int(signal.SIGILL)} $$"])
    dead.process.wait()
    kind, said, stack = dead._post_mortem()
    assert (kind, stack) == ("machine", "here")
    assert "lacks an instruction" in said


def groups(tmp_path, monkeypatch, cgroup, mounts):
    """Have this process be in cgroups of a made-up machine; return the folder of its mounts."""
    for name in ("SLURM_JOB_ID", "SLURM_CPUS_PER_TASK", "SLURM_MEM_PER_NODE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "cgroup").write_text(cgroup)
    lines = [
        f"3{i} 25 0:2{i} {top} {tmp_path / mount} rw,nosuid shared:9 - {kind} cgroup rw,{options}"
        for i, (top, mount, kind, options) in enumerate(mounts)
    ]
    (tmp_path / "mountinfo").write_text("\n".join(lines) + "\n")
    monkeypatch.setattr(limits, "_PROC", tmp_path)

    def limit(file, text):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(text + "\n")

    return limit


V2 = [("/", "fs", "cgroup2", "nsdelegate")]


@pytest.mark.parametrize(
    ("cgroup", "folder"),
    [
        ("0::/", "fs"),  # a container's own
        ("0::/system.slice/inception.service", "fs/system.slice/inception.service"),
        ("0::/system.slice/slurmstepd.scope/job_7/step_0/task_0", "fs/system.slice"),
        ("0::/../../host", "fs"),  # a group that is not seen from here
    ],
)
def test_limits_are_those_of_ones_own_group_and_of_all_above(tmp_path, monkeypatch, cgroup, folder):
    limit = groups(tmp_path, monkeypatch, cgroup, V2)
    limit("fs/other/memory.max", "1")
    assert limits.usable_memory() > 2**30
    limit(f"{folder}/memory.max", str(2**30))
    limit(f"{folder}/cpu.max", "150000 100000")
    assert (limits.usable_cores(), limits.usable_memory()) == (1, 2**30)
    limit(f"{folder}/memory.max", "max")
    limit(f"{folder}/cpu.max", "max 100000")
    assert limits.usable_memory() > 2**30
    assert limits.usable_cores() >= 1


def test_limits_of_version_1_are_found_where_each_controller_is_mounted(tmp_path, monkeypatch):
    own = "11:memory:/slurm/uid_0/job_7/step_0\n4:cpu,cpuacct:/docker/abc\n0::/init.scope\n"
    mounts = [
        ("/", "fs/memory", "cgroup", "memory"),
        ("/docker/abc", "fs/cpu,cpuacct", "cgroup", "cpu,cpuacct"),  # as a container sees it
        ("/", "fs/unified", "cgroup2", "nsdelegate"),
    ]
    limit = groups(tmp_path, monkeypatch, own, mounts)
    limit("fs/memory/slurm/uid_0/job_7/memory.limit_in_bytes", str(2**30))
    limit("fs/memory/slurm/uid_0/job_7/step_0/memory.limit_in_bytes", str(2**63 - 4096))
    limit("fs/cpu,cpuacct/cpu.cfs_quota_us", "150000")
    limit("fs/cpu,cpuacct/cpu.cfs_period_us", "100000")
    assert (limits.usable_cores(), limits.usable_memory()) == (1, 2**30)


def test_a_slurm_job_keeps_to_what_it_asked_for(tmp_path, monkeypatch):
    groups(tmp_path, monkeypatch, "0::/", V2)
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "1024")
    assert limits.usable_memory() > 2**30  # left over from a shell that is no job
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "1")
    assert (limits.usable_cores(), limits.usable_memory()) == (1, 2**30)
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "0")  # all of it
    monkeypatch.setenv("SLURM_MEM_PER_CPU", "1024")
    assert limits.usable_memory() == 2**30


def test_a_machine_that_fails_one_job_after_another_takes_none_until_one_succeeds():
    now = [100.0]
    pauses = Pauses(lambda: now[0])
    pauses.failed("A", "1", "not mounted")
    assert (pauses.allows("A"), pauses.avoided(), pauses.reason) == (True, ["1"], "not mounted")
    now[0] += 1.5
    assert pauses.avoided() == []
    for job in "11":
        pauses.failed("A", job, "not mounted")
    assert pauses.allows("A")  # one job says little of a machine
    for job in "23":
        pauses.failed("A", job, "not mounted")
    assert not pauses.allows("A")
    assert pauses.allows("B")
    assert not pauses.hopeless
    pauses.succeeded("B")  # says nothing of A
    assert not pauses.allows("A")
    now[0] += 2.0**2 + 0.1
    assert pauses.allows("A")  # tries again
    for table, job in ("A4", "B1", "B2"):
        pauses.failed(table, job, "not mounted")
    assert not pauses.allows("C")  # several tables: nothing works here
    for _ in range(50):
        pauses.failed("A", "5", "not mounted")
    assert pauses.hopeless
    now[0] += 61.0
    assert pauses.allows("A")  # a minute at most
    pauses.failed("A", "5", "not mounted")
    pauses.succeeded("A")
    assert (pauses.allows("A"), pauses.hopeless, pauses.reason) == (True, False, None)


def test_a_gpu_has_one_holder_and_is_free_when_the_holder_dies(tmp_path):
    ours, also_ours = gpu.Gpu("GPU-1/2", tmp_path), gpu.Gpu("GPU-1/2", tmp_path)
    assert ours.acquire()
    assert ours.acquire()
    assert not also_ours.acquire()
    assert gpu.Gpu("0", tmp_path).acquire()
    ours.release()
    assert also_ours.acquire()
    also_ours.release()
    code = (
        "import os, sys; from pathlib import Path; from workers.compute.gpu import Gpu;"
        "assert Gpu('0', Path(sys.argv[1])).acquire(); os.kill(os.getpid(), 9)"
    )
    other = tmp_path / "other"
    other.mkdir()
    subprocess.run([sys.executable, "-c", code, str(other)], check=False)
    assert gpu.Gpu("0", other).acquire()


def test_a_lock_that_another_account_made_can_be_held_and_one_that_cannot_leaves_the_cpu(
    tmp_path, monkeypatch, caplog
):
    (tmp_path / "inception-gpu-0.lock").mkdir()  # cannot be written, as another account's file
    ours, also_ours = gpu.Gpu("0", tmp_path), gpu.Gpu("0", tmp_path)
    assert ours.acquire()
    assert not also_ours.acquire()
    ours.release()
    assert also_ours.acquire()
    nowhere = gpu.Gpu("1", tmp_path / "missing")
    assert not nowhere.acquire()
    assert not nowhere.acquire()
    assert caplog.text.count("GPU 1 is not used: No such file or directory") == 1


def test_gpus_are_those_that_cuda_may_use(monkeypatch, tmp_path):
    monkeypatch.setattr(gpu, "_DEVICES", tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert gpu.names() == []
    for name in ("nvidia0", "nvidia10", "nvidia2", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    assert gpu.names() == ["0", "2", "10"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,GPU-abc")
    assert gpu.names() == ["1", "GPU-abc"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert gpu.names() == []


def test_sigterm_before_a_worker_listens_ends_it_at_once_with_success():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as stopped, computing._leaving_at_once():
        signal.raise_signal(signal.SIGTERM)
    assert stopped.value.code == 0
    assert signal.getsignal(signal.SIGTERM) is before
