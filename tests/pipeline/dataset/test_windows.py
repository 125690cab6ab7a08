import numpy as np
import pytest

from pipeline.dataset.windows import leak, response_windows
from pipeline.errors import DataError
from pipeline.imaging.deconvolution import deconvolvers

boxcar, hamming = response_windows["boxcar"], response_windows["hamming2019"]


def test_boxcar_of_constant_activity_is_rate_times_length_for_any_onset_and_delay():
    fps = 12.3
    times = 5 + np.arange(400) / fps
    onset = np.random.default_rng(0).uniform(8, 30, 50)
    response = boxcar(np.full((3, 400), 2.0), times, onset, 0.5, np.array([0, 0.03, 0.07]))
    np.testing.assert_allclose(response, 2.0 * fps * 0.5, rtol=1e-5)


def test_boxcar_counts_the_fraction_of_a_frame_that_lies_in_the_window():
    times = np.arange(100) * 0.1
    activity = np.zeros((1, 100))
    activity[0, 50] = 1.0  # stands for 4.95 to 5.05 s
    onset = 5.0 - 0.05 + np.array([-0.06, -0.05, -0.02, 0.0, 0.03, 0.05, 0.06])
    expected = [1, 1, 0.7, 0.5, 0.2, 0, 0]
    np.testing.assert_allclose(boxcar(activity, times, onset)[:, 0], expected, atol=1e-6)
    delayed = boxcar(activity, times, onset, None, np.array([0.02]))
    np.testing.assert_allclose(delayed[:, 0], [1, 1, 0.9, 0.7, 0.4, 0.2, 0.1], atol=1e-6)


def test_boxcar_is_additive_over_adjacent_windows():
    rng = np.random.default_rng(1)
    activity, times = rng.random((4, 300)), np.arange(300) / 9.7
    onset = rng.uniform(2, 25, 20)
    whole = boxcar(activity, times, onset, start_s=0.1, length_s=0.7)
    parts = boxcar(activity, times, onset, start_s=0.1, length_s=0.3)
    parts = parts + boxcar(activity, times, onset, start_s=0.4, length_s=0.4)
    np.testing.assert_allclose(whole, parts, rtol=1e-5)


def test_length_none_takes_the_duration_of_each_trial():
    times = np.arange(100) * 0.1
    duration = np.array([0.2, 1.0])
    response = boxcar(np.ones((1, 100)), times, np.array([3.0, 5.0]), duration, length_s=None)
    np.testing.assert_allclose(response[:, 0], duration * 10, rtol=1e-5)


@pytest.mark.parametrize("name", ["boxcar", "hamming2019"])
def test_response_is_nan_where_the_window_leaves_the_recording(name):
    times = 100 + np.arange(50) * 0.1
    onset = np.array([95.0, 99.5, 102.0, 104.8, 110.0])
    response = response_windows[name](np.ones((2, 50)), times, onset)
    np.testing.assert_array_equal(np.isnan(response).all(1), [True, True, False, True, True])


def test_boxcar_is_nan_in_a_gap_of_the_recording_and_right_around_it():
    times = np.concatenate([np.arange(50) * 0.1, 8 + np.arange(50) * 0.1])
    response = boxcar(np.ones((1, 100)), times, np.array([3.0, 4.7, 6.0, 7.7, 9.0]))
    np.testing.assert_array_equal(np.isnan(response[:, 0]), [False, True, True, True, False])
    np.testing.assert_allclose(response[[0, 4], 0], 5.0, rtol=1e-5)


def test_hamming_is_nan_where_its_filter_meets_a_gap_or_a_missing_frame():
    times = np.concatenate([np.arange(60) * 0.1, 9 + np.arange(60) * 0.1])
    onset = np.array([3.0, 4.9, 5.6, 7.0, 8.6, 9.1, 11.0])
    response = hamming(np.ones((1, 120)), times, onset)[:, 0]
    np.testing.assert_array_equal(np.isnan(response), [False, False, True, True, True, True, False])
    np.testing.assert_allclose(response[[0, 1, 6]], 1.0, rtol=1e-5)
    activity = np.ones((2, 100))
    activity[1, 50] = np.nan
    even = hamming(activity, np.arange(100) * 0.1, np.array([3.0, 4.3, 4.7, 5.1, 6.0]))
    assert np.isfinite(even[:, 0]).all()
    np.testing.assert_array_equal(np.isnan(even[:, 1]), [False, True, True, True, False])


@pytest.mark.parametrize("name", ["boxcar", "hamming2019"])
@pytest.mark.parametrize("method", ["oasis_ar1", "derivative"])
def test_trials_on_missing_frames_have_no_response_through_deconvolution(name, method):
    rng = np.random.default_rng(0)
    fps, frames = 10.0, 600
    trace = (200 + rng.normal(0, 5, (3, frames))).astype(np.float32)
    trace[:, 300:330] = np.nan
    activity = deconvolvers[method](trace, fps).activity
    onset = np.array([10.0, 30.5, 31.0, 32.0, 50.0])
    response = response_windows[name](activity, np.arange(frames) / fps, onset, np.full(5, 0.5))
    expected = np.tile([[False], [True], [True], [True], [False]], 3)
    np.testing.assert_array_equal(np.isnan(response), expected)


def test_hamming_leaks_as_published_and_boxcar_does_not():
    # REFERENCE 1.4: sampled on a frame at 8 Hz, 87 % inside of 50-550 ms and 6.7 % before onset
    published = leak("hamming2019", fps=8.0, phase=0.6)
    assert published["window"] == pytest.approx(0.866, abs=0.002)
    assert published["before_onset"] == pytest.approx(0.067, abs=0.001)
    assert published["after"] == pytest.approx(0.067, abs=0.001)
    for phase in np.linspace(0, 1, 7):
        ours = leak("boxcar", fps=30.0, phase=phase)
        assert ours["before_onset"] == pytest.approx(0, abs=1e-6)
        assert ours["window"] > 1 - 1.01 / 30  # at most half a frame at either end


def test_hamming_of_a_slow_ramp_is_the_ramp_at_300_ms():
    times = np.arange(400) / 8.0
    onset, delay = np.array([10.0, 20.03]), np.array([0.0, 0.05])
    response = hamming(np.tile(times, (2, 1)), times, onset, None, delay)
    expected = onset[:, None] + 0.3 - delay
    np.testing.assert_allclose(response, expected, rtol=1e-5)


def test_frame_times_that_do_not_fit_are_refused():
    with pytest.raises(DataError, match="frame_times_s"):
        boxcar(np.ones((2, 50)), np.arange(49), np.array([3.0]))
    with pytest.raises(DataError, match="rise"):
        boxcar(np.ones((2, 50)), np.zeros(50), np.array([3.0]))
