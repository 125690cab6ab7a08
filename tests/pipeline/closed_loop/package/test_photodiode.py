from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.closed_loop.package.flips import find_steps
from pipeline.closed_loop.package.photodiode import check_flips, expected_pattern
from pipeline.closed_loop.presentation.audit import audit_presentation
from pipeline.errors import DataError

SHARED = Path(__file__).parents[4] / "shared"
REAL = SHARED / "data" / "real" / "rig" / "pd_parser_photodiode.npz"


def presented(n=12, delay_s=0.009, gamma=2.2):
    """A plan shown in full, and the log of a photodiode behind a monitor of this gamma."""
    planned = pd.DataFrame(
        {
            "trial_idx": range(n),
            "image": [f"i{k % 4}" for k in range(n)],
            "duration_s": 0.5,
            "blank_before_s": 0.4,
        }
    )
    onset = 1 + 0.9 * np.arange(n)
    shown = planned[["trial_idx", "image"]].assign(onset_s=onset, offset_s=onset + 0.5)
    level = 30 * (expected_pattern(planned).pixel_value / 255) ** gamma + 0.3
    flips = pd.concat(
        [
            pd.DataFrame({"time_s": onset + delay_s, "level": level}),
            pd.DataFrame({"time_s": onset + 0.5 + delay_s, "level": 0.3}),
        ]
    ).sort_values("time_s", ignore_index=True)
    return planned, shown, flips


def test_every_flip_is_seen_with_its_delay():
    planned, shown, flips = presented()
    found = check_flips(flips.time_s, flips.level, planned.trial_idx, shown.onset_s)
    assert found.seen.all()
    np.testing.assert_allclose(found.delay_s, 0.009, atol=1e-6)
    assert found.n_unexplained == 0


def test_a_missing_flip_makes_its_trial_unusable():
    planned, shown, flips = presented()
    gone = flips[(flips.time_s - shown.onset_s[5]).abs() > 0.1]
    audit = audit_presentation(planned, shown, flips=gone)
    assert audit.summary["unseen"] == 1
    assert audit.per_trial.status[5] == "unseen"
    assert audit.summary["n_usable"] == 11


def test_the_wrong_square_is_no_flip_of_the_trial():
    planned, shown, flips = presented()
    flips.loc[flips.level > 20, "level"] = 7.0  # all gray: the even trials are not what they claim
    flips.loc[len(flips)] = [99.0, 30.3]
    found = check_flips(flips.time_s, flips.level, planned.trial_idx, shown.onset_s)
    np.testing.assert_array_equal(found.seen, planned.trial_idx % 2 == 1)


def test_a_log_without_change_is_refused():
    planned, shown, flips = presented()
    with pytest.raises(DataError, match="no flips"):
        audit_presentation(planned, shown, flips=flips.assign(level=1.0))
    with pytest.raises(DataError, match="do not increase"):
        audit_presentation(planned, shown, flips=flips[::-1])


def audited(change=lambda flips: flips, shift=0.0, n=200, gamma=2.2, delay_s=0.009):
    planned, shown, flips = presented(n, delay_s, gamma)
    flips = change(flips).sort_values("time_s", ignore_index=True)
    shown = shown.assign(onset_s=shown.onset_s + shift, offset_s=shown.offset_s + shift)
    return audit_presentation(planned, shown, flips=flips).summary


def with_row(time_s, level):
    return lambda flips: pd.concat([flips, pd.DataFrame({"time_s": [time_s], "level": [level]})])


@pytest.mark.parametrize("level", [33.0, 40.0, 150.0, -20.0, -500.0])
def test_a_flash_of_light_or_a_spike_costs_no_trial(level):
    assert audited(with_row(0.3, level))["n_usable"] == 200


def test_noise_of_a_tenth_on_the_levels_costs_almost_nothing():
    noise = np.random.default_rng(0).normal(1, 0.1, 400)
    assert audited(lambda flips: flips.assign(level=flips.level * noise))["n_usable"] >= 198


@pytest.mark.parametrize("delay_s", [-0.03, 0.06, 0.12, 0.2])
def test_a_lag_that_all_trials_share_is_estimated(delay_s):
    summary = audited(delay_s=delay_s)
    assert summary["n_usable"] == 200
    assert summary["photodiode_delay_s"] == pytest.approx(delay_s)
    assert summary["photodiode_notes"] == []


def test_a_diode_of_the_other_polarity_is_understood_and_said():
    summary = audited(lambda flips: flips.assign(level=5 - flips.level))
    assert summary["n_usable"] == 200
    assert "white is the smallest level" in summary["photodiode_notes"][0]


def irregular(planned):
    """Blanks as a plan has them whose order is random: no other offset fits."""
    return np.random.default_rng(1).choice([0.3, 0.4, 0.5, 0.7], len(planned))


