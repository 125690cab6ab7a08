"""The SLURM template under a scheduler of our own: real processes, real signals."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

TEMPLATE = Path(__file__).resolve().parents[2] / "deploy" / "slurm" / "worker.sbatch"


@pytest.fixture
def cluster(tmp_path):
    """A folder of commands that a job finds: a worker that notes its signals, and `scontrol`."""
    commands = {
        "inception": (
            'echo "$@" > "$NOTES/started"\n'
            'trap \'echo term >> "$NOTES/signals"; sleep 0.5; echo done >> "$NOTES/signals"; '
            "exit 0' TERM\n"
            'if [ -n "${ENDS:-}" ]; then exit "$ENDS"; fi\n'
            "while true; do sleep 0.05; done\n"
        ),
        "scontrol": 'echo "$@" > "$NOTES/requeued"\n',
    }
    for name, text in commands.items():
        path = tmp_path / name
        path.write_text("#!/bin/bash\n" + text)
        path.chmod(0o755)

    def submit(*arguments, **environment):
        return subprocess.Popen(
            ["bash", str(TEMPLATE), *arguments],
            env={
                **os.environ,
                "PATH": f"{tmp_path}:{os.environ['PATH']}",
                "NOTES": str(tmp_path),
                "DJ_HOST": "db",
                "SLURM_JOB_ID": "17",
                "SLURM_ARRAY_JOB_ID": "17",
                "SLURM_ARRAY_TASK_ID": "3",
                **environment,
            },
        )

    return tmp_path, submit


def wait_for(path):
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline, path
        time.sleep(0.02)
    return path.read_text()


def test_term_before_the_limit_reaches_the_worker_and_the_task_comes_back(cluster):
    notes, submit = cluster
    job = submit("--queue", "gpu")
    assert wait_for(notes / "started").split() == ["worker", "--grace", "240", "--queue", "gpu"]
    time.sleep(0.2)
    job.send_signal(signal.SIGTERM)  # what --signal=B:TERM@300 does
    assert job.wait(20) == 0
    assert (notes / "signals").read_text().split() == ["term", "done"]  # it was waited for
    assert (notes / "requeued").read_text().split() == ["requeue", "17_3"]


@pytest.mark.parametrize("code", ["0", "1"])
def test_a_worker_that_ends_by_itself_is_not_started_again(cluster, code):
    notes, submit = cluster
    assert submit(ENDS=code).wait(20) == int(code)
    assert not (notes / "requeued").exists()


def test_a_job_without_a_database_says_so(cluster):
    _, submit = cluster
    assert submit(DJ_HOST="").wait(20) != 0


def test_the_grace_fits_into_the_warning():
    text = TEMPLATE.read_text()
    warning = int(text.split("#SBATCH --signal=B:TERM@")[1].split()[0])
    grace = int(text.split("--grace ")[1].split()[0])
    assert grace < warning
    assert "#SBATCH --requeue" in text
