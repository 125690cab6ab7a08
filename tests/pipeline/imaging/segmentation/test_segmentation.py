"""Cells and traces against the cells and traces that a movie was made with."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from pipeline.errors import DataError
from pipeline.imaging.extraction import (
    fluorescence_methods,
    neuropil_rings,
    relative_change,
    running_baseline,
    wiener,
)
from pipeline.imaging.movie import ArrayMovie, MotionCorrected, RasterCorrected
from pipeline.imaging.segmentation import segmenters
from pipeline.imaging.segmentation.shape import shape_features


def steady(recording):
    movie = RasterCorrected(ArrayMovie(recording.movie, recording.fps), recording.raster_px)
    return MotionCorrected(movie, recording.y, recording.x)


def assign(recording, masks):
    """Return each found unit's true cell by IoU > 0.5 (or -1), and which cells are to be found."""
    truth = recording.masks.reshape(len(recording.masks), -1).astype(float)
    found = masks.reshape(len(masks), -1).astype(float)
    both = found @ truth.T
    iou = both / (found.sum(1)[:, None] + truth.sum(1)[None] - both)
    cell = np.where(iou.max(axis=1) > 0.5, iou.argmax(axis=1), -1)
    fires = recording.traces.max(axis=1) > 0.3
    whole = truth.sum(axis=1) > 50  # those cut by the edge are neither asked for nor wrong
    return cell, fires & whole


@pytest.fixture(scope="module")
def segmented(recording):
    return segmenters["cnmf"](steady(recording), soma_diameter_um=12.0)


def test_default_finds_active_cells_and_little_else(recording, segmented):
    cell, wanted = assign(recording, segmented.masks)
    assert np.mean(cell >= 0) >= 0.9
    assert len(set(cell) & set(np.flatnonzero(wanted))) >= 0.88 * wanted.sum()
    assert len(set(cell[cell >= 0])) == np.sum(cell >= 0)  # none twice


def test_outlines_are_about_as_wide_as_the_cells(recording, segmented):
    cell, _ = assign(recording, segmented.masks)
    found, truth = (m.sum(axis=(1, 2)) for m in (segmented.masks, recording.masks))
    wider = np.median(np.sqrt(found[cell >= 0] / truth[cell[cell >= 0]]))
    assert 0.92 < wider < 1.1
    loose = segmenters["cnmf"](steady(recording), soma_diameter_um=12.0, outline=0.2)
    assert loose.masks.sum() / len(loose.masks) > 1.1 * found.mean()


def test_result_keeps_its_promises(recording, segmented):
    units = len(segmented.masks)
    assert segmented.masks.shape == segmented.weights.shape == (units, 128, 128)
    np.testing.assert_allclose(segmented.weights.sum(axis=(1, 2)), 1, rtol=1e-4)
    assert not segmented.weights[~segmented.masks].any()
    assert np.all(np.diff(segmented.score) <= 0)
    assert np.all((segmented.soma_probability >= 0) & (segmented.soma_probability <= 1))


@pytest.mark.parametrize("diameter_um", [7.0, 19.0])
def test_wrong_soma_diameter_costs_few_cells(recording, diameter_um):
    result = segmenters["cnmf"](steady(recording), soma_diameter_um=diameter_um)
    cell, wanted = assign(recording, result.masks)
    assert len(set(cell) & set(np.flatnonzero(wanted))) >= 0.8 * wanted.sum()
    assert np.mean(cell >= 0) >= 0.8


def test_fast_detector_finds_most(recording):
    result = segmenters["peaks"](steady(recording), soma_diameter_um=12.0)
    cell, wanted = assign(recording, result.masks)
    assert np.mean(cell >= 0) >= 0.8
    assert len(set(cell) & set(np.flatnonzero(wanted))) >= 0.6 * wanted.sum()


def test_movie_of_noise_has_no_cells():
    noise = np.random.default_rng(0).poisson(20, (600, 64, 64)).astype(np.int16)
    result = segmenters["cnmf"](ArrayMovie(noise, 10.0))
    assert len(result.masks) <= 1
    assert result.masks.shape[1:] == (64, 64)


def test_given_masks_come_back(tmp_path):
    movie = ArrayMovie(np.random.default_rng(0).normal(size=(50, 8, 10)), 10.0)
    result = segmenters["given"](movie, pixels=[[0, 1, 10], [79]])
    assert result.masks.sum() == 4
    assert result.masks[0, 1, 0]
    assert result.masks[1, 7, 9]
    np.savez(tmp_path / "masks.npz", masks=result.masks)
    again = segmenters["given"](movie, file=str(tmp_path / "masks.npz"))
    np.testing.assert_array_equal(again.masks, result.masks)
    with pytest.raises(ValueError, match="0 to 79"):
        segmenters["given"](movie, pixels=[[80]])
    with pytest.raises(DataError, match=r"none\.npz: cannot be read"):
        segmenters["given"](movie, file=str(tmp_path / "none.npz"))


