"""The whole chain on files."""

import json

import numpy as np
import pytest
import tifffile

from pipeline.errors import DataError
from pipeline.imaging import process
from pipeline.imaging.__main__ import main
from pipeline.imaging.movie import ArrayMovie
from pipeline.imaging.summary import neighbor_correlation, photon_gain, summarize


@pytest.fixture(scope="module")
def tiff(recording, tmp_path_factory):
    path = tmp_path_factory.mktemp("scan") / "scan.tif"
    tifffile.imwrite(path, recording.movie[:800], photometric="minisblack")
    return path


def test_files_become_traces_that_follow_the_cells(recording, tiff, tmp_path):
    path = process(tiff, tmp_path / "out", fps=recording.fps, deconvolver="derivative")
    assert path == tmp_path / "out" / "imaging.npz"
    assert [p.name for p in path.parent.iterdir()] == ["imaging.npz"]
    with np.load(path) as file:
        result = dict(file)
    units, frames = result["traces"].shape
    assert frames == 800
    for name in ("denoised", "deconv"):
        assert result[name].shape == (units, frames)
    assert result["masks"].shape == (units, 128, 128)
    assert result["keep"].shape == (units,)
    assert result["keep"].dtype == bool
    assert result["keep"].mean() > 0.8
    assert result["raster_px"] == pytest.approx(recording.raster_px, abs=0.05)
    error = [
        result["shifts_y"] - recording.y[:800],
        result["shifts_x"] - recording.x[:800],
    ]
    assert np.sqrt(sum(np.var(e) for e in error)) < 0.07
    truth = recording.masks.reshape(len(recording.masks), -1).astype(float)
    found = result["masks"].reshape(units, -1).astype(float)
    both = found @ truth.T
    iou = both / (found.sum(1)[:, None] + truth.sum(1)[None] - both)
    r = [
        np.corrcoef(result["traces"][unit], recording.traces[iou[unit].argmax(), :800])[0, 1]
        for unit in np.flatnonzero(result["keep"] & (iou.max(axis=1) > 0.5))
    ]
    assert len(r) >= 20
    assert np.median(r) > 0.85


@pytest.mark.numerical
def test_same_files_give_the_same_numbers_twice_however_a_method_is_named(
    recording, tiff, tmp_path
):
    results = []
    for name, segmenter in {"a": "peaks", "b": {"name": "peaks", "min_snr": 5.0}}.items():
        path = process(
            tiff, tmp_path / name, fps=recording.fps, segmenter=segmenter, deconvolver="derivative"
        )
        with np.load(path) as file:
            results.append(dict(file))
    for name, value in results[0].items():
        np.testing.assert_array_equal(value, results[1][name], err_msg=name)


def test_command_line_reports_and_refuses(tiff, tmp_path, capsys):
    assert main([str(tiff), "--info", "--fps", "10", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["frames"] == 800
    assert report["fields"][0]["height_px"] == 128
    assert main([str(tiff), "--out", str(tmp_path)]) == 1
    assert "give fps" in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        main([str(tiff)])
    assert caught.value.code == 2


def test_unknown_method_and_unusable_folder_are_named(tiff, tmp_path):
    with pytest.raises(ValueError, match="no segmenter 'magic'"):
        process(tiff, tmp_path, fps=10.0, segmenter="magic")
    with pytest.raises(ValueError, match=r"'peaks' has no parameter \['min_sn'\]"):
        process(tiff, tmp_path, fps=10.0, segmenter={"name": "peaks", "min_sn": 3.0})
    with pytest.raises(DataError, match="no such file"):
        process(tmp_path / "gone.tif", tmp_path, fps=10.0)


def test_neighbor_correlation_is_one_for_common_and_zero_for_independent_signals():
    rng = np.random.default_rng(0)
    frames = rng.normal(size=(4000, 12, 12))
    frames[:, :6] = rng.normal(size=(4000, 1, 1))
    image = neighbor_correlation(frames)
    np.testing.assert_allclose(image[:5], 1, atol=1e-5)
    assert np.abs(image[7:]).max() < 5 / np.sqrt(4000)


def test_photon_gain_of_a_known_detector():
    rng = np.random.default_rng(0)
    light = np.linspace(2, 60, 32 * 32).reshape(32, 32)
    frames = rng.poisson(light, (1500, 32, 32)) * 17.0 + 100
    gain = photon_gain(ArrayMovie(frames.astype(np.float32), 30.0))
    assert gain.gain == pytest.approx(17.0, rel=0.03)
    assert gain.zero_level == pytest.approx(100.0, abs=10.0)


@pytest.mark.numerical
def test_summary_of_a_movie_does_not_depend_on_batches():
    frames = np.random.default_rng(0).poisson(20, (700, 16, 20)).astype(np.int16)
    summary = summarize(ArrayMovie(frames, 10.0))
    np.testing.assert_allclose(summary.mean, frames.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(summary.maximum, frames.max(axis=0))
    np.testing.assert_allclose(summary.intensity, frames.mean(axis=(1, 2)), rtol=1e-5)
    np.testing.assert_allclose(
        summary.correlation, neighbor_correlation(frames.astype(np.float32)), atol=1e-5
    )
