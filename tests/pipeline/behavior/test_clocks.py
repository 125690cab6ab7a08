import re

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


@pytest.mark.parametrize("at", [3, 90, 180, 288, 340, 357])
@pytest.mark.parametrize("height", [-0.05, 1.0])
def test_a_step_of_a_clock_is_refused_wherever_it_lies(at, height):
    rng = np.random.default_rng(at)
    stream = np.arange(360) * 10.0
    rig = stream * (1 + 5e-5) + rng.normal(0, 1e-3, 360)
    rig[at:] += height
    with pytest.raises(DataError, match="clock steps") as caught:
        ClockMap.fit(stream, rig)
    found = re.search(r"found ([+-][\d.e-]+) s between ([\d.]+) and", str(caught.value))
    assert float(found[1]) == pytest.approx(height, abs=5e-3)
    assert float(found[2]) == stream[at - 1]


def test_a_clock_that_steps_there_and_back_is_refused():
    stream = np.arange(360) * 10.0
    with pytest.raises(DataError, match="clock steps"):
        ClockMap.fit(stream, stream + np.where((stream > 1000) & (stream < 2500), 0.2, 0))


def test_drift_is_no_step_and_shows_in_the_residual():
    rng = np.random.default_rng(0)
    stream = np.arange(360) * 10.0
    for bend in (5e-9, 1e-8, 1e-7):
        clock = ClockMap.fit(
            stream, stream + bend * (stream - 1800) ** 2 + rng.normal(0, 1e-4, 360)
        )
        assert clock.used.all()
        assert clock.residual_s == pytest.approx(0.298 * bend * 1800**2, rel=0.05)


def test_scattered_outliers_are_counted_and_are_no_steps():
    rng = np.random.default_rng(1)
    stream = np.arange(200) * 10.0
    rig = 1.7e9 + stream * (1 - 3e-5) + rng.normal(0, 1e-3, 200)
    wrong = rng.permutation(200)[:24]
    clock = ClockMap.fit(stream, rig + np.isin(np.arange(200), wrong) * rng.uniform(-4, 4, 200))
    assert set(wrong) <= set(np.flatnonzero(~clock.used)) | set(wrong[:2])
    assert (~clock.used).sum() <= 26
    np.testing.assert_allclose(clock.to_rig(stream), rig, atol=5e-3)
