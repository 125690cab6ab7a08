"""Small parts of the workers that need no database."""

import datetime
import errno

import numpy as np
import psycopg2
import pymysql
import pytest

from pipeline.errors import DataError
from workers import database, lease, limits
from workers.make import NoRowError, classify


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
    assert database.is_contention(deadlock)
    assert not database.is_connection_error(deadlock)


def test_canonical_keys_do_not_depend_on_order_or_integer_type():
    first = lease.canonical({"b": np.int64(2), "a": datetime.date(2026, 1, 2)})
    assert first == lease.canonical({"a": datetime.date(2026, 1, 2), "b": 2})
    assert first == '{"a":"2026-01-02","b":2}'
    assert lease.job_id("x.Y", first) != lease.job_id("x.Z", first)


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
