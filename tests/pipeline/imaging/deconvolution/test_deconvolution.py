import numpy as np
import pytest
from scipy.optimize import nnls

from pipeline.errors import DataError
from pipeline.imaging.deconvolution import deconvolvers
from pipeline.imaging.deconvolution.baseline import noise_level, prepare, slow_baseline
from pipeline.imaging.deconvolution.indicators import estimate_decay, kinetics_of

METHODS = sorted(deconvolvers)
MODELS = ("oasis_ar1", "oasis_ar2")


def transients(spikes, fps, rise_s, decay_s):
    """Convolve (units, frames) with a difference of exponentials of height 1, in double time."""
    t = np.arange(0, 8 * decay_s, 1 / fps)
    kernel = np.exp(-t / decay_s) - (np.exp(-t / rise_s) if rise_s else 0)
    kernel /= kernel.max()
    return np.stack([np.convolve(row, kernel)[: len(row)] for row in spikes])


def recording(units=6, frames=1500, fps=30.0, noise=0.15, decay_s=0.5, rise_s=0.02, seed=0):
    rng = np.random.default_rng(seed)
    spikes = rng.poisson(0.6 / fps, (units, frames)).astype(float)
    clean = transients(spikes, fps, rise_s, decay_s)
    return spikes, clean, clean + rng.normal(0, noise, clean.shape)


@pytest.mark.parametrize("method", METHODS)
def test_any_number_of_frames_nan_and_constant_units_are_legal(method):
    rng = np.random.default_rng(0)
    for units, frames in [(0, 50), (3, 0), (3, 1), (3, 2), (3, 5), (4, 300)]:
        trace = rng.normal(size=(units, frames)).astype(np.float32)
        if units:
            trace[0] = np.nan
            trace[1] = -7.25
        if frames == 300:
            trace[2, 40:60] = np.nan
            trace[3, 7] = np.inf
        result = deconvolvers[method](trace, 8.0)
        for array in (result.activity, result.denoised):
            assert array.shape == (units, frames)
            assert array.dtype == np.float32
        assert np.isfinite(result.denoised).all()
        np.testing.assert_array_equal(np.isnan(result.activity), ~np.isfinite(trace))  # missing
        assert (result.activity[np.isfinite(trace)] >= 0).all()
        assert not result.activity[1:2].any()
        if units and frames:
            np.testing.assert_array_equal(result.denoised[1], -7.25)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.numerical
def test_scale_and_offset_of_the_trace_do_not_matter(method):
    _, _, trace = recording()
    base = deconvolvers[method](trace, 30.0)
    moved = deconvolvers[method](250 * trace - 900, 30.0)
    factor = 250 if base.activity_unit == "trace/frame" else 1
    scale = base.activity.max()
    np.testing.assert_allclose(moved.activity / factor, base.activity, atol=2e-3 * scale)
    np.testing.assert_allclose(moved.denoised, 250 * base.denoised - 900, atol=0.5)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.numerical
def test_units_and_their_number_do_not_influence_each_other(method, monkeypatch):
    _, _, trace = recording(units=40, frames=700)
    # by default, "rise" takes one decay for all units: their median
    params = {"decay_s": 0.5} if method == "rise" else {}
    monkeypatch.setenv("NUMBA_NUM_THREADS", "1")
    together = deconvolvers[method](trace, 15.0, **params).activity
    monkeypatch.setenv("NUMBA_NUM_THREADS", "3")
    threaded = deconvolvers[method](trace, 15.0, **params).activity
    np.testing.assert_array_equal(together, threaded)
    alone = deconvolvers[method](trace[17:18], 15.0, **params).activity
    np.testing.assert_allclose(alone[0], together[17], atol=1e-4 * together.max())


@pytest.mark.parametrize("method", METHODS)
def test_finds_spikes_and_is_in_register(method):
    # ten steps per frame: spikes anywhere in it, exposure over all of it
    fine, clean, _ = recording(frames=15_000, fps=300.0, rise_s=None, decay_s=0.4)
    spikes, exposed = (x.reshape(6, 1500, 10) for x in (fine, clean))
    spikes, exposed = spikes.sum(axis=2), exposed.mean(axis=2)
    trace = exposed + np.random.default_rng(1).normal(0, 0.08, exposed.shape)
    params = {"decay_s": 0.4} if method in MODELS else {}
    if method == "rise":
        params = {"decay_s": 0.4, "rise_s": 0.002}
    activity = deconvolvers[method](trace, 30.0, **params).activity
    lagged = [
        np.corrcoef(np.roll(activity, lag, axis=1).ravel(), spikes.ravel())[0, 1]
        for lag in (-2, -1, 0, 1, 2)
    ]
    # autoregressive models sample at the starts of frames: up to a frame late
    assert int(np.argmax(lagged)) in ((1, 2) if method in MODELS else (2,))
    assert max(lagged) > 0.55


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("trace", "fps"),
    [
        (np.zeros(10), 10.0),
        (np.zeros((2, 3, 4)), 10.0),
        (np.array([["a"]]), 10.0),
        (np.zeros((2, 9)), 0.0),
        (np.zeros((2, 9)), np.nan),
    ],
)
def test_unusable_traces_are_refused(method, trace, fps):
    with pytest.raises(DataError):
        deconvolvers[method](trace, fps)


