"""Pupil and treadmill from the shell."""

import json

import cv2
import numpy as np
import pytest

from pipeline.behavior.__main__ import main
from pipeline.csvfile import read_columns


def test_treadmill_counts_become_a_table_of_speed(tmp_path, capsys):
    time = np.arange(0, 20, 0.02)
    counts = np.cumsum(np.where(time < 10, 2, 0))  # 100 counts a second, then rest
    rows = "".join(f"{t:.3f},{c}\n" for t, c in zip(time, counts, strict=True))
    (tmp_path / "wheel.csv").write_text("time_s,counts\n" + rows)
    arguments = [
        "treadmill",
        str(tmp_path / "wheel.csv"),
        "--diameter-cm",
        "10",
        "--json",
        "--counts-per-rev",
        "100",
        "--out",
        str(tmp_path / "speed.csv"),
    ]
    assert main(arguments) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["running_periods"], found["gaps"]) == (1, 0)
    assert found["running_s"] == pytest.approx(10, abs=0.5)
    speed = read_columns(tmp_path / "speed.csv", ("time_s", "speed_cm_s"), nan=("speed_cm_s",))
    running = speed["speed_cm_s"][(speed["time_s"] > 1) & (speed["time_s"] < 9)]
    np.testing.assert_allclose(running, np.pi * 10, rtol=1e-6)


def test_a_pupil_that_another_program_found_becomes_a_table(tmp_path, capsys):
    lines = ["scorer," + "net," * 11 + "net"]
    points = [f"pupil{i}" for i in range(4)]
    lines.append("bodyparts," + ",".join(p for p in points for _ in range(3)))
    lines.append("coords," + ",".join(["x,y,likelihood"] * 4))
    for frame in range(5):
        cells = [
            f"{30 + 8 * np.cos(a)},{20 + 8 * np.sin(a)},0.99" for a in np.arange(4) * np.pi / 2
        ]
        lines.append(f"{frame}," + ",".join(cells))
    (tmp_path / "dlc.csv").write_text("\n".join(lines))
    out = tmp_path / "pupil.csv"
    assert (
        main(
            [
                "pupil",
                str(tmp_path / "dlc.csv"),
                "--method",
                "deeplabcut",
                "--fps",
                "10",
                "--out",
                str(out),
            ]
        )
        == 0
    )
    assert "radius_median_px: 8" in capsys.readouterr().out
    names = ("time_s", "center_x_px", "radius_px")
    found = read_columns(out, names, nan=names)
    np.testing.assert_allclose(found["center_x_px"], 30)
    np.testing.assert_allclose(np.diff(found["time_s"]), 0.1)


def test_times_of_another_video_are_refused(tmp_path, capsys):
    path = tmp_path / "eye.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 30.0, (96, 72), True)
    y, x = np.mgrid[:72, :96]
    for _ in range(8):
        frame = np.where(np.hypot(x - 48, y - 36) < 12, 30, 120).astype(np.uint8)
        writer.write(cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR))
    writer.release()
    (tmp_path / "t.csv").write_text("frame,time_s\n0,0.0\n1,0.1\n")
    arguments = [
        "pupil",
        str(path),
        "--times",
        str(tmp_path / "t.csv"),
        "--out",
        str(tmp_path / "p.csv"),
    ]
    assert main(arguments) == 1
    assert "times do not fit the video; found 2; expected 8 frames" in capsys.readouterr().err
    assert not (tmp_path / "p.csv").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("time_s,count\n0,1\n", "column is missing"),
        ("time_s,counts\n0,1\n1,many\n", "counts, line 3: not a number"),
        ("time_s,counts\n0,1\n0,2\n", "time does not increase"),
        ("", "column is missing"),
    ],
)
def test_a_bad_table_is_one_clear_line(tmp_path, capsys, content, message):
    (tmp_path / "wheel.csv").write_text(content)
    arguments = [
        "treadmill",
        str(tmp_path / "wheel.csv"),
        "--diameter-cm",
        "10",
        "--counts-per-rev",
        "100",
        "--out",
        str(tmp_path / "s.csv"),
    ]
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error


@pytest.mark.parametrize("name", ["pupil", "treadmill"])
def test_help_lists_methods_with_their_parameters(name, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([name, "--help"])
    assert stopped.value.code == 0
    assert ("min_visible = 0.35" if name == "pupil" else "smoothing_s = 0.1") in (
        capsys.readouterr().out
    )
