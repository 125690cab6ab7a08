"""The lines that a person checks before she goes home."""

import json

import numpy as np
import pytest
from bundles import write_recording

from pipeline.errors import REMEDIES, DataError, Finding
from pipeline.recording.__main__ import main
from pipeline.recording.bundle import read_bundle
from pipeline.recording.summary import summarize


@pytest.fixture
def folder(tmp_path):
    return write_recording(tmp_path / "scan", 7, tiff=True, n_images=40)


def rewrite(path, change, fmt="%.6g"):
    """Change the numbers of a csv file; columns as they are."""
    lines = path.read_text().splitlines()
    table = np.array([[float(v) for v in line.split(",")] for line in lines[1:]])
    body = "\n".join(",".join(fmt % v for v in row) for row in change(table))
    path.write_text(f"{lines[0]}\n{body}\n")


def names(folder):
    return [finding.name for finding in read_bundle(folder).findings]


def test_every_figure_of_a_known_recording_is_in_its_lines(folder):
    summary = summarize(read_bundle(folder))
    facts = dict(summary.facts)
    assert facts["frames"] == "600 in the files, 600 frame times; 600 frames have a time"
    assert facts["fields"] == "1 of 24 x 24 px; channel 1 of 1 saved"
    assert facts["rate"].startswith("10 Hz by the frame times")
    assert facts["pixel"] == "1.5 x 1.5 um by recording.json: a field of 36 x 36 um"
    assert facts["time"] == "0.00 to 59.90 s (1.0 min); no gap"
    assert facts["trials"].startswith("44 of 0.50 s, 0.70 s apart; 1.0 to 53.1 s; 44 within")
    assert facts["repeats"] == "38 shown once, 2 shown 3 times"
    assert facts["images"].startswith("40 of 36 x 64 px, gray 0 to 255, mean 127 (")
    assert facts["monitor"].startswith("0.3 to 30.3 cd/m2 at gray 0 to 255, gamma 2.20")
    assert "1,200 samples, 20 Hz, 100% of the scan, known in 99%" in facts["pupil"]
    assert facts["gaze"] == "x 79.0 to 81.0 px, y 59.0 to 61.0 px"
    assert "3,000 samples, 50 Hz" in facts["running"]
    assert "3.1 cm/s, runs 100% of the time" in facts["running"]  # 100 of 1,000 counts in 10 cm
    assert facts["left out"] == "10 samples without a pupil"
    assert facts["warnings"] == "none"


def test_about_twenty_lines_are_at_most_eighty_wide_and_plain_text(folder):
    lines = summarize(read_bundle(folder)).lines()
    assert 15 <= len(lines) <= 25
    assert max(len(line) for line in lines) <= 80
    assert all(line.isascii() and line.isprintable() for line in lines)


def test_a_scan_of_a_microscope_says_planes_channels_and_both_rates(tmp_path):
    from scanimage_files import levels, write_scan
    from tiff_files import software

    folder = write_recording(tmp_path / "scan", 7, tiff=True)
    said = json.loads((folder / "recording.json").read_text())
    said["imaging"] |= {"um_per_px": None}
    (folder / "recording.json").write_text(json.dumps(said))
    header = software(hRoiManager__scanFrameRate="9.5", hRoiManager__scanVolumeRate="9.5")
    kept = [k for k in range(600) if k not in (100, 101)]
    write_scan(
        folder / "scan.tif",
        levels(*range(598)),
        header,
        numbers=[k + 1 for k in kept],
        period=0.1,
    )
    summary = summarize(read_bundle(folder))
    facts = dict(summary.facts)
    assert facts["frames"] == "598 in the files, 600 frame times; 598 frames have a time"
    assert facts["rate"].startswith("10 Hz by the frame times, 10 Hz by the time stamps")
    assert "1 gaps, the longest 0.3 s at 9.9 s" in facts["time"]
    assert "header" in facts["pixel"]
    assert facts["left out"].startswith("2 times without a frame")
    found = [finding.name for finding in summary.findings]
    assert {"rate-contradicted", "frames-missing", "frame-times-left-over"} <= set(found)
    text = "\n".join(summary.lines())
    for finding in summary.findings:
        assert f"! {finding.name}: " in text
        assert finding.remedy.split()[-1] in text


