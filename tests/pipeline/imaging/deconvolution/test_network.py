import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d

from pipeline.imaging.deconvolution import deconvolvers
from pipeline.imaging.deconvolution.network import FEATURES, describe, hats
from pipeline.imaging.deconvolution.spiking import draw
from pipeline.imaging.deconvolution.train import train
from pipeline.rng import generator

SPIKES = Path(__file__).resolve().parents[5] / "shared" / "data" / "spikes"


def score_of(fps, spikes, fluorescence, **params):
    """Median correlation of activity with spikes per frame over units that fire."""
    activity = deconvolvers["network"](fluorescence, fps, **params).activity
    fires = spikes.sum(axis=1) > 3
    pairs = zip(activity[fires], spikes[fires], strict=True)
    return np.median([np.corrcoef(a, s)[0, 1] for a, s in pairs])


def independent_recording(fps, decay_s, rise_s, noise, *, units=20, seconds=120, seed=0):
    """Spikes at any time, transients summed in closed form: none of the training's simulator."""
    rng = np.random.default_rng(seed)
    frames = int(seconds * fps)
    middle = (np.arange(frames) + 0.5) / fps
    peak = np.log(decay_s / rise_s) * decay_s * rise_s / (decay_s - rise_s)
    height = np.exp(-peak / decay_s) - np.exp(-peak / rise_s)
    spikes, trace = np.zeros((units, frames)), np.zeros((units, frames))
    for unit in range(units):
        for time in rng.uniform(0, seconds, rng.poisson(0.4 * seconds)):
            since = np.maximum(middle - time, 0)
            trace[unit] += (np.exp(-since / decay_s) - np.exp(-since / rise_s)) / height
            spikes[unit, int(time * fps)] += 1
    return spikes, trace, trace + rng.normal(0, noise, trace.shape)


@pytest.mark.parametrize("fps", [4.0, 7.5, 15.0, 30.0, 60.0])
def test_one_network_serves_all_frame_rates_in_register(fps):
    spikes, _, trace = independent_recording(fps, 0.4, 0.02, 0.15)
    activity = deconvolvers["network"](trace, fps).activity
    lagged = [
        np.corrcoef(np.roll(activity, lag, axis=1).ravel(), spikes.ravel())[0, 1]
        for lag in (-2, -1, 0, 1, 2)
    ]
    assert int(np.argmax(lagged)) == 2
    # spikes late in a frame show in the next one only: at 60 Hz half of the frames are uncertain
    assert lagged[2] > 0.6
    rival = deconvolvers["derivative"](trace, fps).activity
    assert lagged[2] > np.corrcoef(rival.ravel(), spikes.ravel())[0, 1]


@pytest.mark.parametrize("indicator", ["GCaMP6s", "GCaMP6f", "jGCaMP8m"])
def test_no_delay_for_slow_and_fast_indicators(indicator):
    rise_s, decay_s = {"GCaMP6s": (0.06, 0.8), "GCaMP6f": (0.013, 0.205), "jGCaMP8m": (0.004, 0.2)}[
        indicator
    ]
    spikes, _, trace = independent_recording(30.0, decay_s, rise_s, 0.1)
    activity = deconvolvers["network"](trace, 30.0, indicator=indicator).activity
    lag = np.arange(-4, 5)
    curve = [
        np.vdot(np.roll(activity, k, axis=1), spikes) for k in lag
    ] - activity.mean() * spikes.sum()
    delay = -(lag * curve).sum() / np.sum(curve)
    assert abs(delay) < 0.35  # frames of 33 ms


def test_denoised_trace_is_closer_to_the_truth_than_a_gaussian():
    _, clean, trace = independent_recording(15.0, 0.6, 0.04, 0.4)
    denoised = deconvolvers["network"](trace, 15.0).denoised

    def r(estimate):
        return np.median([np.corrcoef(a, b)[0, 1] for a, b in zip(estimate, clean, strict=True)])

    best = max(r(gaussian_filter1d(trace, sigma, axis=1)) for sigma in (1, 2, 3))
    assert r(denoised) > best
    assert abs(np.median(denoised - clean)) < 0.2


