"""The whole loop at small size: TIFF to outcome, killed in the middle, and the notebook on it."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from workers.demo.run import QUICK

ROOT = Path(__file__).parents[1]
SEED = 3


def start(folder: Path) -> subprocess.Popen:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("DJ_", "INCEPTION_"))}
    with (folder.parent / "demo.log").open("a") as log:
        return subprocess.Popen(
            [
                sys.executable,
                "-m",
                "workers.cli",
                "demo",
                str(folder),
                "--quick",
                "--seed",
                str(SEED),
            ],
            cwd=ROOT,
            stdout=log,
            stderr=log,
            env=environment,
            start_new_session=True,
        )


def await_file(path: Path, process: subprocess.Popen, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not path.exists():
        assert process.poll() is None, (path.parents[1] / "demo.log").read_text()[-3000:]
        assert time.monotonic() < deadline, f"no {path} after {timeout_s} s"
        time.sleep(0.2)


def workers_of(home: Path) -> list[psutil.Process]:
    """Return every process of a home's workers."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        command = " ".join(process.info["cmdline"] or [])
        if "workers.cli worker" in command or "workers.compute.child" in command:
            try:
                if process.environ().get("INCEPTION_HOME") == str(home):
                    found.append(process)
            except psutil.NoSuchProcess:
                continue
    return found


def kill_workers(home: Path) -> int:
    """Kill every worker of a home with -9; return how many processes that were."""
    found = workers_of(home)
    for process in found:
        with contextlib.suppress(psutil.NoSuchProcess):  # a child dies with its parent
            process.kill()
    return len(found)


def interrupt(folder: Path) -> None:
    """Start the demo, and press Ctrl-C when its worker runs; write down what happened."""
    log = folder.parent / "demo.log"
    before = len(log.read_text())
    process = start(folder)
    deadline = time.monotonic() + 240
    while not workers_of(folder / "home"):
        assert process.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < deadline, "no worker after 240 s"
        time.sleep(0.2)
    pressed = time.monotonic()
    os.kill(process.pid, signal.SIGINT)
    while "stopping" not in log.read_text()[before:] and process.poll() is None:
        time.sleep(0.02)
    answered = time.monotonic() - pressed
    process.wait(timeout=60)
    found = {
        "answered_s": answered,
        "ended_s": time.monotonic() - pressed,
        "code": process.returncode,
        "said": log.read_text()[before:],
        "workers": len(workers_of(folder / "home")),
        "server_runs": server_runs(folder / "home"),
    }
    (folder.parent / "interrupted.json").write_text(json.dumps(found))


def server_runs(home: Path) -> bool:
    from workers.database import embedded

    return embedded.status(home)["running"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A loop that was stopped by Ctrl-C; its demo, worker and database were all killed with -9."""
    folder = tmp_path_factory.mktemp("loop") / "demo"
    first = start(folder)
    await_file(folder / "worker.log", first, 240)
    time.sleep(12)  # somewhere between ScanInfo and TrainedModel
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    assert kill_workers(folder / "home") > 0
    server = json.loads((folder / "home" / "server.json").read_text())
    os.kill(server["pid"], signal.SIGKILL)
    moved = folder.parent / "truth1"
    shutil.move(folder / "day1" / "truth", moved)  # no result may need it
    shutil.copytree(moved, folder / "day1" / "truth")
    interrupt(folder)
    last = start(folder)
    code = last.wait(timeout=900)
    log = (folder.parent / "demo.log").read_text()
    assert code == 0, log[-4000:] + (folder / "worker.log").read_text()[-4000:]
    yield folder
    from workers.database import embedded

    embedded.stop(folder / "home")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_killed_loop_goes_on_and_loses_nothing(finished):
    result = json.loads((finished / "report" / "result.json").read_text())
    assert result["jobs_error"] == 0
    assert result["n_targets"] == QUICK.targets
    assert result["motion_rms_px"] < 0.3
    assert result["cell_precision"] > 0.7
    assert result["trace_r"] > 0.7
    assert result["match_precision"] >= 0.8
    assert set(result["mei_wins"]) == {"rf", "gabor", "mni", "fni"}


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_ctrl_c_answers_at_once_says_how_to_go_on_and_leaves_nothing_running(finished):
    found = json.loads((finished.parent / "interrupted.json").read_text())
    assert found["code"] == 130  # as shells call it
    assert found["answered_s"] < 3  # one, on a machine that does nothing else
    assert found["ended_s"] < 30
    assert "the same command goes on" in found["said"]
    assert found["workers"] == 0
    assert not found["server_runs"]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_methods_text_says_what_the_loop_decided_over_its_recipe(finished):
    page = (finished / "report" / "index.html").read_text()
    (selection,) = re.findall(r"Selection of neurons\. [^<]*", page)
    assert f"n_targets {QUICK.targets}" in selection
    (plan,) = re.findall(r"Plan of day 2\. [^<]*", page)
    assert f"minutes {QUICK.minutes:.0f}" in plan


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_report_has_its_figures(finished):
    page = (finished / "report" / "index.html").read_text()
    for name in (
        "field0",
        "truth_traces",
        "oracle",
        "gallery",
        "confusion",
        "comparison",
        "timing",
        "scheme",
        "held_out",
        "all_stimuli",
        "day1_quality0",
        "day1_motion0",
        "day1_behavior",
        "day2_1_quality0",
        "day2_1_motion0",
        "day2_1_behavior",
    ):
        (file,) = [p for p in (finished / "report").glob("*.png") if name in p.name][:1]
        assert file.name in page
        assert file.stat().st_size > 5000


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_readme_gets_table_and_picture_of_one_demo_and_refuses_those_of_two(finished, tmp_path):
    from workers.demo import readme

    environment = {k: v for k, v in os.environ.items() if not k.startswith(("DJ_", "INCEPTION_"))}
    (tmp_path / "docs").mkdir()
    written = f"before\n{readme.BEGIN}\nold\n{readme.END}\nafter\n"
    (tmp_path / "README.md").write_text(written)
    command = [sys.executable, "-m", "workers.demo.readme", str(finished), "--root", str(tmp_path)]
    file = finished / "report" / "result.json"
    kept = file.read_text()
    result = json.loads(kept)
    subprocess.run(command, check=True, cwd=ROOT, env=environment)
    text = (tmp_path / "README.md").read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert readme.table(result) in text
    assert "old" not in text
    assert (tmp_path / readme.PICTURE).stat().st_size > 20000
    result["mei_wins"]["rf"] = 0.123
    file.write_text(json.dumps(result))
    try:
        refused = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    finally:
        file.write_text(kept)
    assert refused.returncode != 0
    assert "of another run than the tables" in refused.stderr
    assert (tmp_path / "README.md").read_text() == text


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_notebook_runs_on_a_loop(finished, monkeypatch):
    import jupytext
    import nbclient

    monkeypatch.setenv("INCEPTION_HOME", str(finished / "home"))
    for name in list(os.environ):
        if name.startswith("DJ_"):
            monkeypatch.delenv(name)
    notebook = jupytext.read(ROOT / "notebooks" / "01_first_loop.py")
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    pictures = [
        output
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]
    assert len(pictures) >= 3
