"""At its deadline a plan is made of the stimuli that are ready, and says what it leaves out."""

import itertools

import pytest
from short_loops import (
    KINDS,
    TARGETS,
    asked,
    in_seconds,
    made,
    recipe,
    server_time,
    show,
    start_loop,
    wait_for,
)

pytestmark = pytest.mark.tables


def test_at_the_deadline_a_plan_is_of_what_is_ready_and_tells_what_is_left_out(database, scan):
    from schemas import closed_loop, mei

    due = in_seconds(5)
    plan = start_loop(scan, due)["plan_id"]
    for kind, batch in (("mei", 0), ("rf", 0), ("mei", 1), ("rf", 2)):
        show(plan, kind, batch)
    assert len(made(plan)) == 0 or server_time() >= due.replace(tzinfo=None, microsecond=0)
    wait_for(due)
    row = made(plan).fetch1()
    targets = (closed_loop.Plan.Target & {"plan_id": plan}).to_dicts()
    ranks = {kind: sorted(t["target_rank"] for t in targets if t["kind"] == kind) for kind in KINDS}
    assert ranks == {"mei": [0, 1, 2, 3], "rf": [0, 1], "mni": []}

    key = asked(plan)[0]
    units = (mei.Targets.Unit & key & {"kept": True}).to_arrays("unit_index").tolist()
    left = {(unit, kind) for unit in units for kind in KINDS}
    left -= {(t["unit_index"], t["kind"]) for t in targets}
    entries = [e for e in row["dropped"] if e.get("target", "") == ""]
    assert sorted((e["unit_index"], e["kind"]) for e in entries) == sorted(left)  # each once
    for e in entries:
        assert set(e) == {"unit_index", "unit_id", "kind", "variant", "image_hash", "reason"}
        assert e["unit_id"] is not None
        assert e["variant"] == 0
    reasons = {(e["kind"], e["reason"], e["image_hash"] is None) for e in entries}
    assert reasons == {
        ("mei", "not ready at the deadline", True),
        ("rf", "not ready at the deadline", True),
        ("rf", "its MEI was not ready at the deadline", False),
        ("mni", "not ready at the deadline", True),
    }

    for kind, batch in itertools.product(KINDS, range(3)):  # what comes late changes nothing
        show(plan, kind, batch)
    assert made(plan).fetch1() == row
    assert len(closed_loop.Plan.Source & {"plan_id": plan}) == 4
    table = closed_loop.Plan()
    again = table.make_compute({"plan_id": plan}, *table.make_fetch({"plan_id": plan}))[0]
    assert again.totals["dropped"] == row["dropped"]  # what computes it again makes the same plan
    assert again.totals["n_trials"] == row["n_trials"]


def test_nothing_is_planned_before_the_deadline_but_in_full(database, scan):
    from schemas import closed_loop

    plan = start_loop(scan, in_seconds(3600))["plan_id"]
    show(plan, "mei", 0)
    assert not made(plan)
    for kind, batch in itertools.product(KINDS, range(3)):
        show(plan, kind, batch)
    assert made(plan).fetch1("n_targets") == TARGETS
    assert not [
        e
        for e in (closed_loop.Plan & {"plan_id": plan}).fetch1("dropped")
        if "ready" in e["reason"]
    ]


def test_a_plan_of_which_nothing_is_ready_is_made_as_soon_as_an_mei_is(database, scan):
    due = in_seconds(2)
    plan = start_loop(scan, due)["plan_id"]
    wait_for(due)
    assert not made(plan)
    show(plan, "rf", 0)
    assert not made(plan)  # its MEI is not there
    show(plan, "mei", 1)
    assert made(plan).fetch1("n_targets") == 2


def test_an_image_that_arrives_while_the_plan_is_made_is_left_out(database, scan, monkeypatch):
    from schemas import closed_loop

    due = in_seconds(2)
    plan = start_loop(scan, due)["plan_id"]
    show(plan, "mei", 0)
    wait_for(due)
    compute = closed_loop.Plan.make_compute

    def meanwhile(self, *args):
        show(plan, "rf", 0)
        return compute(self, *args)

    monkeypatch.setattr(closed_loop.Plan, "make_compute", meanwhile)
    row = made(plan).fetch1()
    assert row["n_images"] >= 2
    assert set((closed_loop.Plan.Target & {"plan_id": plan}).to_arrays("kind")) == {"mei"}


def test_what_is_not_selected_yet_is_left_out_by_rank(database, scan):
    from schemas import closed_loop
    from schemas.decisions import tasks

    due = in_seconds(4)
    waiting = tasks.register_loop(scan, recipe(), targets=5, minutes=8)["plan_id"]
    loop = start_loop(scan, due)
    show(loop["plan_id"], "mei", 0)
    mine = {"plan_id": loop["plan_id"]}
    closed_loop.PlanTask.Display.insert({**row, **mine} for row in asked(waiting, batch=1))
    wait_for(due)
    entries = [e for e in made(loop["plan_id"]).fetch1("dropped") if "selected" in e["reason"]]
    assert sorted(e["kind"] for e in entries) == sorted(KINDS)
    for e in entries:
        assert e["unit_index"] is None
        assert "the targets of ranks 2 to 3 (batch 1) are not selected" in e["reason"]
