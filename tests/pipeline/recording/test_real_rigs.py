"""Logs of real rigs and values that other programs and people found in them."""

from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat

from pipeline.behavior import camera_seconds, lost_frames, pulse_onsets, single_rows
from pipeline.behavior.treadmill import treadmill_methods
from pipeline.csvfile import read_columns
from pipeline.dataset.windows import response_windows
from pipeline.errors import DataError

ABOVE = Path(__file__).resolve().parents
REAL = next((p for a in ABOVE if (p := a / "shared" / "data" / "real").is_dir()), None)
pytestmark = pytest.mark.skipif(REAL is None, reason="the folder of real files is not here")


def test_a_trigger_in_a_channel_of_the_movie_has_the_starts_that_its_authors_found():
    found = loadmat(REAL / "rig" / "mousegoggles_2p_m1_trigger.mat")
    trigger, starts = found["trigger"].ravel(), found["starts"].ravel().astype(int) - 1
    assert len(trigger) == 6669
    assert np.isnan(trigger[-1])
    assert np.nanpercentile(trigger, 5) == pytest.approx(-30963, abs=1)
    assert np.nanmedian(trigger) == pytest.approx(11.7, abs=0.1)
    onset = pulse_onsets(trigger, back=0.9)  # late ones pause for less than a page
    apart = np.abs(onset[:, None] - starts)
    assert len(starts) == 274
    assert apart.min(axis=0).max() <= 1
    assert len(onset) == 275  # and one blip of a single page
    steps = np.diff(starts)
    assert (steps.min(), steps.max(), np.median(steps)) == (13, 311, 21)
    assert abs(len(pulse_onsets(trigger)) - 274) <= 5


def test_a_game_log_without_header_has_its_looms_and_never_goes_back():
    log = np.loadtxt(REAL / "rig" / "mousegoggles_m1_game_log.csv", delimiter=",")
    yaw, thrust, _, condition, distance, ms = log.T
    time, _ = single_rows(ms / 1000, thrust)
    assert (len(log), len(time)) == (9001, 9001)
    assert (ms[0], ms[-1]) == (14, 150721)
    assert np.diff(ms).min() == 5
    assert np.diff(ms).max() == 607
    assert np.median(np.diff(time)) == pytest.approx(0.01667, abs=1e-3)
    assert (yaw == 0).all()
    assert (thrust.min(), thrust.max()) == (-27, 80)
    assert set(condition) <= {0, 1, 2}
    assert len(pulse_onsets(distance)) == 15


def test_light_seen_by_a_camera_has_as_many_frames_as_its_table():
    """The file was put together of eleven, each with its header: refused until they are out."""
    path = REAL / "rig" / "mousegoggles_m1_left_eye_light.csv"
    with pytest.raises(DataError, match="line 502: not a number; found 'FrameCounts'"):
        read_columns(path, ["FrameCounts", "blue_mean"])
    head, *rows = path.read_text().splitlines()
    separators = [number for number, row in enumerate(rows) if row == head]
    assert (len(rows), len(separators)) == (5098, 10)
    assert separators[:3] == [500, 1001, 1502]
    table = (REAL / "pose" / "mousegoggles_m1_left_dlc.csv").read_text().splitlines()
    assert len(rows) - len(separators) == 5088 == len(table) - 3


def test_a_controller_of_stimuli_wrote_its_rows_in_milliseconds():
    with np.load(REAL / "rig" / "mousegoggles_2p_m1_stimulus.npz") as stored:
        data, names = stored["data"], [str(name) for name in stored["names"]]
    assert data.shape == (648, 24) == (648, len(names))
    ms = data[:, names.index("time")]
    time, _ = single_rows(ms / 1000, data[:, 0])
    assert len(time) == 648
    assert np.diff(ms).min() >= 581


def test_events_of_a_wheel_never_go_back():
    rows = (REAL / "rig" / "ibl_training_encoder_events.ssv").read_text().split("\n")
    us = np.array([int(row.split()[0]) for row in rows if row.strip()])
    time, _ = single_rows(us / 1e6, us)
    assert (len(us), len(time)) == (38, 38)


def test_a_wheel_that_writes_a_row_for_every_count_is_known_while_it_stands():
    rows = (REAL / "rig" / "ibl_training_encoder_positions.ssv").read_text().split("\n")
    us, counts = np.array([row.split()[:2] for row in rows if row.strip()], np.int64).T
    assert (counts.min(), counts.max()) == (-106, 113)
    time, position = single_rows(us / 1e6, counts)
    found = treadmill_methods["local_slope"](time, position, 6.2, 1024)
    resets = np.flatnonzero(np.abs(np.diff(counts)) > 1)
    assert len(resets) == 11  # set to 0 between trials
    assert np.isnan(found.speed_cm_s).sum() <= len(resets) + 14  # and rows about them
    pause = int(np.argmax(np.diff(time)))
    assert time[pause + 1] - time[pause] == pytest.approx(63.02, abs=0.01)
    still = (found.time_s > time[pause] + 1) & (found.time_s < time[pause + 1] - 1)
    assert still.sum() > 100
    assert np.abs(found.speed_cm_s[still]).max() < 0.01


def test_a_camera_of_32_bits_agrees_with_the_clock_of_the_computer():
    rows = (REAL / "rig" / "ibl_body_camera_timestamps.ssv").read_text().split("\n")
    rows = [row.split() for row in rows if row.strip()]
    clock = np.array([np.datetime64(row[0][:23]) for row in rows])
    seconds = camera_seconds([int(row[1]) for row in rows])
    by_computer = (clock[-1] - clock[0]) / np.timedelta64(1, "s")
    assert by_computer == pytest.approx(198.561, abs=2e-3)
    assert seconds[-1] == pytest.approx(198.604, abs=1e-3)
    assert lost_frames(seconds).sum() == 0
    times = np.load(REAL / "rig" / "ibl_camera_times.npy")
    assert len(times) == 2600
    assert (times[0], times[-1]) == (
        pytest.approx(49.128, abs=1e-3),
        pytest.approx(92.413, abs=1e-3),
    )
    steps = np.diff(times.astype(float))
    assert 1 / np.median(steps) == pytest.approx(60.0, abs=0.1)


def test_published_responses_are_the_means_of_their_windows():
    found = loadmat(REAL / "responses" / "park_230810_fov2.mat", simplify_cells=True)
    time = found["t"]
    assert len(time) == 49
    np.testing.assert_allclose(np.diff(time), 0.0625, atol=1e-6)
    assert (time[0], time[-1]) == (-1, 2)
    names = [f"neuron{number}" for number in range(1, 19)]
    activity = np.stack([np.stack(found["D"][name]) for name in names], axis=1)
    assert activity.shape == (128, 18, 49)
    assert found["TE"]["nTrials"] == len(found["TE"]["direction"]) == 128
    assert found["TE"]["dt"] == 0.0625
    for name in ("pupil_zscore", "speed"):
        assert np.stack(found["D"][name]).shape == (128, 49)
    onset, length = np.array([0.0]), np.array([1.0])
    one = {"start_s": 0.0, "length_s": 1.0}
    got = response_windows["boxcar"](
        activity[7].astype(np.float32), time, onset, length, np.zeros(18), **one
    )
    inside = (time >= 0) & (time < 1)
    assert inside.sum() == 16
    sums = activity[7][:, inside].sum(axis=1)  # but for the halves of frames at the edges
    assert np.corrcoef(got[0], sums)[0, 1] > 0.98