@pytest.mark.parametrize(("offset", "drift"), [(1.0, 0.0), (-37.5, 0.0), (4000.0, 1e-4)])
def test_another_clock_is_found_when_blanks_differ(offset, drift):
    planned, shown, _ = presented(200)
    blank = irregular(planned)
    onset = np.cumsum(blank) + 0.5 * np.arange(200)
    shown = shown.assign(onset_s=onset, offset_s=onset + 0.5)
    planned = planned.assign(blank_before_s=blank)
    level = 30 * (expected_pattern(planned).pixel_value.to_numpy() / 255) ** 2.2
    times = np.r_[onset, onset + 0.5] * (1 + drift) + offset
    flips = pd.DataFrame({"time_s": times, "level": np.r_[level, np.zeros(200)]})
    summary = audit_presentation(planned, shown, flips=flips.sort_values("time_s")).summary
    assert summary["n_usable"] == 200
    assert "clock is" in summary["photodiode_notes"][0]
    assert summary["photodiode_delay_s"] == pytest.approx(offset, abs=0.02)


def test_a_clock_of_which_several_offsets_are_as_good_is_not_believed():
    summary = audited(shift=-1000.0, change=lambda flips: flips[10:390])
    assert summary["n_usable"] == 0
    assert any("several offsets" in note for note in summary["photodiode_notes"])


def trace(flips, rate_hz=500.0, noise=0.02, drift=0.0):
    """Sample what a photodiode sees between flips."""
    rng = np.random.default_rng(2)
    time = np.arange(0, flips.time_s.iloc[-1] + 1, 1 / rate_hz)
    last = np.searchsorted(flips.time_s, time, side="right") - 1
    level = np.where(last >= 0, flips.level.to_numpy()[np.maximum(last, 0)], 0.3)
    level = level * rng.normal(1, noise, len(time)) + rng.normal(0, noise, len(time))
    return pd.DataFrame({"time_s": time, "level": level + drift * time})


@pytest.mark.parametrize(("sign", "drift"), [(1, 0.0), (1, 0.2), (-1, 0.0)])
def test_a_sampled_trace_is_as_good_as_a_log_of_flips(sign, drift):
    planned, shown, flips = presented(60)
    sampled = trace(flips, drift=drift)
    sampled.level *= sign
    sampled.loc[5050:5055, "level"] = 500.0  # an artifact that sets the range
    found = check_flips(sampled.time_s, sampled.level, planned.trial_idx, shown.onset_s)
    assert found.seen.all()
    assert np.abs(found.delay_s - 0.009).max() < 0.005
    swapped = planned.trial_idx.to_numpy().copy()
    swapped[[20, 21]] = swapped[[21, 20]]
    again = check_flips(sampled.time_s, sampled.level, swapped, shown.onset_s)
    assert np.flatnonzero(~again.seen).tolist() == [20, 21]


@pytest.mark.skipif(not REAL.is_file(), reason="no real photodiode trace here")
def test_a_real_trace_has_its_ten_known_rises_whatever_its_artifacts():
    with np.load(REAL) as stored:
        volts, rate, onset = (stored[n] for n in ("volts", "rate_hz", "onset_sample"))
        log = stored["event_log_s"]
    time = np.arange(len(volts)) / rate
    at, size = find_steps(time, volts.astype(float), len(onset))
    up = at[size > 0]
    distance = np.abs(up[:, None] - onset / rate).min(axis=0)
    assert distance.max() < 0.002
    planned = pd.DataFrame(
        {"trial_idx": range(10), "image": "a", "duration_s": 1.0, "blank_before_s": 1.0}
    )
    for lag in (0.0, 0.08):
        shown = planned[["trial_idx", "image"]].assign(onset_s=onset / rate - lag)
        shown["offset_s"] = shown.onset_s + 1.0
        flips = pd.DataFrame({"time_s": time, "level": volts})
        summary = audit_presentation(planned, shown, flips=flips).summary
        assert summary["unseen"] == 0
        assert summary["photodiode_delay_s"] == pytest.approx(lag, abs=0.002)
    # its log jumps by half a second from flash to flash: no clock explains it
    lost = check_flips(time, volts, np.arange(10), log)
    assert not lost.seen.any()


@pytest.mark.parametrize(
    ("flips", "message"),
    [
        ({"t": [1.0, 2.0], "level": [0, 1]}, "column is missing"),
        ({"time_s": [1.0, 2.0], "level": ["x", "2"]}, "no number"),
        ({"time_s": [1.0, 2.0], "level": [0, np.nan]}, "no number"),
    ],
)
def test_a_log_that_is_none_is_one_line_with_file_and_field(flips, message):
    planned, shown, _ = presented()
    with pytest.raises(DataError, match=rf"photodiode\.csv.*{message}"):
        audit_presentation(planned, shown, flips=pd.DataFrame(flips))


def test_one_absurd_offset_asks_for_no_memory():
    planned, shown, _ = presented(3)
    shown.loc[2, "offset_s"] = 1.7e9
    found = audit_presentation(planned, shown).summary
    assert len(found["duration_histogram"]["counts"]) <= 401
    assert found["n_usable"] == 2
