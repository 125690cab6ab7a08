"""`inception ingest`, its dry run, and `check`: what they print, and what they leave alone."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from bundles import write_recording
from typer.testing import CliRunner

from pipeline.recording.bundle import read_bundle
from pipeline.recording.summary import summarize
from workers.cli import app


@pytest.fixture
def folder(tmp_path):
    return write_recording(tmp_path / "scan", 9090, tiff=True, n_images=40)


def run(*arguments, home):
    environment = {**os.environ, "INCEPTION_HOME": str(home), "COLUMNS": "80"}
    environment.pop("DJ_HOST", None)
    command = [sys.executable, "-m", "workers.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def test_a_dry_run_says_what_ingest_understands_and_changes_nothing(folder, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    done = run("ingest", "--dry-run", folder, home=tmp_path / "none")
    assert (done.returncode, done.stderr) == (0, "")
    *lines, last = done.stdout.splitlines()
    assert lines == summarize(read_bundle(folder)).lines()
    assert last.startswith("dry run: nothing inserted")
    assert max(map(len, [*lines, last])) <= 80
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert [path.name for path in tmp_path.iterdir()] == ["scan"]


def test_a_dry_run_knows_no_database(folder):
    code = (
        "import sys; sys.argv = ['inception', 'ingest', '--dry-run', sys.argv[1]];"
        "from workers import cli\n"
        "try: cli.main()\n"
        "except SystemExit as end: assert not end.code\n"
        "assert 'datajoint' not in sys.modules, 'datajoint was imported'"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True, capture_output=True)


def test_a_recording_that_ingest_refuses_is_refused_by_a_dry_run(folder, tmp_path):
    (folder / "monitor.csv").write_text("pixel_value,luminance_cd_m2\n0,0\n50,40\n100,100\n")
    done = run("ingest", "--dry-run", folder, home=tmp_path / "none")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "monitor.csv" in done.stderr
    assert not (tmp_path / "none").exists()


def test_a_dry_run_of_a_stack_and_of_an_nwb_file_leaves_nothing_beside_them(tmp_path):
    stack = tmp_path / "stack"
    stack.mkdir()
    np.save(stack / "z.npy", np.zeros((12, 16, 20), np.float32))
    said = {"format": "inception-stack/1", "animal_id": 1, "session": 2, "stack_idx": 1}
    said |= {"file": "z.npy", "um_per_voxel": [5, 1, 1]}
    (stack / "stack.json").write_text(json.dumps(said))
    shown = CliRunner().invoke(app, ["ingest", "--dry-run", str(stack)])
    assert shown.exit_code == 0, shown.output
    assert "slices      12 of 16 x 20 px, 1 pages averaged at each" in shown.output
    shown = CliRunner().invoke(app, ["ingest", "--dry-run", "--json", str(stack)])
    assert json.loads(shown.output)["facts"]["voxel"] == "z 5, y 1, x 1 um"
    (tmp_path / "x.nwb").write_bytes(b"no hdf5")
    shown = CliRunner().invoke(app, ["ingest", "--dry-run", str(tmp_path / "x.nwb")])
    assert shown.exit_code == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stack", "x.nwb"]


def test_check_ends_with_one_until_a_recording_is_ready(folder, tmp_path):
    home = tmp_path / "none"
    done = run("check", folder, "--wait", "0", home=home)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "ready for ingest")
    (folder / "trials.csv").rename(tmp_path / "later.csv")
    done = run("check", folder, "--wait", "0", "--json", home=home)
    assert done.returncode == 1
    told = json.loads(done.stdout)
    assert (told["ready"], told["streams"]["trials"]["state"]) == (False, "missing")
    assert not home.exists()


def test_ingest_says_each_warning_once_with_its_remedy(folder, request, ledger, caplog):
    from schemas import experiment

    lines = (folder / "frame_times.csv").read_text().splitlines()
    (folder / "frame_times.csv").write_text("\n".join(lines[:-1]) + "\n")
    _, home, prefix = request.getfixturevalue("_bound")
    shown = CliRunner().invoke(
        app, ["ingest", str(folder), "--home", str(home), "--prefix", prefix]
    )
    assert shown.exit_code == 0, shown.output
    assert shown.output.count("! frame-times-uneven: frame_times.csv: 599 times for 600") == 1
    assert "keep the microscope's own files" in " ".join(shown.output.split())
    assert shown.output.splitlines()[-1] == f"ingested 9090/1/1 from {folder}"
    assert caplog.records == []
    assert len(experiment.Scan & {"animal_id": 9090}) == 1
    again = CliRunner().invoke(
        app, ["ingest", str(folder), "--home", str(home), "--prefix", prefix, "--json"]
    )
    told = json.loads(again.stdout)
    assert (told["animal_id"], told["facts"]["warnings"]) == (9090, "frame-times-uneven")
