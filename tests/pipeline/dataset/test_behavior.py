import numpy as np
import pytest

from pipeline.dataset import behavior_windows


def _streams():
    time = np.arange(0, 60, 1 / 20)
    return {
        "pupil_time_s": time,
        "center_x_px": 80 + 0.1 * time,
        "center_y_px": 60 - 0.2 * time,
        "radius_px": 10 + 0.5 * time,
        "treadmill_time_s": np.arange(0, 60, 1 / 50),
        "speed_cm_s": np.full(3000, -3.0),
    }


@pytest.mark.parametrize("name", ["boxcar", "hamming2019"])
def test_ramps_give_their_value_at_300_ms_and_their_slope(name):
    onset = np.array([5.0, 20.02, 41.33])
    state = behavior_windows[name](**_streams(), onset_s=onset)
    at = onset + 0.3
    np.testing.assert_allclose(state.behavior[:, 0], 10 + 0.5 * at, atol=0.02)
    np.testing.assert_allclose(state.behavior[:, 1], 0.5, rtol=1e-6)
    np.testing.assert_allclose(state.behavior[:, 2], 3.0)
    np.testing.assert_allclose(state.pupil_center[:, 0], 80 + 0.1 * at, atol=0.01)
    np.testing.assert_allclose(state.pupil_center[:, 1], 60 - 0.2 * at, atol=0.01)


def test_a_blink_over_the_window_is_nan_and_a_short_one_is_not():
    streams = _streams()
    time = streams["pupil_time_s"]
    for name in ("center_x_px", "center_y_px", "radius_px"):
        streams[name] = streams[name].copy()
        streams[name][(time > 10) & (time < 11)] = np.nan
        streams[name][(time > 20.1) & (time < 20.3)] = np.nan
    state = behavior_windows["boxcar"](**streams, onset_s=np.array([10.1, 20.0]))
    assert np.isnan(state.behavior[0, :2]).all()
    assert np.isnan(state.pupil_center[0]).all()
    assert state.behavior[0, 2] == 3.0
    assert np.isfinite(state.behavior[1]).all()
    assert state.behavior[1, 1] == pytest.approx(0.5)


def test_a_missing_stream_is_nan_throughout_and_a_trial_beyond_the_end_too():
    streams = _streams() | {"treadmill_time_s": None, "speed_cm_s": None}
    state = behavior_windows["boxcar"](**streams, onset_s=np.array([5.0, 90.0]))
    assert np.isnan(state.behavior[:, 2]).all()
    assert np.isfinite(state.behavior[0, :2]).all()
    assert np.isnan(state.behavior[1]).all()
    nothing = dict.fromkeys(streams)
    state = behavior_windows["boxcar"](**nothing, onset_s=np.array([5.0]))
    assert np.isnan(state.behavior).all()
    assert np.isnan(state.pupil_center).all()
