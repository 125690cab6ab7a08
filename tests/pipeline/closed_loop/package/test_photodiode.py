import numpy as np
import pandas as pd
import pytest

from pipeline.closed_loop.package.photodiode import check_flips, expected_pattern
from pipeline.closed_loop.presentation.audit import audit_presentation
from pipeline.errors import DataError


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
