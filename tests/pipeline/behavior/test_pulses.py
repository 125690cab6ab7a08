"""Pulses in analog streams: of a frame clock, or a trigger in a channel of the movie."""

import numpy as np
import pytest

from pipeline.behavior import pulse_onsets
from pipeline.behavior.__main__ import main
from pipeline.errors import DataError

ONSETS = 1000 + 190 * np.arange(50)


def signal(high=5.0, low=0.0):
    values = np.full(11000, low)
    for onset in ONSETS:
        values[onset : onset + 20] = high
    return values


def noisy(values, sd, seed=0):
    return values + np.random.default_rng(seed).normal(0, sd, len(values))


@pytest.mark.parametrize(
    "values",
    [
        signal(),
        noisy(signal(), 0.3),
        noisy(signal(0.0, 5.0), 0.2),  # falling
        signal(-31000.0, 12.0),
        np.where(np.arange(11000) == 9900, -400.0, noisy(signal(), 0.1)),  # an artifact below
    ],
    ids=["plain", "noise", "falling", "negative", "artifact"],
)
def test_every_pulse_begins_where_it_does(values):
    assert pulse_onsets(values).tolist() == ONSETS.tolist()


def test_samples_that_are_missing_are_none():
    values = signal()
    values[::7] = np.nan
    assert np.abs(pulse_onsets(values) - ONSETS).max() <= 1


def test_a_pause_shorter_than_a_sample_is_seen_where_it_is_asked_for():
    values = signal()
    values[ONSETS[10] + 9] = 4.0  # a page that was dark for a fifth of its time
    assert len(pulse_onsets(values)) == 50
    assert len(pulse_onsets(values, back=0.9)) == 51


def test_noise_and_one_level_have_no_pulses():
    for values in (noisy(np.zeros(5000), 1.0), np.zeros(100), [], [1.0]):
        with pytest.raises(DataError, match="has no two levels"):
            pulse_onsets(values)
    with pytest.raises(ValueError, match="polarity"):
        pulse_onsets(signal(), polarity="up")


def test_many_pulses_take_no_time():
    frames = np.tile([0.0, 0.0, 5.0, 5.0], 200_000)
    assert len(pulse_onsets(frames)) == 200_000


def test_frame_times_of_a_recorded_frame_clock_from_the_shell(tmp_path, capsys):
    time = np.arange(11000) / 1000
    rows = "".join(f"{t:.4f},{v:.3f}\n" for t, v in zip(time, noisy(signal(), 0.2), strict=True))
    (tmp_path / "clock.csv").write_text("time_s,level\n" + rows)
    command = ["pulses", str(tmp_path / "clock.csv"), "--out", str(tmp_path / "frame_times.csv")]
    assert main([*command, "--json"]) == 0
    table = np.loadtxt(tmp_path / "frame_times.csv", delimiter=",", skiprows=1)
    np.testing.assert_allclose(table[:, 1], ONSETS / 1000, atol=1e-9)
    assert '"missing": 0' in capsys.readouterr().out
    (tmp_path / "clock.csv").write_text("time_s,level\n0,1\n1,1\n2,1\n")
    assert main(command) == 1
    assert "clock.csv: level: has no two levels" in capsys.readouterr().err
