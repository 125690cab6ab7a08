import numpy as np
import pytest

from pipeline.closed_loop.checks.confirmation import day_gain, predicted_measured
from pipeline.closed_loop.checks.drift import slow_drift
from pipeline.closed_loop.verdict.outcome import outcome_methods
from pipeline.closed_loop.verdict.outcome_file import load_outcome, save_outcome


def test_a_steady_drift_is_found_under_breathing_and_jumps():
    rng = np.random.default_rng(0)
    fps, n = 10.0, 18_000  # half an hour
    hours = np.arange(n) / fps / 3600
    jump = np.where(rng.random(n) < 0.01, 20.0, 0.0)
    found = slow_drift(12 * hours + rng.normal(0, 1, n) + jump, np.sin(np.arange(n)), fps)
    assert found.y_um_h == pytest.approx(12.0, abs=0.5)
    assert found.x_um_h == pytest.approx(0.0, abs=0.5)
    assert found.range_um == pytest.approx(3.0, abs=0.3)
    assert np.isnan(slow_drift([1.0], [2.0], fps).y_um_h)


def test_gain_of_a_day_is_found_and_leaves_the_order_of_neurons():
    rng = np.random.default_rng(1)
    image = np.tile(np.arange(20), 10)
    mean = rng.gamma(2, 1, (20, 30))
    gain = rng.uniform(0.5, 2, 30)
    one = mean[image] + rng.normal(0, 0.1, (200, 30))
    two = gain * mean[image] + rng.normal(0, 0.1, (200, 30))
    np.testing.assert_allclose(day_gain(one, image, two, image), gain, rtol=0.05)
    assert np.isnan(day_gain(one, image, two, image + 100)).all()
    predicted = rng.uniform(1, 2, 30)
    found = predicted_measured(predicted, 0.7 * gain * predicted, gain)
    assert found.correlation_normalized == pytest.approx(1.0)
    assert found.correlation < 0.9
    assert found.ratio_normalized == pytest.approx(0.7)


def test_an_outcome_comes_back_from_its_file_as_it_was(tmp_path):
    rng = np.random.default_rng(2)
    own = {kind: [f"{kind}{i}" for i in range(6)] for kind in ("mei", "rf")}
    own["rf"][2] = None
    image = np.repeat([name for names in own.values() for name in names if name], 8)
    result = outcome_methods["welch_bh"](rng.gamma(2, 1, (len(image), 6)), image, own)
    save_outcome(result, tmp_path / "verdict.npz")
    again = load_outcome(tmp_path / "verdict.npz")
    for name in ("responses", "comparisons", "populations"):
        ours, theirs = getattr(result, name), getattr(again, name)
        assert list(ours.columns) == list(theirs.columns)
        for column in ours:
            np.testing.assert_array_equal(ours[column].to_numpy(), theirs[column].to_numpy())
    np.testing.assert_array_equal(again.confusions["rf"].matrix, result.confusions["rf"].matrix)
    assert again.kinds == result.kinds


def test_a_drift_of_less_than_three_chunks_is_not_measured():
    still = np.zeros(200)
    found = slow_drift(still, still, 10.0)  # 20 s: one chunk
    assert np.isnan([found.y_um_h, found.x_um_h, found.range_um]).all()
    long = slow_drift(np.zeros(2000), np.zeros(2000), 10.0)
    assert (long.y_um_h, long.x_um_h, long.range_um) == (0.0, 0.0, 0.0)
