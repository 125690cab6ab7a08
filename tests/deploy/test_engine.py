"""The container tests on machines that lack a part of what they need."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).with_name("test_containers.py")
NO_PLUGIN = """echo "docker: unknown command: docker compose" >&2; exit 1"""
NO_ENGINE = """[ "$1" = compose ] || { echo "Cannot connect to the daemon" >&2; exit 1; }"""


@pytest.mark.parametrize(
    ("client", "reason"),
    [
        (None, "no docker client on the path"),
        (NO_PLUGIN, "no compose plugin (docker: unknown command: docker compose)"),
        (NO_ENGINE, "no engine answers docker info (Cannot connect to the daemon)"),
    ],
)
def test_without_an_engine_every_container_test_is_skipped_with_its_reason(
    tmp_path, client, reason
):
    if client is not None:
        script = tmp_path / "docker"
        script.write_text(f"#!/bin/sh\n{client}\n", encoding="utf-8")
        script.chmod(0o755)
    elsewhere = [
        folder
        for folder in os.environ["PATH"].split(os.pathsep)
        if client is not None or not (Path(folder) / "docker").exists()
    ]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", str(TESTS), "-m", "containers", "-p", "no:cacheprovider"],
        env={**os.environ, "PATH": os.pathsep.join([str(tmp_path), *elsewhere]), "COLUMNS": "300"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert reason in done.stdout
    summary = done.stdout.strip().splitlines()[-1]
    assert "skipped" in summary
    assert "passed" not in summary, summary
