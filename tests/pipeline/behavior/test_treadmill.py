import numpy as np
import pytest

from pipeline.behavior import running_periods, treadmill_methods
from pipeline.behavior.treadmill import unwrap_counts
from pipeline.errors import DataError

speed_of = treadmill_methods[treadmill_methods.default]
DIAMETER_CM, COUNTS = 16.5, 4096


def counts_of(position_cm, first=0, signed=False):
    counts = first + np.floor(position_cm / (np.pi * DIAMETER_CM) * COUNTS).astype(np.int64)
    counts %= 2**32
    return np.where(counts >= 2**31, counts - 2**32, counts) if signed else counts


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("direction", [1, -1])
def test_constant_speed_survives_the_wrap(signed, direction):
    time = np.arange(0, 20, 0.02)
    near = 2**31 if signed else 2**32
    counts = counts_of(direction * 12.0 * time, near - direction * 500, signed)
    assert np.abs(np.diff(counts)).max() > 2**31  # it does wrap
    result = speed_of(time, counts, DIAMETER_CM, COUNTS)
    np.testing.assert_allclose(result.speed_cm_s, direction * 12.0, atol=0.15)


def test_follows_a_changing_speed():
    time = np.arange(0, 30, 0.02)
    position = 10 * time - 10 / (2 * np.pi * 0.3) * np.sin(2 * np.pi * 0.3 * time)
    truth = 10 - 10 * np.cos(2 * np.pi * 0.3 * time)
    result = speed_of(time, counts_of(position), DIAMETER_CM, COUNTS)
    np.testing.assert_array_equal(result.time_s, time)
    # a Gaussian of 0.1 s keeps exp(-(2 pi 0.3 0.1)^2 / 2) = 0.982 of the modulation
    assert np.abs(result.speed_cm_s - truth)[50:-50].max() < 0.4


def test_missing_packets_are_a_gap_and_not_a_ramp():
    time = np.arange(0, 20, 0.02)
    keep = (time < 8) | (time > 11)
    result = speed_of(time[keep], counts_of(5 * time)[keep], DIAMETER_CM, COUNTS)
    inside = (result.time_s > 8) & (result.time_s < 11)
    assert inside.any()
    assert np.isnan(result.speed_cm_s[inside]).all()
    np.testing.assert_allclose(result.speed_cm_s[~inside], 5, atol=0.3)
    assert (np.diff(result.time_s) > 0).all()


def test_a_reset_counter_is_a_gap_and_not_a_sprint():
    time = np.arange(0, 10, 0.02)
    counts = counts_of(5 * time, first=2**20)
    counts[250:] -= counts[250]
    speed = speed_of(time, counts, DIAMETER_CM, COUNTS).speed_cm_s
    assert np.isnan(speed).sum() == 1
    np.testing.assert_allclose(speed[~np.isnan(speed)], 5, atol=0.3)


def test_uneven_samples_do_not_bias_the_speed():
    rng = np.random.default_rng(1)
    time = np.cumsum(rng.uniform(0.01, 0.03, 800))
    result = speed_of(time, counts_of(20 * time), DIAMETER_CM, COUNTS)
    assert abs(np.nanmean(result.speed_cm_s) - 20) < 0.05


def test_few_samples_and_lost_readings_are_legal():
    assert len(speed_of([], [], DIAMETER_CM, COUNTS).speed_cm_s) == 0
    assert np.isnan(speed_of([1.0], [5], DIAMETER_CM, COUNTS).speed_cm_s).all()
    time = np.arange(0, 4, 0.02)
    counts = counts_of(5 * time).astype(float)
    counts[100] = np.nan
    result = speed_of(time, counts, DIAMETER_CM, COUNTS)
    np.testing.assert_allclose(result.speed_cm_s, 5, atol=0.3)


@pytest.mark.parametrize(
    ("time", "counts"),
    [([0, 1], [1]), ([0, 0], [1, 2]), ([0, 1], [1.5, 2.0]), ([0, 1], [0, 2**33])],
)
def test_unusable_streams_are_refused(time, counts):
    with pytest.raises(DataError):
        speed_of(time, counts, DIAMETER_CM, COUNTS)


def test_a_wheel_without_size_is_refused():
    with pytest.raises(ValueError, match="wheel"):
        speed_of([0.0, 1.0], [0, 1], 0.0, COUNTS)


def test_unwrapping_takes_the_shortest_way():
    np.testing.assert_array_equal(unwrap_counts([2**32 - 2, 1, 2**32 - 1]), [0, 3, 1])
    np.testing.assert_array_equal(unwrap_counts([2**31 - 1, -(2**31), 2**31 - 1]), [0, 1, 0])


def test_running_periods_join_pauses_but_not_gaps():
    time = np.arange(0, 40, 0.1)
    speed = np.zeros(len(time))
    for begin, end in ((2, 5), (6, 9), (15, 15.5), (20, 24), (25, 28)):
        speed[(time >= begin) & (time < end)] = -8.0
    speed[(time > 24.3) & (time < 24.6)] = np.nan
    periods = running_periods(time, speed)
    np.testing.assert_allclose(periods, [[2, 8.9], [20, 23.9], [25, 27.9]], atol=0.11)
    assert running_periods(time, np.zeros(len(time))).shape == (0, 2)


def test_a_wheel_that_is_logged_only_while_it_moves_stands_still_between(tmp_path):
    """A row for every count: nothing is missing in a pause, however long."""
    time = np.concatenate([1 + np.arange(100) * 0.02, 64 + np.arange(100) * 0.02])
    result = speed_of(time, np.arange(200), DIAMETER_CM, COUNTS)
    pause = (result.time_s > 3.5) & (result.time_s < 63.5)
    assert np.isfinite(result.speed_cm_s).all()
    assert np.abs(result.speed_cm_s[pause]).max() < 0.01
    assert np.diff(result.time_s).max() < 0.1  # so that interpolation bridges nothing
    moving = (result.time_s > 1.5) & (result.time_s < 2.5)
    turn = np.pi * DIAMETER_CM / COUNTS
    np.testing.assert_allclose(result.speed_cm_s[moving], turn / 0.02, rtol=0.05)
    reset = np.concatenate([np.arange(100), np.arange(100)])  # between trials: unknown
    speed = speed_of(time, reset, DIAMETER_CM, COUNTS).speed_cm_s
    assert np.isnan(speed).sum() == 1
    lone = speed_of([0, 1, 1.1, 1.2, 9, 30], [0, 0, 5, 9, 9, 9], DIAMETER_CM, COUNTS)
    assert np.isfinite(lone.speed_cm_s).all()
    assert abs(lone.speed_cm_s[-1]) < 1e-9
