"""At its deadline a plan is made of the stimuli that are ready, and says what it leaves out."""

import datetime
import importlib.util
import itertools
import time
from pathlib import Path

import pytest

from pipeline.errors import DataError

_spec = importlib.util.spec_from_file_location("chain", Path(__file__).with_name("test_chain.py"))
chain = importlib.util.module_from_spec(_spec)  # its small recordings of known neurons
_spec.loader.exec_module(chain)

pytestmark = pytest.mark.tables

KINDS = ("mei", "rf", "mni")
TARGETS = 6
CHEAP = {
    **chain.RECIPE,
    "model": {
        **chain.RECIPE["model"],
        "cnn": {"core": {"name": "linear"}, "training": {"name": "plateau", "max_epochs": 3}},
        "combination": None,
    },
    "mei": {"batch_size": 2, "method": "constrained", "params": {"steps": 5}, "starts": 1},
    "controls": [
        {"method": "mei", "params": {}},
        {"method": "rf", "params": {}},
        {"method": "mni", "params": {}},
    ],
}
CONTRASTS = itertools.count(1)
ROOT = Path(__file__).parents[2]


def recipe(**parts):
    """Return a recipe whose displays nobody else has computed; all before them is there."""
    contrast = 1.5 + next(CONTRASTS) / 100
    return {**CHEAP, "display": {"params": {"sd_cd_m2": contrast}}, **parts}


def server_time():
    from schemas import clock, closed_loop

    return clock.now(closed_loop.Loop().connection)


def in_seconds(seconds):
    return server_time().replace(tzinfo=datetime.UTC) + datetime.timedelta(seconds=seconds)


def wait_for(moment):
    while server_time() <= moment.replace(tzinfo=None):
        time.sleep(0.1)


def asked(plan, **what):
    """Return the keys of the displays of a plan, of some kind or batch."""
    from schemas import closed_loop, mei

    tasks = closed_loop.PlanTask.Display * mei.ControlMethod & {"plan_id": plan} & what
    return tasks.proj().to_dicts(order_by=mei.Display.primary_key)


def show(plan, kind, batch):
    """Compute one display of a plan."""
    from schemas import mei

    mei.Display.populate(asked(plan, control_method=kind, batch=batch), suppress_errors=False)


def made(plan):
    from schemas import closed_loop

    closed_loop.Plan.populate({"plan_id": plan}, suppress_errors=False)
    return closed_loop.Plan & {"plan_id": plan}


def register(scan, deadline=None, **parts):
    from schemas import closed_loop

    return closed_loop.register_loop(
        scan, recipe(**parts), targets=TARGETS, minutes=8, deadline=deadline
    )


@pytest.fixture(scope="module")
def scan(_bound, tmp_path_factory):
    """A scan whose controls are computed as one loop asks for them."""
    from schemas import closed_loop
    from schemas.ingest import ingest_bundle
    from workers import embedded
    from workers.plan import load

    _, home, prefix = _bound
    embedded.connect(home)
    names, trials = chain.shown_trials(count=120, repeated=8)
    images = chain.smooth_images(len(names), seed=1)
    folder = tmp_path_factory.mktemp("deadline")
    key = ingest_bundle(chain.record(folder / "day1", 55, 1, images, names, trials))
    closed_loop.register_loop(key, CHEAP, targets=TARGETS, minutes=8)
    for task in load("schemas", prefix):
        task.table.populate(suppress_errors=False)
    return key


def test_at_the_deadline_a_plan_is_of_what_is_ready_and_tells_what_is_left_out(database, scan):
    from schemas import closed_loop, mei

    due = in_seconds(5)
    plan = register(scan, due)["plan_id"]
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
    assert again["dropped"] == row["dropped"]  # what computes it again makes the same plan
    assert again["n_trials"] == row["n_trials"]


