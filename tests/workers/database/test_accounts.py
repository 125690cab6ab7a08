"""The accounts of a MySQL server that deployment.md prescribes: one computes, one looks."""

import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.tables
RIGHTS = {"worker": "SELECT, INSERT, UPDATE, DELETE", "reader": "SELECT, SHOW VIEW"}


@pytest.fixture
def account(bench):
    """Make an account with some rights on the bench's schemas; it is dropped at the end."""
    if bench.connection.adapter.backend != "mysql":
        pytest.skip("the embedded database has one account")
    made = []

    def make(rights):
        name = f"{bench.prefix}_{len(made)}"
        bench.connection.query(f"CREATE USER '{name}'@'%%' IDENTIFIED BY 'secret'")
        made.append(name)
        schemas = bench.prefix.replace("_", r"\_") + r"\_%%"
        bench.connection.query(f"GRANT {rights} ON `{schemas}`.* TO '{name}'@'%%'")
        return {**os.environ, "DJ_USER": name, "DJ_PASS": "secret"}

    yield make
    for name in made:
        bench.connection.query(f"DROP USER '{name}'@'%%'")


def run(bench, environment, *arguments):
    command = [sys.executable, "-m", "workers.cli", *arguments]
    command += ["--prefix", bench.prefix, "--home", str(bench.home)]
    environment = {**environment, "PYTHONPATH": bench.environment["PYTHONPATH"]}
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_doctor_passes_for_a_worker_and_for_a_reader(bench, account):
    for role, rights in RIGHTS.items():
        done = run(bench, account(rights), "doctor", "--schemas", "toy_tables", "--json")
        checks = {check["check"]: check for check in json.loads(done.stdout)}
        assert checks["grants"]["ok"], checks["grants"]
        assert checks["grants"]["found"].startswith(
            "reads and writes" if role == "worker" else "reads, "
        )
        assert checks["tables"]["ok"]


def test_a_reader_sees_status_and_errors_and_changes_nothing(bench, account):
    bench.seeds(2)
    environment = account(RIGHTS["reader"])
    for verb in ("status", "errors", "forecast"):
        done = run(bench, environment, verb, "--schemas", "toy_tables", "--json")
        assert done.returncode == 0, done.stderr
    done = run(bench, environment, "retry", "--schemas", "toy_tables")
    assert done.returncode == 1
    assert "denied" in done.stderr
