"""Counters as rigs write them, real ones too."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.behavior import (
    camera_seconds,
    lost_frames,
    single_rows,
    treadmill_methods,
    unwrapped,
)
from pipeline.behavior.counters import wrap_of
from pipeline.errors import DataError

ABOVE = Path(__file__).resolve().parents
REAL = next((p for a in ABOVE if (p := a / "shared" / "data" / "real" / "rig").is_dir()), None)
real = pytest.mark.skipif(REAL is None, reason="the folder of real files is not here")


def test_a_camera_that_wraps_every_128_seconds_counts_on():
    true = np.arange(6000) / 30
    ticks = np.rint(true * 8000 * 3072).astype(np.int64)
    cycle, tick = np.divmod(ticks, 3072)
    second, cycle = np.divmod(cycle, 8000)
    counter = ((second + 90) % 128 << 25) | (cycle << 12) | tick
    np.testing.assert_allclose(camera_seconds(counter), true, atol=1e-6)


@pytest.mark.parametrize("counter", [[-1, 5], [1 << 33], [8100 << 12], [1.5], ["a"]])
def test_numbers_of_another_kind_are_refused(counter):
    with pytest.raises(DataError, match="camera's time stamps"):
        camera_seconds(np.array(counter))


def test_rows_that_share_a_time_are_one_and_a_restart_is_refused():
    time, counts = single_rows([0, 1, 1, 2, 2, 2], [5, 6, 7, 8, 9, 10])
    assert (time.tolist(), counts.tolist()) == ([0, 1, 2], [5, 7, 10])
    with pytest.raises(DataError, match=r"time goes back; .* 2 s, then 0\.5 s"):
        single_rows([0, 1, 2, 0.5], [1, 2, 3, 4])


def test_lost_frames_are_counted_where_they_are():
    time = np.delete(np.arange(100) / 30, [40, 41, 70])
    lost = lost_frames(time)
    assert (np.flatnonzero(lost).tolist(), lost.sum()) == ([39, 67], 3)


@real
def test_real_camera_of_32_bits():
    rows = (REAL / "ibl_body_camera_timestamps.ssv").read_text().split("\n")
    counter = np.array([int(row.split()[1]) for row in rows if row.strip()])
    time = camera_seconds(counter)
    assert len(time) == 6001
    assert time[-1] == pytest.approx(198.604, abs=1e-3)
    assert np.median(np.diff(time)) == pytest.approx(0.033125, abs=1e-4)
    assert lost_frames(time).sum() == 0
    assert lost_frames(np.load(REAL / "ibl_camera_times.npy")).sum() == 0


@real
def test_real_wheel_whose_rows_share_milliseconds():
    rows = [r.split() for r in (REAL / "iblrig_encoder_2018-10-02.ssv").read_text().split("\n")]
    rows = [row for row in rows if len(row) > 2]
    assert len(rows) == 3474
    ms, counts = (np.array([int(row[k]) for row in rows]) for k in (1, 2))
    assert (np.diff(ms) == 0).sum() == 41
    time, position = single_rows(ms / 1000, counts)
    assert len(time) == 3474 - 41
    assert (time[0], time[-1]) == (5.184, 139.698)
    speed = treadmill_methods["local_slope"](time, position, 6.2, 1024).speed_cm_s
    assert np.nanmax(np.abs(speed)) < 60


@real
def test_real_wheel_in_microseconds_that_is_set_to_zero_between_trials():
    rows = (REAL / "ibl_training_encoder_positions.ssv").read_text().split("\n")
    values = np.array([[int(v) for v in row.split()] for row in rows if row.strip()])
    time, position = single_rows(values[:, 0] / 1e6, values[:, 1])
    assert (len(values), time[0], time[-1]) == (
        936,
        pytest.approx(3.993633),
        pytest.approx(112.13, abs=0.01),
    )
    assert np.diff(time).max() == pytest.approx(63.02, abs=0.01)
    speed = treadmill_methods["local_slope"](time, position, 6.2, 1024).speed_cm_s
    assert np.nanmax(np.abs(speed)) < 150


@real
def test_real_events_never_go_back():
    rows = (REAL / "ibl_ephys_encoder_events.ssv").read_text().split("\n")
    ms = [float(row.split()[1]) for row in rows if row.startswith("Event")]
    assert len(ms) == 816
    time, _ = single_rows(np.array(ms) / 1000, np.zeros(len(ms)))
    assert (time[0], time[-1]) == (5.432, 4082.696)


def test_counters_that_wrap_are_unwrapped_and_known():
    micros = np.cumsum(np.full(90_000, 50_000.0)) % 2**32  # 75 minutes
    np.testing.assert_allclose(np.diff(unwrapped(micros)), 50_000)
    with pytest.raises(DataError, match=r"microseconds of 32 bits that wrapped"):
        single_rows(micros / 1e6, micros)
    second = 1 << 25
    assert "counter of a camera" in wrap_of([126 * second, 127 * second, 0, second])
    for plain in (np.arange(0, 100, 0.1), [0, 1, 2, 0.5], [1e6, 2e6, 3e6], [], [1.0]):
        assert wrap_of(plain) == ""
    with pytest.raises(DataError, match="does not fit into 32 bits"):
        unwrapped([0, 2**33])