def test_activity_counts_spikes_to_within_a_factor():
    spikes, _, trace = independent_recording(30.0, 0.4, 0.02, 0.1)
    ratio = deconvolvers["network"](trace, 30.0).activity.sum(axis=1) / spikes.sum(axis=1)
    assert 1 / 3 < np.median(ratio) < 3


def test_noise_alone_gives_next_to_nothing():
    noise = np.random.default_rng(0).normal(size=(10, 3000)).astype(np.float32)
    activity = deconvolvers["network"](noise, 30.0).activity
    assert activity.sum(axis=1).max() < 0.3 * 100  # 0.3 spikes a second


def test_hats_are_averages_around_their_knots_at_every_rate():
    for fps in (4.0, 11.0, 30.0, 60.0):
        basis = hats(fps)
        assert basis.shape[1] % 2 == 1
        np.testing.assert_allclose(basis.sum(axis=1), 1, atol=1e-5)


def test_hats_mean_the_same_time_at_every_rate():
    def middle(fps):
        basis = hats(fps)
        return basis @ (np.arange(basis.shape[1]) - basis.shape[1] // 2) / fps

    np.testing.assert_allclose(middle(30.0), middle(400.0), atol=0.012)


def test_simulated_spikes_have_transients_of_height_one():
    recording = draw(generator(1, "test"), 300, 600, 30.0)
    assert recording.trace.shape == recording.spikes.shape == (300, 600)
    assert (recording.spikes >= 0).all()
    # after a silent second or more, one spike alone: the peak that follows is 1 on average
    heights = []
    for clean, spikes, decay in zip(
        recording.clean, recording.spikes, recording.decay_s, strict=True
    ):
        for frame in np.flatnonzero(spikes == 1):
            quiet = spikes[max(0, frame - 150) : frame].sum() == 0 and frame >= 150
            if quiet and decay < 0.5 and spikes[frame + 1 : frame + 8].sum() == 0:
                heights.append(clean[frame : frame + 8].max())
    assert len(heights) > 10
    assert 0.75 < np.median(heights) < 1.15


@pytest.mark.numerical
def test_simulation_and_training_repeat_exactly():
    one, two = (draw(generator(3, "x"), 5, 200, 12.0) for _ in range(2))
    np.testing.assert_array_equal(one.trace, two.trace)
    states = [train(steps=3, units=4, frames=128, seed=7, log=False).state_dict() for _ in range(2)]
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name])


def test_training_learns():
    recording = draw(generator(0, "held out"), 40, 512, 20.0)
    told = describe(recording.trace, 20.0)
    assert told.shape == (40, FEATURES)
    fires = recording.spikes.sum(axis=1) > 3

    def correlation(rate):
        pairs = zip(rate[fires], recording.spikes[fires], strict=True)
        return np.nanmean([np.corrcoef(a, s)[0, 1] for a, s in pairs])

    def after(steps):
        network = train(steps=steps, units=16, frames=256, log=False)
        with torch.inference_mode():
            rate, _ = network(torch.from_numpy(recording.trace), torch.from_numpy(told), 20.0)
        return correlation(rate.numpy())

    learned = after(60)
    assert learned > correlation(recording.trace) + 0.15
    assert learned > after(1) + 0.05


@pytest.mark.skipif(not SPIKES.is_dir(), reason="needs recordings with true spikes")
@pytest.mark.parametrize("fps", [30.0, 7.5])
def test_beats_derivative_and_oasis_on_real_spikes(fps):
    path = Path(__file__).resolve().parents[4] / "benchmarks" / "imaging" / "deconvolution.py"
    spec = importlib.util.spec_from_file_location("benchmark_deconvolution", path)
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    methods = {name: (name, {}) for name in ("network", "derivative", "oasis_ar1", "oasis_ar2")}
    table = benchmark.accuracy(SPIKES, fps, methods)
    if fps == 30.0:
        assert table["network"]["all"]["r40"] >= 0.72
        assert table["network"]["all"]["r100"] >= 0.82
    for rival in ("derivative", "oasis_ar1", "oasis_ar2"):
        for data_set, scores in table[rival].items():
            assert table["network"][data_set]["r40"] > scores["r40"]
            assert table["network"][data_set]["r100"] > scores["r100"]
