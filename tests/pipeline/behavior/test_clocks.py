import numpy as np
import pytest

from pipeline.behavior import ClockMap, resample
from pipeline.errors import DataError


def test_recovers_offset_and_drift_and_reports_the_jitter():
    rng = np.random.default_rng(0)
    rig = 1.7e9 + np.arange(0, 3600, 5.0)
    stream = (rig - 1.7e9) * (1 + 40e-6) + 12.0
    clock = ClockMap.fit(stream + rng.normal(0, 1e-4, len(rig)), rig)
    assert abs(clock.drift_ppm - 40) < 0.2
    assert abs(clock.residual_s - 1e-4) < 3e-5
    wanted = 1.7e9 + np.array([-100.0, 1234.5, 5000.0])
    read = (wanted - 1.7e9) * (1 + 40e-6) + 12.0
    np.testing.assert_allclose(clock.to_rig(read) - wanted, 0, atol=1e-4)
    np.testing.assert_allclose(clock.to_stream(wanted), read, atol=1e-4)


def test_wrong_pairs_do_not_move_the_line():
    stream = np.arange(0, 100.0)
    rig = 2.0 + stream
    rig[[20, 40, 41, 60]] += 0.4
    clock = ClockMap.fit(stream, rig)
    np.testing.assert_allclose(clock.to_rig(50.0), 52.0, atol=1e-9)
    assert not clock.used[[20, 40, 41, 60]].any()
    assert clock.used.sum() == 96
    np.testing.assert_allclose(clock.residuals_s[[20, 60]], 0.4, atol=1e-9)
    assert clock.residual_s < 1e-9


def test_one_pair_gives_the_offset_and_two_the_rate():
    one = ClockMap.fit([3.0], [10.0])
    assert one.to_rig(5.0) == 12.0
    assert one.offset_s == 7.0
    assert one.drift_ppm == 0.0
    two = ClockMap.fit([0.0, 10.0], [100.0, 110.001])
    np.testing.assert_allclose(two.to_rig([0.0, 5.0, 10.0]), [100, 105.0005, 110.001])
    assert one.residual_s == two.residual_s == 0.0


@pytest.mark.parametrize(
    ("stream", "rig"),
    [
        ([], []),
        ([1.0, 2.0], [1.0]),
        ([1.0, np.nan], [1.0, 2.0]),
        ([1.0, 1.0], [1.0, 2.0]),
        ([1.0, 2.0, 1.5], [1.0, 2.0, 3.0]),
        ([1.0, 2.0, 3.0], [5.0, 4.0, 6.0]),
    ],
)
def test_unusable_pairs_are_refused(stream, rig):
    with pytest.raises(DataError):
        ClockMap.fit(stream, rig)


def test_resampling_is_exact_on_lines_and_leaves_gaps():
    time = np.concatenate([np.arange(0, 5, 0.1), np.arange(8, 10, 0.1)])
    values = 3 * time + 1
    values[10:12] = np.nan
    wanted = np.array([-0.5, 0.0, 0.55, 1.04, 4.95, 6.0, 8.05, 9.85, 10.5])
    out = resample(time, values, wanted, max_gap_s=0.35)
    known = np.array([0, 1, 1, 1, 0, 0, 1, 1, 0], bool)
    np.testing.assert_allclose(out[known], 3 * wanted[known] + 1)
    assert np.isnan(out[~known]).all()
    both = resample(time, np.stack([values, -values], 1), wanted, max_gap_s=0.35)
    np.testing.assert_array_equal(both[:, 1], -out)


def test_resampling_without_known_samples_is_nan():
    assert np.isnan(resample([0.0, 1.0], [np.nan, np.nan], [0.5], 2.0)).all()
    with pytest.raises(DataError):
        resample([0.0, 0.0], [1.0, 2.0], [0.0], 1.0)
