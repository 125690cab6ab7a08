"""Time bins stay as long as asked, whatever the size of a recording and the memory."""

import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pipeline.errors import DataError
from pipeline.imaging.movie import ArrayMovie, MotionCorrected, RasterCorrected
from pipeline.imaging.segmentation import segmenters
from pipeline.imaging.segmentation.base import binned_movie, residual_of
from pipeline.imaging.segmentation.patches import bins_of, patch_grid, patch_halo
from pipeline.imaging.segmentation.scratch import ScratchBins


@pytest.fixture(scope="module")
def still(recording):
    movie = RasterCorrected(ArrayMovie(recording.movie, recording.fps), recording.raster_px)
    return MotionCorrected(movie, recording.y, recording.x)


def overlap(one, other):
    """Return for each mask of one the largest IoU with a mask of the other."""
    a, b = (masks.reshape(len(masks), -1).astype(float) for masks in (one, other))
    both = a @ b.T
    return (both / (a.sum(1)[:, None] + b.sum(1) - both)).max(axis=1)


@pytest.mark.parametrize("method", ["cnmf", "peaks"])
def test_little_memory_finds_the_same_cells(still, method):
    how = {"soma_diameter_um": 12.0} | ({"adapt_size": False} if method == "cnmf" else {})
    whole = segmenters[method](still, **how)
    patches = segmenters[method](still, **how, memory_mb=8.0)
    assert abs(len(patches.masks) - len(whole.masks)) <= 1
    assert np.mean(overlap(whole.masks, patches.masks) > 0.85) > 0.9
    np.testing.assert_allclose(patches.mean_image, whole.mean_image, rtol=1e-6)
    np.testing.assert_allclose(patches.correlation_image, whole.correlation_image, atol=0.02)
    np.testing.assert_allclose(patches.weights.sum(axis=(1, 2)), 1, rtol=1e-4)


@pytest.mark.parametrize(("fps", "minutes"), [(8.0, 20.0), (15.0, 120.0), (30.0, 20.0)])
def test_a_bin_is_as_long_as_asked(fps, minutes):
    frames = round(60 * minutes * fps)
    still = np.broadcast_to(np.arange(256, dtype=np.int16).reshape(16, 16), (frames, 16, 16))
    with bins_of(ArrayMovie(still, fps), bin_s=0.4, highpass_s=60.0, memory_mb=2.0) as binned:
        assert isinstance(binned, ScratchBins)
        assert binned.bin_s == pytest.approx(0.4, rel=0.07)  # whole frames
        assert binned.shape[2] == frames // round(0.4 * fps)


def test_bins_on_disk_are_those_in_memory(still):
    how = {"bin_s": 0.4, "highpass_s": 20.0}
    memory = binned_movie(still, **how)
    with ScratchBins(still, **how, memory_mb=20.0) as disk:
        part, same = disk.excerpt(40, 100), memory.excerpt(40, 100)
        noise = np.std(np.diff(memory.values, axis=2), axis=2).mean()
        np.testing.assert_allclose(part.values, same.values, atol=0.02 * noise)
        disk.subtract_surroundings(12.0)
        rows, columns = slice(20, 70), slice(90, 128)
        patch = disk.residual(rows, columns, np.empty(50 * 38 * disk.shape[2], np.float32))
    whole = residual_of(memory, 12.0)
    np.testing.assert_allclose(patch.noise, whole.noise[rows, columns], rtol=5e-3)
    np.testing.assert_allclose(patch.values, whole.values[rows, columns], atol=0.05)
    assert memory.margin == disk.margin


def test_patches_cover_the_field_within_the_memory():
    for bins in (500, 5000, 18000):
        for diameter in (6.0, 12.6, 20.0):
            down, across = patch_grid((512, 512, bins), diameter, 600.0, 0.4)
            sides = [min(512, -(-512 // n) + 2 * patch_halo(diameter)) for n in (down, across)]
            assert 4e-6 * sides[0] * sides[1] * bins <= 600.0


def test_what_cannot_be_kept_is_refused_in_one_line(still, monkeypatch):
    with pytest.raises(DataError, match=r"memory_mb: is too little.*one cell.*raise memory_mb"):
        patch_grid((512, 512, 18000), 60.0, 600.0, 0.4)
    with pytest.raises(DataError, match=r"memory_mb: is too little.*slow course.*highpass_s"):
        segmenters["cnmf"](still, memory_mb=1.0)
    full = SimpleNamespace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: full)
    with pytest.raises(DataError, match=r"too little space for time bins.*set TMPDIR"):
        segmenters["cnmf"](still, memory_mb=8.0)


def test_nothing_is_left_on_the_disk(still, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    segmenters["peaks"](still, memory_mb=8.0)
    assert not list(Path(tmp_path).iterdir())