def test_a_kind_of_finding_that_is_used_has_a_remedy_and_stands_in_the_docs():
    import re
    from pathlib import Path

    root = Path(__file__).parents[3]
    used = set()
    for layer in ("pipeline", "schemas"):
        for file in (root / layer).rglob("*.py"):
            used |= set(re.findall(r'Finding\(\s*"([a-z-]+)"', file.read_text(encoding="utf-8")))
    assert len(used) > 40
    assert used - set(REMEDIES) == set()
    docs = "".join(file.read_text(encoding="utf-8") for file in (root / "docs").glob("*.md"))
    assert [name for name in sorted(REMEDIES) if f"`{name}`" not in docs] == []
    assert Finding("of-a-plug-in", "x").remedy == ""


def test_a_trial_log_in_milliseconds_or_on_another_clock_is_refused(folder):
    text = (folder / "trials.csv").read_text().splitlines()
    rows = [line.split(",") for line in text[1:]]

    def write(scale, late):
        body = [
            f"{i},{name},{float(on) * scale + late},{float(off) * scale + late},{blank}"
            for i, name, on, off, blank in rows
        ]
        (folder / "trials.csv").write_text("\n".join([text[0], *body]) + "\n")

    write(1000, 0)
    with pytest.raises(DataError, match=r"trials\.csv: .*outside.*they look like milliseconds"):
        read_bundle(folder)
    write(1, 5000)
    (folder / "clocks.csv").write_text("stream,stream_time_s,rig_time_s\neye,0,0\neye,50,50\n")
    with pytest.raises(DataError, match=r"trials\.csv: .*outside"):  # pairs of another stream
        read_bundle(folder)
    pairs = "".join(f"trials,{5000 + t},{t}\n" for t in range(0, 60, 10))
    (folder / "clocks.csv").write_text(f"stream,stream_time_s,rig_time_s\n{pairs}")
    bundle = read_bundle(folder)
    facts = dict(summarize(bundle).facts)
    assert "1.0 to 53.1 s; 44 within the frames" in facts["trials"]
    assert facts["clocks"].startswith("trials: 6 pairs, 0 of them outliers")


def test_trials_after_the_last_frame_are_counted(folder):
    rewrite(folder / "frame_times.csv", lambda table: table * [1, 0.8])  # 48 s
    facts = dict(summarize(read_bundle(folder)).facts)
    assert "trials-outside" in names(folder)
    assert facts["left out"].startswith("4 trials outside of the frames")  # from 49 s on


def test_what_a_worker_would_refuse_of_the_wheel_is_refused(folder):
    half, far = (np.array([0, by]) for by in (0.5, 2.0**33))
    rewrite(folder / "treadmill.csv", lambda table: table + half, fmt="%.12g")
    with pytest.raises(DataError, match=r"treadmill\.csv.*counts are not whole numbers"):
        read_bundle(folder)
    rewrite(folder / "treadmill.csv", lambda table: table + far - half, fmt="%.12g")
    with pytest.raises(DataError, match=r"treadmill\.csv.*counts do not fit into 32 bits"):
        read_bundle(folder)


def test_a_speed_that_no_mouse_has_is_said(tmp_path):
    folder = write_recording(tmp_path / "scan", 7, n_images=40, running=False)
    time = np.arange(0, 60, 0.05)

    def write(speed):
        lines = "".join(f"{t:.2f},{v:.2f}\n" for t, v in zip(time, speed, strict=True))
        (folder / "running.csv").write_text("time_s,speed_cm_s\n" + lines)

    write(20 + 10 * np.sin(time))
    assert names(folder) == []
    write(200 + 100 * np.sin(time))  # mm/s
    assert names(folder) == ["running-implausible"]
    write(np.full(len(time), np.nan))
    with pytest.raises(DataError, match=r"running\.csv.*no speed in any sample"):
        read_bundle(folder)