def test_nothing_is_planned_before_the_deadline_but_in_full(database, scan):
    from schemas import closed_loop

    plan = register(scan, in_seconds(3600))["plan_id"]
    show(plan, "mei", 0)
    assert not made(plan)
    for kind, batch in itertools.product(KINDS, range(3)):
        show(plan, kind, batch)
    assert made(plan).fetch1("n_targets") == TARGETS
    assert not [e for e in (closed_loop.Plan & {"plan_id": plan}).fetch1("dropped") if "ready" in
                e["reason"]]  # fmt: skip


def test_a_plan_of_which_nothing_is_ready_is_made_as_soon_as_an_mei_is(database, scan):
    due = in_seconds(2)
    plan = register(scan, due)["plan_id"]
    wait_for(due)
    assert not made(plan)
    show(plan, "rf", 0)
    assert not made(plan)  # its MEI is not there
    show(plan, "mei", 1)
    assert made(plan).fetch1("n_targets") == 2


def test_an_image_that_arrives_while_the_plan_is_made_is_left_out(database, scan, monkeypatch):
    from schemas import closed_loop

    due = in_seconds(2)
    plan = register(scan, due)["plan_id"]
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

    due = in_seconds(4)
    waiting = closed_loop.register_loop(scan, recipe(), targets=5, minutes=8)["plan_id"]
    loop = register(scan, due)
    show(loop["plan_id"], "mei", 0)
    mine = {"plan_id": loop["plan_id"]}
    closed_loop.PlanTask.Display.insert({**row, **mine} for row in asked(waiting, batch=1))
    wait_for(due)
    entries = [e for e in made(loop["plan_id"]).fetch1("dropped") if "selected" in e["reason"]]
    assert sorted(e["kind"] for e in entries) == sorted(KINDS)
    for e in entries:
        assert e["unit_index"] is None
        assert "the targets of ranks 2 to 3 (batch 1) are not selected" in e["reason"]


# ---- the deadline itself


def stored(loop):
    from schemas import closed_loop

    return (closed_loop.Loop & loop).fetch1("deadline_utc")


def test_a_deadline_is_the_same_moment_in_every_zone(database, scan, monkeypatch):
    chosen = recipe()
    later = in_seconds(7200).replace(microsecond=0)
    tokyo = later.astimezone(datetime.timezone(datetime.timedelta(hours=9)))
    from schemas import clock, closed_loop

    loop = closed_loop.register_loop(
        scan, chosen, targets=TARGETS, minutes=8, deadline=tokyo.isoformat()
    )
    assert stored(loop) == later.replace(tzinfo=None)
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        local = tokyo.replace(tzinfo=None).isoformat()  # as a person there would type it
        again = closed_loop.register_loop(scan, chosen, deadline=local)
        assert clock.written(stored(loop)) == tokyo.isoformat()
    finally:
        monkeypatch.undo()
        time.tzset()
    assert again == loop
    assert stored(loop) == later.replace(tzinfo=None)


def test_a_deadline_in_the_past_is_refused_in_one_line(database, scan):
    from schemas import closed_loop

    before = len(closed_loop.Loop())
    with pytest.raises(DataError, match="deadline: the deadline is past") as error:
        register(scan, in_seconds(-60))
    assert "\n" not in str(error.value)
    assert len(closed_loop.Loop()) == before


def test_a_deadline_moves_until_the_plan_is_made(database, scan):
    from schemas import closed_loop

    chosen = recipe()

    def loop(deadline=None):
        return closed_loop.register_loop(
            scan, chosen, targets=TARGETS, minutes=8, deadline=deadline
        )

    first = in_seconds(3600).replace(microsecond=0)
    key = loop(first)
    assert loop() == key
    assert stored(key) == first.replace(tzinfo=None)  # not given: as it is
    sooner = in_seconds(3).replace(microsecond=0)
    assert loop(sooner) == key
    assert stored(key) == sooner.replace(tzinfo=None)
    with pytest.raises(DataError, match="is past"):
        loop(in_seconds(-3600))
    show(key["plan_id"], "mei", 0)
    wait_for(sooner)
    assert made(key["plan_id"])
    assert loop(sooner) == key  # the same once more is no change, though it is past
    with pytest.raises(DataError, match="its deadline cannot move"):
        loop(first)
    assert stored(key) == sooner.replace(tzinfo=None)
