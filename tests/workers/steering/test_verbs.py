"""The verbs that steer, as a person types them."""

import csv
import json

import numpy as np
import pytest
from short_loops import TARGETS, run_here

pytestmark = pytest.mark.tables


def units_of(scan):
    from workers.steering.decide import targets

    return [row["unit_id"] for row in targets(scan)]


def test_targets_are_listed_decided_about_and_planned_again(
    place, ledger, scan, compute, undecided
):
    compute()
    plain = run_here(place, "targets", "56/1/1")
    assert plain.returncode == 0, plain.stderr
    lines = plain.stdout.strip().splitlines()
    assert len(lines) == 8
    assert lines[0].split()[:3] == [str(units_of(scan)[0]), "target", "1"]
    assert "no target" in lines[-1]
    best, last = units_of(scan)[0], units_of(scan)[-1]
    words = ("targets", "56/1/1", "--exclude", best, "--include", last, "--why", "dim $x$ <b>")
    told = run_here(place, *words, "--who", "anna")
    assert told.returncode == 0, told.stderr
    (line,) = [text for text in told.stdout.splitlines() if text.split()[0] == str(best)]
    assert line.endswith("; NOW excluded: dim $x$ <b> (anna)")
    assert told.stdout.splitlines()[-1].endswith("`inception replan 56/1/1` plans by it")
    again = run_here(place, "replan", "56/1/1", "--targets", TARGETS, "--minutes", "5", "--json")
    assert again.returncode == 0, again.stderr
    made = json.loads(again.stdout)
    compute()
    rows = json.loads(run_here(place, "targets", "56/1/1", "--json").stdout)
    assert next(row["unit_id"] for row in rows if row["kept"]) == last
    assert best not in [row["unit_id"] for row in rows if row["kept"]]
    assert sum(row["kept"] for row in rows) == TARGETS
    status = run_here(place, "status")
    assert f"plan {made['plan_id']}: planned; next: inception package 56/1/1" in " ".join(
        status.stdout.split()
    )
    removed = run_here(place, "remove", made["plan_id"])
    assert removed.returncode == 0, removed.stderr
    assert "would go; --yes removes them" in removed.stdout
    removed = run_here(place, "remove", made["plan_id"], "--yes")
    assert removed.stdout.splitlines()[-1].startswith("removed: ")
    assert run_here(place, "remove", made["plan_id"]).returncode == 1


def test_a_loop_with_other_numbers_points_to_replan_and_a_stopped_one_goes_on(place, ledger, scan):
    from schemas import closed_loop
    from schemas.decisions import tasks

    plan = tasks.register_loop(scan)["plan_id"]
    other = run_here(place, "loop", "56/1/1", "--minutes", "99")
    assert other.returncode == 1
    assert "inception replan" in other.stderr
    stopped = run_here(place, "stop", plan)
    assert stopped.stdout.startswith(f"loop {plan} is stopped: "), stopped.stderr
    assert closed_loop.StoppedLoop & scan
    going = run_here(place, "loop", "56/1/1")
    assert "it was stopped and goes on" in going.stdout, going.stderr
    assert not closed_loop.StoppedLoop & scan
    assert run_here(place, "resume", plan).returncode == 1


def test_a_trace_is_what_is_stored_on_the_clock_of_the_rig(place, ledger, scan, tmp_path):
    from schemas import behavior, imaging, stimulus

    unit = sorted(units_of(scan))[2]
    file = tmp_path / "trace.csv"
    done = run_here(place, "trace", f"56/1/1/{unit}", file)
    assert done.returncode == 0, done.stderr
    with file.open() as text:
        rows = list(csv.DictReader(text))
    stored = (imaging.Fluorescence & scan).fetch1("corrected").load()[2]
    np.testing.assert_allclose([float(row["fluorescence"]) for row in rows], stored, rtol=1e-5)
    activity = (imaging.Activity & scan).fetch1("activity").load()[2]
    np.testing.assert_allclose([float(row["activity"]) for row in rows], activity, rtol=1e-5)
    frames = (behavior.Sync & scan).fetch1("frame_times").load()
    time_s = np.array([float(row["time_s"]) for row in rows])
    assert np.abs(time_s - frames).max() < np.diff(frames).max()  # within its frame
    shown = {row["trial_idx"]: row for row in (stimulus.Trial & scan).to_dicts()}
    seen = [row for row in rows if row["trial_idx"]]
    assert {int(row["trial_idx"]) for row in seen} == set(shown)
    for row in seen:
        trial = shown[int(row["trial_idx"])]
        assert row["image_hash"] == trial["image_hash"]
        assert trial["onset_s"] <= float(row["time_s"]) < trial["offset_s"]
    packed = tmp_path / "trace.npz"
    assert run_here(place, "trace", f"56/1/1/{unit}", packed).returncode == 0
    with np.load(packed) as arrays:
        np.testing.assert_array_equal(arrays["activity"], activity)
        assert (arrays["trial"] >= 0).sum() == len(seen)
        assert arrays["image_hash"].tolist() == [shown[n]["image_hash"] for n in sorted(shown)]


WRONG = {
    "no scan": (("targets", "99/1/1"), 1, "no such scan"),
    "no unit": (("targets", "56/1/1", "--exclude", "99", "--why", "dim"), 1, "no such unit"),
    "no reason": (("targets", "56/1/1", "--exclude", "1"), 2, "--why"),
    "twice": (
        ("targets", "56/1/1", "--exclude", "1", "--include", "1", "--why", "x"),
        2,
        "named twice",
    ),
    "no kind": (("replan", "56/1/1", "--kinds", "mei,rff"), 1, "no kind of stimulus 'rff'"),
    "no field": (("replan", "56/1/1", "--exclude-field", "4"), 1, "no such field"),
    "nothing to plan": (("replan", "99/1/1"), 1, "no such scan"),
    "no loop": (("stop", "99/1/1"), 1, "no such scan"),
    "no plan": (("remove", "0badf00d" * 2), 1, "no such plan"),
    "no name": (("resume", "loop"), 1, "names no loop"),
    "no trace": (("trace", "56/1/1/99", "out.csv"), 1, "no such unit"),
    "no file": (("trace", "56/1/1/1", "out.txt"), 2, "unknown suffix"),
    "no number": (("trace", "56/1/1/x", "out.csv"), 2, "is not animal/session/scan/unit"),
}


@pytest.mark.parametrize(("words", "code", "message"), WRONG.values(), ids=WRONG)
def test_a_name_that_does_not_exist_is_an_error(place, ledger, scan, words, code, message):
    done = run_here(place, *words)
    assert done.returncode == code, done.stdout
    assert message in " ".join(done.stderr.split())
    assert done.stdout == ""
