"""A recording that is not finished yet, looked at on the rig."""

import shutil
import threading
import time

import numpy as np
import pytest
from bundles import write_recording

from pipeline.errors import DataError
from pipeline.recording.__main__ import main
from pipeline.recording.progress import check_folder


@pytest.fixture
def folder(tmp_path):
    return write_recording(tmp_path / "scan", 7, tiff=True, n_images=40)


def states(progress):
    return {row.stream: row.state for row in progress.rows}


def test_a_whole_recording_is_ready(folder):
    found = check_folder(folder, wait_s=0)
    assert found.ready
    assert set(states(found).values()) == {"there", "absent"}
    assert found.lines()[-1] == "ready for ingest"
    assert max(len(line) for line in found.lines()) <= 80


@pytest.mark.parametrize(
    ("file", "stream"),
    [
        ("frame_times.csv", "movie"),
        ("scan.tif", "movie"),
        ("trials.csv", "trials"),
        ("monitor.csv", "monitor"),
    ],
)
def test_a_stream_that_is_missing_leaves_the_others_read(folder, file, stream):
    (folder / file).unlink()
    found = check_folder(folder, wait_s=0)
    assert states(found)[stream] == "missing"
    assert [s for s in states(found).values() if s not in ("there", "absent")] == ["missing"]
    assert found.lines()[-1] == "not ready: 1 missing"


def test_what_ingest_would_refuse_is_refused_here_whatever_else_is_wrong(folder):
    (folder / "monitor.csv").write_text("pixel_value,luminance_cd_m2\n0,1\n0.5,10\n1,30\n")
    time_s = np.arange(0, 60, 0.05) * 1000
    lines = "".join(f"{t:.0f},80,60,15\n" for t in time_s)
    (folder / "pupil.csv").write_text("time_s,center_x_px,center_y_px,radius_px\n" + lines)
    (folder / "clocks.csv").write_text("stream,stream_time_s,rig_time_s\neye,1,1\neye,0,2\n")
    found = check_folder(folder, wait_s=0)
    refused = [stream for stream, state in states(found).items() if state == "refused"]
    assert refused == ["monitor", "clocks", "eye"]
    texts = {row.stream: row.text for row in found.rows}
    assert texts["monitor"].startswith("monitor.csv: ")
    assert "they look like milliseconds" in texts["eye"]


def test_a_file_that_grows_is_growing_and_refused_only_so_far(folder):
    """Half of the movie is written, and frame times go on meanwhile."""
    lines = (folder / "frame_times.csv").read_text().splitlines()
    (folder / "frame_times.csv").write_text("\n".join(lines[:301]) + "\n")

    def write():
        time.sleep(0.1)
        with (folder / "frame_times.csv").open("a") as file:
            file.write("\n".join(lines[301:351]) + "\n")

    thread = threading.Thread(target=write)
    thread.start()
    found = check_folder(folder, wait_s=0.5)
    thread.join()
    assert states(found)["movie"] == "growing"
    text = next(row.text for row in found.rows if row.stream == "movie")
    assert "frame_times.csv +" in text
    assert "so far: frame_times.csv: frame times do not fit" in text
    assert not found.ready


def test_without_recording_json_the_files_are_named(folder, capsys):
    (folder / "recording.json").unlink()
    found = check_folder(folder, wait_s=0)
    assert states(found)["recording"] == "missing"
    assert states(found)["scan.tif"] == "waiting"
    assert main([str(folder), "--check", "--wait", "0"]) == 1
    assert "missing  recording" in capsys.readouterr().out


def test_a_video_without_its_times_is_missing_them(folder):
    (folder / "pupil.csv").unlink()
    shutil.copy(folder / "scan.tif", folder / "eye.tif")
    found = check_folder(folder, wait_s=0)
    assert {row.stream: (row.state, row.text) for row in found.rows}["eye"] == (
        "missing",
        "eye_times.csv",
    )


def test_no_folder_is_one_line(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        check_folder(tmp_path / "none")
