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

from pipeline.errors import DataError
from workers.commands import computing
from workers.compute import gpu, limits
from workers.compute.make import NoRowError, classify
from workers.database import server
from workers.queue import claims


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (DataError("bad"), "data"),
        (ValueError("bad"), "data"),
        (FileNotFoundError("scan.tif"), "data"),
        (OSError(errno.ENOSPC, "disk full"), "transient"),
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


def test_a_container_quota_limits_cores_and_memory(tmp_path, monkeypatch):
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    (tmp_path / "memory.max").write_text(f"{2**30}\n")
    monkeypatch.setattr(limits, "_CGROUP", tmp_path)
    assert limits.usable_cores() == 1
    assert limits.usable_memory() == 2**30
    (tmp_path / "cpu.max").write_text("max 100000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert limits.usable_cores() >= 1
    assert limits.usable_memory() > 2**30


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