def penalised(trace, slow, fast, penalty):
    """Solve min |y - K s|^2 / 2 + penalty * sum(s) by non-negative least squares; return K s, s."""
    n = len(trace)
    k = np.arange(n)
    kernel = (slow ** (k + 1) - fast ** (k + 1)) / (slow - fast) if fast else slow**k
    design = np.tril(kernel[np.subtract.outer(k, k).clip(0)])
    # the penalty's gradient, put into the data: K' shift = penalty
    shift = np.linalg.solve(design.T, np.full(n, penalty))
    jumps, _ = nnls(design, trace - shift, maxiter=50 * n)
    return design @ jumps, jumps


@pytest.mark.parametrize("penalty", [0.0, 1.5])
def test_ar1_is_the_exact_minimum(penalty):
    _, _, trace = recording(units=3, frames=250, rise_s=None, decay_s=0.3, seed=3)
    trace += 0.02 * np.arange(250) / 250
    ready = prepare(trace, 30.0)
    result = deconvolvers["oasis_ar1"](trace, 30.0, decay_s=0.3, sparsity=penalty)
    for unit in range(3):
        best, jumps = penalised(ready.normal[unit].astype(float), np.exp(-1 / 9), 0, penalty)
        got = (result.denoised[unit] - ready.baseline[unit]) / ready.noise[unit]
        np.testing.assert_allclose(got, best, atol=2e-3)
        # the first jump is the calcium left from before the recording: no activity
        np.testing.assert_allclose(
            result.activity[unit, 1:] / ready.noise[unit], jumps[1:], atol=5e-3
        )


def test_ar2_comes_close_to_the_exact_minimum():
    _, _, trace = recording(units=3, frames=300, rise_s=0.06, decay_s=0.5, seed=4)
    ready = prepare(trace, 30.0)
    result = deconvolvers["oasis_ar2"](trace, 30.0, rise_s=0.06, decay_s=0.5)
    for unit in range(3):
        y = ready.normal[unit].astype(float)
        best, _ = penalised(y, np.exp(-1 / 15), np.exp(-1 / 1.8), 0.0)
        got = (result.denoised[unit] - ready.baseline[unit]) / ready.noise[unit]
        assert np.mean((y - got) ** 2) < 1.35 * np.mean((y - best) ** 2)


@pytest.mark.parametrize("method", MODELS)
def test_hard_constraint_leaves_no_small_jump(method):
    _, _, trace = recording(noise=0.2)
    result = deconvolvers[method](trace, 30.0, decay_s=0.5, constraint="hard", min_jump=4.0)
    jumps = result.activity / result.noise[:, None]
    assert (jumps > 0).any()
    # a pool that is fitted again after its neighbor has grown may fall a little below
    assert np.quantile(jumps[jumps > 1e-4], 0.02) > 3.9
    soft = deconvolvers[method](trace, 30.0, decay_s=0.5, constraint="soft").activity
    assert (result.activity > 0).sum() < 0.5 * (soft > 0).sum()


def test_noise_constraint_leaves_the_noise_as_residual():
    _, _, trace = recording(units=8, frames=3000, noise=0.2, rise_s=None)
    free = deconvolvers["oasis_ar1"](trace, 30.0, decay_s=0.5)
    result = deconvolvers["oasis_ar1"](trace, 30.0, decay_s=0.5, constraint="noise")
    residual = np.mean((trace - result.denoised) ** 2, axis=1) / result.noise**2
    np.testing.assert_allclose(residual, 1, atol=0.03)
    assert result.activity.sum() < free.activity.sum()


@pytest.mark.parametrize("method", MODELS)
def test_bad_parameters_are_refused_with_a_hint(method):
    trace = np.zeros((1, 20), np.float32)
    with pytest.raises(ValueError, match="soft"):
        deconvolvers[method](trace, 10.0, constraint="firm")
    with pytest.raises(ValueError, match="decay_s"):
        deconvolvers[method](trace, 10.0, decay_s=-1.0)
    with pytest.raises(ValueError, match="GCaMP6s"):
        deconvolvers[method](trace, 10.0, indicator="GCaMP99")


@pytest.mark.parametrize("decay_s", [0.2, 0.6, 1.2])
def test_decay_is_estimated_from_the_trace(decay_s):
    _, _, trace = recording(units=10, frames=6000, noise=0.2, rise_s=None, decay_s=decay_s, seed=5)
    found = np.median(estimate_decay(prepare(trace, 30.0).normal, 30.0))
    assert 0.75 < found / decay_s < 1.3


def test_noise_level_is_that_of_the_noise():
    _, _, trace = recording(units=20, frames=3000, noise=0.3, decay_s=0.8)
    np.testing.assert_allclose(np.median(noise_level(trace)), 0.3, rtol=0.06)


def test_baseline_follows_a_drift():
    drift = np.linspace(-5, 20, 6000)[None] * np.ones((2, 1))
    noisy = drift + np.random.default_rng(0).normal(0, 0.1, drift.shape)
    error = slow_baseline(noisy, 30.0) - drift
    # the percentile of a linear drift over a window lies a constant below its middle
    assert np.ptp(error[:, 900:-900]) < 0.25


def test_names_of_indicators_are_forgiving():
    assert kinetics_of("gcamp6F") == kinetics_of("GCaMP6f")
    assert kinetics_of("GCaMP8m") == kinetics_of("jGCaMP8m")
