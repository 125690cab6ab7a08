import numpy as np
import pandas as pd
import pytest

from pipeline.closed_loop.presentation.audit import audit_presentation
from pipeline.errors import DataError


def plan_of(n=300, n_images=15, seed=0):
    rng = np.random.default_rng(seed)
    images = np.concatenate([rng.permutation(n_images) for _ in range(n // n_images)])
    return pd.DataFrame(
        {
            "trial_idx": np.arange(n),
            "image": [f"{i:064x}" for i in images],
            "duration_s": 0.5,
            "blank_before_s": rng.uniform(0.3, 0.5, n),
        }
    )


def show(planned, start=5.0):
    """A flawless log: whole refreshes of 60 Hz, half a millisecond of jitter."""
    rng = np.random.default_rng(1)
    now, rows = start, []
    for trial in planned.itertuples():
        onset = np.ceil((now + trial.blank_before_s) * 60) / 60 + rng.normal(0, 3e-4)
        rows.append((trial.trial_idx, trial.image, onset, onset + 0.5, onset - now))
        now = onset + 0.5
    columns = ["trial_idx", "image", "onset_s", "offset_s", "blank_before_s"]
    return pd.DataFrame(rows, columns=columns)


def shift(log, row, by):
    """Delay a trial and all after it."""
    log.loc[row:, ["onset_s", "offset_s"]] += by


def statuses(audit):
    table = audit.per_trial
    return {status: sorted(table.trial_idx[table.status == status]) for status in set(table.status)}


def test_a_flawless_log_is_all_ok():
    planned = plan_of()
    audit = audit_presentation(planned, show(planned))
    assert statuses(audit) == {"ok": list(range(300))}
    assert audit.summary["usable_fraction"] == 1
    assert sum(audit.summary["duration_histogram"]["counts"]) == 300
    assert audit.summary["truncated_after"] is None


@pytest.mark.parametrize("renumber", [False, True])
def test_finds_every_fault_and_only_those(renumber):
    planned = plan_of()
    log = show(planned)
    log.loc[20, "offset_s"] -= 0.2  # short
    log.loc[40, "offset_s"] += 0.12  # long, into the next blank
    shift(log, 60, 0.1)  # late
    log.loc[80, "image"] = log.image[79]  # the image before once more
    log.loc[100, "image"] = planned.image[107]  # another one
    twice = log.loc[[120]].assign(onset_s=log.offset_s[120] + 0.1, offset_s=log.offset_s[120] + 0.2)
    unknown = log.loc[[140]].assign(
        image="a" * 64, onset_s=log.offset_s[140] + 0.1, offset_s=log.offset_s[140] + 0.2
    )
    log = pd.concat([log, twice, unknown]).drop(index=[160, 161, 299]).sort_values("onset_s")
    log = log.reset_index(drop=True)
    if renumber:
        log["trial_idx"] = np.arange(len(log))
    audit = audit_presentation(planned, log)
    found = statuses(audit)
    assert found["short"] == [20]
    assert found["long"] == [40]
    assert found["late"] == [60]
    assert found["repeated"] == [-1, 80]
    assert found["wrong"] == [100]
    assert found["extra"] == [-1]
    assert found["dropped"] == [160, 161, 299]
    assert len(found["ok"]) == 300 - 8
    assert audit.summary["n_planned"] == 300
    assert audit.summary["n_shown"] == 299
    assert audit.summary["n_usable"] == 292
    assert audit.summary["truncated_after"] == 298


def test_a_missing_hour_at_the_end_or_start_does_not_shift_the_rest():
    planned = plan_of()
    log = show(planned)
    cut = audit_presentation(planned, log[:200])
    assert statuses(cut)["dropped"] == list(range(200, 300))
    assert cut.summary["truncated_after"] == 199
    begun = log[50:].assign(trial_idx=np.arange(250))
    assert statuses(audit_presentation(planned, begun))["dropped"] == list(range(50))


def test_image_names_are_resolved():
    planned = plan_of(30)
    log = show(planned)
    files = log.assign(image="images/" + log.image + ".png")
    assert audit_presentation(planned, files).summary["ok"] == 30
    names = {image: f"picture {n}.png" for n, image in enumerate(sorted(set(planned.image)))}
    back = {name: image for image, name in names.items()}
    renamed = log.assign(image=log.image.map(names))
    assert audit_presentation(planned, renamed, names=back).summary["ok"] == 30
    assert audit_presentation(planned, renamed).summary["ok"] == 0


def test_a_rig_that_is_slow_throughout_is_not_late_but_reported():
    planned = plan_of()
    log = show(planned)
    log[["onset_s", "offset_s"]] += 0.06 * np.arange(300)[:, None]
    audit = audit_presentation(planned, log)
    assert audit.summary["late"] == 0
    assert audit.summary["blank_overhead_s"] == pytest.approx(0.06 + 0.5 / 60, abs=0.004)
    assert audit.summary["clock_ratio"] > 1.05


def test_refuses_logs_that_cannot_be():
    planned = plan_of(30)
    log = show(planned)
    for change, message in (
        (log[:0], "no trial"),
        (log.drop(columns="offset_s"), "offset_s"),
        (log.assign(onset_s=log.onset_s.to_numpy()[::-1], offset_s=100.0), "do not increase"),
        (log.assign(offset_s=log.onset_s), "without a time"),
        (log.assign(onset_s=np.nan), "without a time"),
    ):
        with pytest.raises(DataError, match=message):
            audit_presentation(planned, change)
