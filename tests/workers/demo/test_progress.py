"""What the demo says while it works, on a terminal of 80 columns and into a file."""

import io
import itertools

import pytest
from rich.console import Console

from workers.demo.progress import QUIET_S, WIDTH, Steps

NAMES = ("simulate day 1", "day 1: scan to package", "day 2: scan to outcome", "report")
LONG = "128 of 231 jobs, 12 min: MatchTask, SummaryImages, TrainedModel, GaborSimilarity"


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def _written(file):
    return [line for line in file.getvalue().splitlines() if line.strip()]


def test_a_file_gets_every_step_and_is_never_silent_for_long():
    file, clock = io.StringIO(), Clock()
    steps = Steps(Console(file=file, width=200), clock)
    for name in NAMES:
        with steps.step(name):
            for second in range(100):
                clock.now += 1
                steps.note(f"{second} {LONG}")
                steps.tick()
    lines = _written(file)
    assert max(len(line) for line in lines) <= WIDTH
    times = [60 * int(line[:3]) + int(line[4:6]) for line in lines]
    assert max(b - a for a, b in itertools.pairwise(times)) <= QUIET_S
    assert len(lines) <= 9 * len(NAMES)
    for name in NAMES:
        assert any(f"{name}: begins" in line for line in lines)


def test_a_terminal_of_80_columns_keeps_a_step_in_one_line(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    file = io.StringIO()
    console = Console(file=file, width=80, force_terminal=True, color_system=None)
    with Steps(console) as steps:
        for name in NAMES:
            with steps.step(name):
                steps.note(LONG, 50, 100)
    shown = file.getvalue().split("\x1b[2K")[-1]
    rows = [line.rstrip() for line in shown.replace("\r", "\n").splitlines() if "128" in line]
    assert len(rows) == len(NAMES)
    for name, row in zip(NAMES, rows, strict=True):
        assert name in row
        assert row.rstrip().endswith("0:00:00")


def test_a_step_that_fails_is_not_said_to_be_done():
    file = io.StringIO()
    steps = Steps(Console(file=file, width=80))
    with pytest.raises(ValueError, match="broken"), steps.step("report"):
        raise ValueError("broken")
    assert not any("done" in line for line in _written(file))


def test_frames_say_how_long_they_will_take():
    file, clock = io.StringIO(), Clock()
    steps = Steps(Console(file=file, width=80), clock)
    with steps.step("simulate day 1"):
        show = steps.frames()
        clock.now = 20
        show(250, 1000)
        steps.tick()
        show(1000, 1000)
    assert any("250/1000 frames, 60 s left" in line for line in _written(file))
    assert _written(file)[-1].endswith("simulate day 1: 1000/1000 frames")
