"""Streams of a bundle are checked where it comes in: other clocks, units, parts of the scan."""

import json

import cv2
import numpy as np
import pytest
import tifffile
from scanimage_files import levels, write_scan
from tiff_files import software

from pipeline.errors import DataError
from pipeline.recording.bundle import read_bundle

HEADS = {
    "pupil.csv": "time_s,center_x_px,center_y_px,radius_px",
    "treadmill.csv": "time_s,counts",
}
CHANGES = {
    "milliseconds": lambda t: t * 1000,
    "microseconds": lambda t: t * 1e6,
    "seconds since 1970": lambda t: t + 1.76e9,
    "a minute late": lambda t: t + 70,
    "minutes": lambda t: t / 60,
}


def table(folder, file, time_s):
    """Write a stream of behavior with samples at given times."""
    columns = [time_s, np.arange(len(time_s)) % 50]
    if file == "pupil.csv":
        columns = [time_s, *(10.0 + np.sin(np.arange(len(time_s)) + k) for k in range(3))]
    np.savetxt(
        folder / file,
        np.stack(columns, axis=1),
        delimiter=",",
        comments="",
        header=HEADS[file],
        fmt=["%.5f", *["%d" if file == "treadmill.csv" else "%.4f"] * (len(columns) - 1)],
    )


def write_video(path, count):
    frames = np.random.default_rng(0).integers(0, 255, (count, 24, 32), dtype=np.uint8)
    if path.suffix == ".tif":
        tifffile.imwrite(path, frames, photometric="minisblack")
        return
    code = {".avi": "MJPG"}.get(path.suffix.lower(), "mp4v")
    video = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*code), 10.0, (32, 24), False)
    for frame in frames:
        video.write(frame)
    video.release()


def names(bundle):
    return [finding.name for finding in bundle.findings]


@pytest.fixture
def folder(write_bundle):
    folder = write_bundle(eye=False, running=False)
    said = json.loads((folder / "recording.json").read_text())
    said["treadmill"] = {"diameter_cm": 10.0, "counts_per_rev": 1000}
    (folder / "recording.json").write_text(json.dumps(said))
    return folder


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("file", HEADS)
def test_a_stream_on_another_clock_or_in_another_unit_is_refused(folder, file, change):
    table(folder, file, CHANGES[change](np.arange(0, 60, 0.05)))
    with pytest.raises(DataError, match="does not cover the recording") as caught:
        read_bundle(folder)
    assert file in str(caught.value)
    if change in ("milliseconds", "microseconds"):
        assert f"look like {change}" in str(caught.value)


@pytest.mark.parametrize("file", HEADS)
def test_a_stream_that_covers_a_part_is_said(folder, file):
    table(folder, file, np.arange(0, 60, 0.05))
    assert names(read_bundle(folder)) == []
    table(folder, file, np.arange(20, 60, 0.05))
    assert names(read_bundle(folder)) == ["behavior-partial"]
    table(folder, file, np.arange(-3600, 3600, 0.05))  # of the whole session
    assert names(read_bundle(folder)) == []
    table(folder, file, np.arange(56, 90, 0.05))
    with pytest.raises(DataError, match="does not cover"):
        read_bundle(folder)


def test_a_wheel_that_is_written_only_while_it_moves_is_no_fault(folder):
    time = np.concatenate([np.arange(1, 3, 0.01), np.arange(58, 59.5, 0.01)])
    table(folder, "treadmill.csv", time)
    assert names(read_bundle(folder)) == []


def test_a_stream_with_pairs_of_clocks_is_on_its_own_clock(folder):
    table(folder, "pupil.csv", 5000 + np.arange(0, 60, 0.05))
    own = 5000 + np.arange(0, 60, 5.0)
    rows = [f"eye,{t:.4f},{t - 5000:.4f}" for t in own]
    head = "stream,stream_time_s,rig_time_s\n"
    (folder / "clocks.csv").write_text(head + "\n".join(rows) + "\n")
    bundle = read_bundle(folder)
    assert names(bundle) == []
    assert "clock of eye: 12 pairs, 0 of them outliers" in bundle.clock_report[0]
    rows[4] = f"eye,{own[4]:.4f},{own[4] - 4999:.4f}"
    (folder / "clocks.csv").write_text(head + "\n".join(rows) + "\n")
    assert names(read_bundle(folder)) == ["clock-outliers"]
    restarted = [*rows[:6], *(f"eye,{t - 5030:.4f},{t - 5000:.4f}" for t in own[6:])]
    (folder / "clocks.csv").write_text(head + "\n".join(restarted) + "\n")
    with pytest.raises(DataError, match=r"clocks\.csv: clock of eye.*time does not increase"):
        read_bundle(folder)
    stepped = [f"eye,{t:.4f},{t - 5000 + (t > 5030):.4f}" for t in own]
    (folder / "clocks.csv").write_text(head + "\n".join(stepped) + "\n")
    with pytest.raises(DataError, match=r"clocks\.csv: clock of eye.*clock steps; found \+1 s"):
        read_bundle(folder)


