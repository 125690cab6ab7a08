"""The compose file, on a real engine: a deployment from nothing to a stimulus package."""

import json
import os
import shutil
import subprocess
import time
import uuid
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT = "inceptiontest" + uuid.uuid4().hex[:6]

pytestmark = [
    pytest.mark.containers,
    pytest.mark.timeout(3000),
    pytest.mark.skipif(shutil.which("docker") is None, reason="no container engine"),
]


def compose(*arguments, check=True):
    command = ["docker", "compose", "-p", PROJECT, "--profile", "demo", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ})
    assert not check or done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def exit_codes(service):
    lines = compose("ps", "-a", "--format", "json", service).splitlines()
    return [json.loads(line)["ExitCode"] for line in lines]


@pytest.fixture(scope="module")
def deployment():
    compose("build", "declare")
    yield
    compose("down", "-v", "--remove-orphans", check=False)


def test_workers_carry_a_small_loop_to_its_package(deployment):
    compose("up", "-d", "--no-build", "--scale", "worker=4")
    assert exit_codes("declare") == [0]  # once, before any worker
    deadline = time.monotonic() + 2400
    while "exited" not in compose("ps", "-a", "--format", "{{.State}}", "first-loop"):
        assert time.monotonic() < deadline, compose("logs", "--tail", "40", "first-loop", "worker")
        time.sleep(5)
    assert exit_codes("first-loop") == [0], compose("logs", "--tail", "40", "first-loop")
    shown = compose("exec", "-T", "worker", "inception", "status", "--json")
    state = json.loads(shown.splitlines()[-1])
    assert state["jobs_error"] == 0
    assert len(state["workers"]) == 4
    listing = compose("exec", "-T", "worker", "ls", "/data/first-loop/package")
    assert {"manifest.json", "trials.csv", "images.csv", "units.csv"} <= set(listing.split())


def test_stopped_workers_exit_with_zero_and_are_not_root(deployment):
    user = compose("exec", "-T", "worker", "id", "-u").strip()
    assert user == "10001"
    compose("stop", "worker")
    assert set(exit_codes("worker")) == {0}