def test_shape_of_a_disc_and_of_a_bar():
    rows, columns = np.mgrid[:40, :40]
    disc = np.hypot(rows - 20, columns - 20) < 6
    features = shape_features(disc, 12.0)
    assert features["relative_diameter"] == pytest.approx(1, abs=0.05)
    assert features["roundness"] == pytest.approx(1, abs=0.05)
    assert features["solidity"] > 0.9
    bar = (np.abs(rows - 20) < 2) & (np.abs(columns - 20) < 15)
    assert shape_features(bar, 12.0)["roundness"] < 0.4


def test_traces_are_nearly_as_good_as_with_true_masks_and_the_best_coefficient(
    recording, segmented
):
    movie = steady(recording)
    cell, _ = assign(recording, segmented.masks)
    units = np.flatnonzero(cell >= 0)
    result = fluorescence_methods["demixed"](movie, segmented.masks, segmented.weights)
    masks = recording.masks[cell[units]]
    oracle = fluorescence_methods["demixed"](movie, masks, masks.astype(np.float32), demix=False)
    ours, best = [], []
    for index, unit in enumerate(units):
        truth = recording.traces[cell[unit]]
        ours.append(np.corrcoef(result.corrected[unit], truth)[0, 1])
        best.append(
            max(
                np.corrcoef(oracle.raw[index] - c * oracle.neuropil[index], truth)[0, 1]
                for c in np.arange(0, 1.5, 0.1)
            )
        )
    assert np.median(np.array(ours) / np.array(best)) > 0.98
    assert np.median(ours) > 0.85
    assert np.all(result.snr[units] > 3)


def two_overlapping_cells(frames=2000, seed=0):
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:40, :40]
    masks = np.stack([np.hypot(rows - 20, columns - x) < 5 for x in (16, 22)])
    kernel = np.exp(-np.arange(60) / 10)
    own = np.array([np.convolve(rng.random(frames) < 0.01, kernel)[:frames] for _ in range(2)])
    haze = gaussian_filter1d(rng.normal(size=frames), 5) * 3
    movie = 10 + haze[:, None, None] + np.tensordot(own.T, masks.astype(float), 1) * 20
    movie += rng.normal(0, 1, movie.shape)
    return movie.astype(np.float32), masks, own, haze


def test_overlapping_cells_are_taken_apart_and_haze_is_removed():
    movie, masks, own, haze = two_overlapping_cells()
    result = fluorescence_methods["demixed"](
        ArrayMovie(movie, 10.0), masks, masks.astype(np.float32)
    )
    for unit in (0, 1):
        assert np.corrcoef(result.corrected[unit], own[unit])[0, 1] > 0.98
        assert abs(np.corrcoef(result.corrected[unit], own[1 - unit])[0, 1]) < 0.1
        assert abs(np.corrcoef(result.corrected[unit], haze)[0, 1]) < 0.2
    mixed = fluorescence_methods["demixed"](
        ArrayMovie(movie, 10.0), masks, masks.astype(np.float32), demix=False
    )
    assert np.corrcoef(mixed.corrected[0], own[1])[0, 1] > 0.15


def test_rings_hold_no_unit():
    masks = np.zeros((2, 60, 60), bool)
    masks[0, 20:30, 20:30] = masks[1, 20:30, 32:42] = True
    rings = neuropil_rings(masks, gap_px=2, pixels=200)
    assert not (rings & masks.any(axis=0)).any()
    assert not rings[:, 22:28, 30:32].any()
    assert np.all(rings.sum(axis=(1, 2)) >= 200)


def test_no_units_give_empty_traces():
    movie = ArrayMovie(np.zeros((10, 8, 8)), 10.0)
    empty = np.zeros((0, 8, 8))
    result = fluorescence_methods["demixed"](movie, empty.astype(bool), empty)
    assert result.corrected.shape == (0, 10)
    with pytest.raises(ValueError, match="must be"):
        fluorescence_methods["demixed"](movie, np.zeros((1, 9, 8), bool), np.zeros((1, 9, 8)))


def test_wiener_filter_keeps_slow_signals_and_removes_white_noise():
    rng = np.random.default_rng(0)
    slow = gaussian_filter1d(rng.normal(size=4000), 12)
    slow /= slow.std()
    noisy = slow + rng.normal(size=4000)
    clean = wiener(noisy[None])[0]
    assert np.mean((clean - slow) ** 2) < 0.15 * np.mean((noisy - slow) ** 2)


def test_relative_change_of_a_step_on_a_drifting_baseline():
    time = np.arange(6000) / 10.0
    baseline = 100 + 0.05 * time
    trace = baseline.copy()
    trace[3000:3020] *= 1.5
    low = running_baseline(trace[None], 10.0)[0]
    np.testing.assert_allclose(low[600:-600], baseline[600:-600], rtol=0.02)
    assert relative_change(trace[None], 10.0)[0, 3010] == pytest.approx(0.5, abs=0.03)