@pytest.mark.parametrize("name", ["eye.mp4", "Eye.AVI", "eye.mov", "eye.tif"])
def test_an_eye_video_of_any_ending_is_taken(folder, name):
    write_video(folder / name, 600)
    with pytest.raises(DataError, match=r"eye_times\.csv: eye_times: file is missing"):
        read_bundle(folder)
    lines = "".join(f"{k},{k / 10}\n" for k in range(600))
    (folder / "eye_times.csv").write_text("frame,time_s\n" + lines)
    bundle = read_bundle(folder)
    assert [path.name for path in bundle.files["eye_video"]] == [name]
    assert (bundle.video.frames, bundle.video.height_px, bundle.video.width_px) == (600, 24, 32)
    assert names(bundle) == []


def test_a_video_that_no_worker_could_pair_or_open_is_refused(folder):
    """Frames are counted by reading to the end only where the header and the times differ."""
    write_video(folder / "eye.avi", 600)
    for count, told in ((599, ["eye-times-uneven"]), (500, None)):
        lines = "".join(f"{k},{60 * k / count}\n" for k in range(count))
        (folder / "eye_times.csv").write_text("frame,time_s\n" + lines)
        if told:
            assert names(read_bundle(folder)) == told
            continue
        with pytest.raises(DataError, match=r"eye_times\.csv: frame times do not fit .*500 times"):
            read_bundle(folder)
    whole = (folder / "eye.avi").read_bytes()
    (folder / "eye.avi").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"eye\.avi: video ends early"):
        read_bundle(folder)
    (folder / "eye.avi").write_bytes(b"video")
    with pytest.raises(DataError, match=r"eye\.avi: cannot be read as a video"):
        read_bundle(folder)


def test_files_that_nobody_reads_are_named(folder):
    for name in ("treadmill.tsv", "Pupil.csv", "wheel.txt", "notes.txt"):
        (folder / name).write_text("x")
    found = read_bundle(folder).findings
    assert [finding.name for finding in found] == ["file-not-read"] * 3
    assert "treadmill.tsv" in " ".join(finding.text for finding in found)


def test_a_pupil_that_was_never_seen_is_refused(folder):
    time = np.arange(0, 60, 0.05)
    lines = "".join(f"{t:.3f},nan,nan,nan\n" for t in time)
    (folder / "pupil.csv").write_text(HEADS["pupil.csv"] + "\n" + lines)
    with pytest.raises(DataError, match=r"pupil\.csv: radius_px: has no radius in any sample"):
        read_bundle(folder)


def test_a_scan_with_dropped_frames_is_taken_and_said(write_bundle):
    folder = write_bundle(tiff=True)
    file = json.loads((folder / "recording.json").read_text())["imaging"]["files"][0]
    times = np.loadtxt(folder / "frame_times.csv", delimiter=",", skiprows=1)[:, 1]
    kept = [k for k in range(len(times)) if k not in (100, 101)]
    period = float(np.median(np.diff(times)))
    header = software(
        hRoiManager__scanFrameRate=f"{1 / period}", hRoiManager__scanVolumeRate=f"{1 / period}"
    )
    write_scan(
        folder / file,
        levels(*range(len(kept))),
        header,
        numbers=[k + 1 for k in kept],
        period=period,
    )
    bundle = read_bundle(folder)
    assert names(bundle)[:2] == ["frames-missing", "frame-times-left-over"]
    assert "2 are of frames that are missing" in bundle.findings[1].text
    np.testing.assert_array_equal(bundle.timed.time_s, times[kept])  # none is early


def test_times_that_are_a_counter_are_told_as_such(folder):
    """Of a camera, and of a controller whose microseconds wrapped."""
    write_video(folder / "eye.avi", 600)
    ticks = np.arange(600) * 800
    counter = ((120 + ticks // 8000) % 128 << 25) | (ticks % 8000 << 12)
    lines = "".join(f"{k},{value}\n" for k, value in enumerate(counter))
    (folder / "eye_times.csv").write_text("frame,time_s\n" + lines)
    with pytest.raises(DataError, match=r"eye_times\.csv: time_s: .*32-bit counter of a camera"):
        read_bundle(folder)
    (folder / "eye.avi").unlink()
    micros = (np.arange(0, 60, 0.02) * 1e6 + 2**32 - 3e7) % 2**32
    table(folder, "treadmill.csv", micros / 1e6)
    with pytest.raises(DataError, match=r"treadmill\.csv.*microseconds of 32 bits that wrapped"):
        read_bundle(folder)


def test_rows_of_a_wheel_that_share_a_time_are_counted(folder):
    time = np.round(np.repeat(np.arange(0, 60, 0.02), 2), 2)
    table(folder, "treadmill.csv", time)
    (found,) = read_bundle(folder).findings
    assert (found.name, "3000 of 6000 rows" in found.text) == ("rows-joined", True)
