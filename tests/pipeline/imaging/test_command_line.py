"""Single stages from the shell give what the whole chain gives, and one line when they cannot."""

import json

import numpy as np
import pytest
import tifffile

from pipeline.imaging.__main__ import COMMANDS, main


@pytest.fixture(scope="module")
def movie(tmp_path_factory, simulator):
    folder = tmp_path_factory.mktemp("movie")
    path = folder / "scan.tif"
    frames = simulator(seed=4, size=64, frames=240, cells=8).movie
    tifffile.imwrite(path, frames, photometric="minisblack", metadata=None)
    path.with_suffix(".json").write_text('{"fps": 10, "um_per_px": 1.0}')
    return path


@pytest.mark.numerical
def test_stages_one_by_one_are_the_chain(movie, tmp_path, capsys):
    out = ["--out", str(tmp_path)]
    for stage in ("raster", "motion", "segmentation", "extraction"):
        assert main([stage, str(movie), *out, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["file"].endswith(f"{stage}.npz")
    traces = str(tmp_path / "extraction.npz")
    assert (
        main(
            [
                "deconvolution",
                traces,
                *out,
                "--method",
                "oasis_ar1",
                "--set",
                "indicator=GCaMP6s",
                "--set",
                "sparsity=0.5",
            ]
        )
        == 0
    )
    assert "activity_unit: trace/frame" in capsys.readouterr().out
    assert main([str(movie), "--out", str(tmp_path / "whole"), "--deconvolver", "derivative"]) == 0
    with np.load(tmp_path / "whole" / "imaging.npz") as whole, np.load(traces) as single:
        np.testing.assert_allclose(single["corrected"], whole["traces"], rtol=1e-6)  # a rounding
    with np.load(tmp_path / "deconvolution.npz") as found:
        assert found["decay_s"][0] == pytest.approx(0.8)
        assert found["activity"].shape == found["denoised"].shape


def test_quality_says_whether_a_scan_is_fit(movie, tmp_path, capsys):
    assert main(["quality", str(movie), "--out", str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["fit"]
    assert found["gain"] == pytest.approx(20, rel=0.2)  # as it was simulated
    strict = ["--set", "min_photons=1e6", "--json"]
    assert main(["quality", str(movie), "--out", str(tmp_path), *strict]) == 0
    found = json.loads(capsys.readouterr().out)
    assert not found["fit"]
    assert "too dark" in found["findings"][0]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([name, "--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert "--out" in text
    if name == "deconvolution":
        assert "decay_s = None" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["motion", "{gone}.tif", "--out", "{out}"], "no such file"),
        (["extraction", "{movie}", "--out", "{out}"], "run segmentation first"),
        (["motion", "{movie}", "--out", "{out}", "--set", "speed=3"], "has no parameter"),
        (["motion", "{movie}", "--out", "{out}", "--set", "speed"], "NAME=VALUE"),
        (["deconvolution", "{movie}", "--out", "{out}"], "cannot be read"),
        (["deconvolution", "{gone}.npy", "--out", "{out}", "--fps", "9"], "cannot be read"),
        (["import", "{gone}", "--out", "{out}"], "no such file or folder"),
        (["raster", "{movie}", "--out", "{movie}/x"], "cannot be made"),
    ],
)
def test_what_cannot_be_done_is_one_line(movie, tmp_path, capsys, arguments, message):
    places = {"gone": tmp_path / "gone", "out": tmp_path / "out", "movie": movie}
    assert main([text.format(**places) for text in arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error


def test_shifts_of_another_movie_are_refused(movie, tmp_path, capsys):
    np.savez(tmp_path / "motion.npz", shifts_y=np.zeros(7), shifts_x=np.zeros(7))
    assert main(["segmentation", str(movie), "--out", str(tmp_path)]) == 1
    assert "shifts are of another movie; found 7 frames" in capsys.readouterr().err


def test_a_movie_that_cannot_be_solved_for_is_named(tmp_path, monkeypatch, capsys):
    def singular(options):
        raise np.linalg.LinAlgError("A singular matrix detected")

    monkeypatch.setitem(COMMANDS, "info", (singular, "fails"))
    assert main(["info", str(tmp_path / "a.tif")]) == 1
    assert "a.tif: numbers cannot be solved for; found A singular" in capsys.readouterr().err
