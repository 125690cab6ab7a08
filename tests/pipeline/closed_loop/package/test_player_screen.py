"""What the player puts on a screen: blank, aspect, and the back ends that it falls back to."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from pipeline.closed_loop.package.files import read_package, write_package
from pipeline.closed_loop.presentation.answer import check_answer, worse_than_planned

# a stand-in that writes down what would be on the screen
PYGAME = """
import json, os
FULLSCREEN = SCALED = 0
KEYDOWN, K_ESCAPE = 1, 27
def say(**row):
    with open(os.environ["SCREEN_LOG"], "a") as file: file.write(json.dumps(row) + "\\n")
class Surface:
    def __init__(self, size): self.size = size
    def convert(self, screen): return self
    def get_size(self): return self.size
    def fill(self, color, box=None): say(fill=color[0])
    def blit(self, surface, place): say(size=list(surface.size), place=list(place))
class display:
    init = flip = staticmethod(lambda *a: None)
    get_desktop_sizes = staticmethod(lambda: [json.loads(os.environ["DESKTOP"])])
    set_mode = staticmethod(lambda size, *a, **k: Surface(size))
class mouse: set_visible = staticmethod(lambda shown: None)
class image: load = staticmethod(lambda file: Surface((64, 36)))
class transform: smoothscale = staticmethod(lambda surface, size: Surface(size))
class event: get = staticmethod(list)
def quit(): pass
"""
PSYCHOPY = {
    "__init__": "",
    "event": "",
    "visual": "class Window:\n def __init__(self, **k): raise RuntimeError('Gamma ramp is 0.')",
}


@pytest.fixture
def short(contents):
    """A package of four trials that last a few milliseconds."""
    trials = contents["trials"][:4].assign(duration_s=0.01, blank_before_s=0.01)
    return {**contents, "trials": trials}


def play(folder, tmp_path, *options, desktop=(1920, 1080), psychopy=False):
    """Return exit status, stderr, player.json and what was on the screen."""
    stub = tmp_path / "stub"
    stub.mkdir(exist_ok=True)
    (stub / "pygame.py").write_text(PYGAME)
    if psychopy:
        (stub / "psychopy").mkdir()
        for name, text in PSYCHOPY.items():
            (stub / "psychopy" / f"{name}.py").write_text(text)
    log = tmp_path / "screen.jsonl"
    environment = {
        **os.environ,
        "PYTHONPATH": str(stub),
        "SCREEN_LOG": str(log),
        "DESKTOP": json.dumps(desktop),
    }
    done = subprocess.run(
        [sys.executable, str(folder / "player.py"), "--out", str(tmp_path / "day2"), *options],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "day2" / "player.json").read_text())
    return done.stderr, told, [json.loads(line) for line in log.read_text().splitlines()]


def test_the_blank_has_the_mean_luminance_of_the_images(short, tmp_path):
    folder = write_package(tmp_path / "package", **short)
    _, told, screen = play(folder, tmp_path)
    (blank,) = {row["fill"] for row in screen if "fill" in row}
    curve = short["curve"]
    shown = [curve.table[short["images"][name]].mean() for name in short["trials"].image]
    assert curve.to_luminance(blank) == pytest.approx(np.mean(shown), rel=0.02)
    assert told["blank_pixel"] == read_package(folder).monitor["blank_pixel"] == blank
    assert told["warnings"] == []
    bare = write_package(tmp_path / "bare", **{**short, "curve": None})
    levels = [short["images"][name].mean() for name in short["trials"].image]
    assert read_package(bare).monitor["blank_pixel"] == round(float(np.mean(levels)))


@pytest.mark.parametrize(
    ("desktop", "size", "place"),
    [
        ((1920, 1080), [1920, 1080], [0, 0]),
        ((1366, 768), [1366, 768], [0, 0]),  # 16:9 to within 1 %
        ((1024, 768), [1024, 576], [0, 96]),
        ((1080, 1920), [1080, 608], [0, 656]),
        ((2560, 1080), [1920, 1080], [320, 0]),
    ],
)
def test_images_keep_their_aspect_on_any_monitor(short, tmp_path, desktop, size, place):
    folder = write_package(tmp_path / "package", **short)
    said, told, screen = play(folder, tmp_path, desktop=desktop)
    shown = [row for row in screen if "size" in row]
    assert len(shown) == 4
    assert all(row == {"size": size, "place": place} for row in shown)
    assert told["screen_px"] == list(desktop)
    another = place != [0, 0]
    assert ("another aspect" in said) == another == bool(told["warnings"])


def test_a_back_end_that_fails_is_said_recorded_and_read_at_ingest(short, tmp_path):
    folder = write_package(tmp_path / "package", **short)
    said, told, _ = play(folder, tmp_path, "--grey", "90", psychopy=True)
    assert "psychopy: Gamma ramp is 0.; pygame shows" in said
    assert told["backend"] == "pygame"
    assert told["vsync"]
    assert told["backends_failed"] == ["psychopy: Gamma ramp is 0."]
    package = read_package(folder)
    recording = {"plan": package.plan_id, "animal_id": 7}
    warnings = check_answer(package, recording, package.trials, player=told)
    blank = f"the blank is 90, the package's is {package.monitor['blank_pixel']}"
    assert {finding.name for finding in warnings} == {"player-worse"}
    assert warnings[0].text == "player.json: psychopy: Gamma ramp is 0."
    assert f"player.json: {blank}" in [finding.text for finding in warnings]


@pytest.mark.parametrize(
    ("player", "line"),
    [
        ({"backend": "dry-run"}, "dry run"),
        ({"backend": "opencv"}, "no vertical synchronisation"),
        ({"warnings": "the blank is 3"}, "the blank is 3"),
        ({"backend": "psychopy"}, None),
    ],
)
def test_what_any_player_noted_is_a_warning(player, line):
    found = worse_than_planned(player)
    assert [line in one.text for one in found] == [True] if line else found == []