def test_a_movie_that_motion_would_refuse_is_refused(folder):
    import tifffile

    movie = tifffile.imread(folder / "scan.tif")
    movie[:, :16] = 100  # a shutter, or a wrong ROI
    tifffile.imwrite(folder / "scan.tif", movie, photometric="minisblack")
    with pytest.raises(DataError, match=r"scan\.tif: .*pixels do not change with the tissue"):
        read_bundle(folder)
    bright = np.random.default_rng(0).integers(0, 30000, movie.shape).astype(np.int16)
    bright[bright > 20000] = 20000
    tifffile.imwrite(folder / "scan.tif", bright, photometric="minisblack")
    assert names(folder) == ["movie-saturated"]


@pytest.mark.parametrize(
    ("size", "name"),
    [(None, "pixel-size-unknown"), ([0.02, 0.02], "pixel-size-implausible"), ([1.5, 1.5], None)],
)
def test_the_size_of_a_pixel_is_known_and_plausible(folder, size, name):
    said = json.loads((folder / "recording.json").read_text())
    said["imaging"]["um_per_px"] = size
    (folder / "recording.json").write_text(json.dumps(said))
    assert names(folder) == ([name] if name else [])


def test_images_that_leave_no_tier_to_train_on_are_said(tmp_path):
    once = write_recording(tmp_path / "a", 7, n_images=40)
    rows = (once / "trials.csv").read_text().splitlines()
    (once / "trials.csv").write_text("\n".join(rows[:41]) + "\n")
    assert names(once) == ["images-never-repeated"]
    (once / "trials.csv").write_text(
        "\n".join([rows[0], *(f"{k},picture_0.png,{k + 1},{k + 1.5},0.4" for k in range(40))])
    )
    assert names(once) == ["images-repeated"]


def test_a_monitor_that_was_measured_in_part_is_said(folder):
    rewrite(folder / "monitor.csv", lambda table: table[(table[:, 0] > 25) & (table[:, 0] < 230)])
    assert names(folder) == ["images-beyond-monitor"]
    assert "at gray 30 to 225" in dict(summarize(read_bundle(folder)).facts)["monitor"]


def test_the_photodiode_gives_the_monitors_lag(folder):
    onset = 1.0 + 1.2 * np.arange(44)
    level = np.where(np.arange(44) % 2, 7.0, 30.0)
    rows = sorted(
        [*zip(onset + 0.03, level, strict=True), *zip(onset + 0.53, 0 * level, strict=True)]
    )
    lines = "".join(f"{t:.4f},{v:.1f}\n" for t, v in rows)
    (folder / "photodiode.csv").write_text("time_s,level\n" + lines)
    bundle = read_bundle(folder)
    facts = dict(summarize(bundle).facts)
    assert facts["photodiode"].startswith("44 of 44 trials seen, lag +30 ms")
    (folder / "photodiode.csv").write_text("time_s,level\n1,5\n2,5\n")
    with pytest.raises(DataError, match=r"photodiode\.csv: no flips"):
        read_bundle(folder)


def test_the_same_from_python_and_the_shell(folder, capsys):
    assert main([str(folder)]) == 0
    assert capsys.readouterr().out.splitlines() == summarize(read_bundle(folder)).lines()
    assert main([str(folder), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["facts"]["gaze"] == "x 79.0 to 81.0 px, y 59.0 to 61.0 px"
    (folder / "monitor.csv").unlink()
    assert main([str(folder)]) == 1
    assert "monitor.csv" in capsys.readouterr().err
