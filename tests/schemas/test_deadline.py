"""At its deadline a plan is made of the stimuli that are ready, and says what it leaves out."""

import datetime
import importlib.util
import itertools
import json
import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
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
AHEAD_S = 6.0  # how long a deadline that a worker waits for is in the future (s)
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
    rows = tasks.to_dicts(order_by=mei.Display.primary_key)
    return [{name: row[name] for name in mei.Display.primary_key} for row in rows]


def show(plan, kind, batch):
    """Compute one display of a plan."""
    from schemas import mei

    mei.Display.populate(asked(plan, control_method=kind, batch=batch), suppress_errors=False)


def made(plan):
    from schemas import closed_loop

    closed_loop.Plan.populate({"plan_id": plan}, suppress_errors=False)
    return closed_loop.Plan & {"plan_id": plan}


def register(scan, deadline=None, **parts):
    from schemas.decisions import tasks

    return tasks.register_loop(scan, recipe(**parts), targets=TARGETS, minutes=8, deadline=deadline)


@pytest.fixture(scope="module")
def scan(_bound, tmp_path_factory):
    """A scan whose controls are computed as one loop asks for them."""
    from schemas.decisions import tasks
    from schemas.decisions.ingest import ingest_bundle
    from workers.database import embedded
    from workers.queue.order import load

    _, home, prefix = _bound
    embedded.connect(home)
    names, trials = chain.shown_trials(count=120, repeated=8)
    images = chain.smooth_images(len(names), seed=1)
    folder = tmp_path_factory.mktemp("deadline")
    key = ingest_bundle(chain.record(folder / "day1", 55, 1, images, names, trials))
    tasks.register_loop(key, CHEAP, targets=TARGETS, minutes=8)
    for task in load("schemas", prefix):
        if not task.name.startswith("imaging.") or "animal_id" in task.table.primary_key:
            task.table.populate({"animal_id": 55}, suppress_errors=False)
    return key


@pytest.fixture
def place(_bound):
    """Home and prefix of the tables."""
    return _bound[1:]


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
    assert not [
        e
        for e in (closed_loop.Plan & {"plan_id": plan}).fetch1("dropped")
        if "ready" in e["reason"]
    ]


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
    from schemas.decisions import tasks

    due = in_seconds(4)
    waiting = tasks.register_loop(scan, recipe(), targets=5, minutes=8)["plan_id"]
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
    from schemas import clock
    from schemas.decisions import tasks

    loop = tasks.register_loop(scan, chosen, targets=TARGETS, minutes=8, deadline=tokyo.isoformat())
    assert stored(loop) == later.replace(tzinfo=None)
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        local = tokyo.replace(tzinfo=None).isoformat()  # as a person there would type it
        again = tasks.register_loop(scan, chosen, deadline=local)
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
    from schemas.decisions import tasks

    chosen = recipe()

    def loop(deadline=None):
        return tasks.register_loop(scan, chosen, targets=TARGETS, minutes=8, deadline=deadline)

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


# ---- workers


def jobs(ledger, plan):
    """Return status and class of the jobs of a plan's displays by kind and batch."""
    from schemas import mei
    from workers.queue.lease import canonical

    found = {
        row["job_key"]: (row["status"], row["error_class"])
        for row in (ledger.Job & {"table_name": "mei.Display"}).to_dicts()
    }
    kinds = mei.ControlMethod.to_dicts()
    names = {row["control_hash"]: row["control_method"] for row in kinds}
    return {
        (names[key["control_hash"]], key["batch"]): found.get(canonical(key)) for key in asked(plan)
    }


def refreshed(prefix):
    """Refresh all job tables as a worker does."""
    import datajoint as dj

    from workers.queue import order, refresh, urgency
    from workers.queue.lease import Ledger

    loaded, ledger = order.load("schemas", prefix), Ledger(dj.conn())
    refresh.refresh(ledger, loaded, urgency.Urgency(loaded))
    return loaded, ledger


def test_late_jobs_are_ignored_until_another_plan_wants_them(place, database, ledger, scan):
    from schemas import closed_loop, mei
    from workers.commands.screens import status_pane
    from workers.insight import status
    from workers.queue import jobs as verbs

    due = in_seconds(4)
    plan = register(scan, due)["plan_id"]
    late = {("mei", 2), ("rf", 1), ("rf", 2), ("mni", 0), ("mni", 1), ("mni", 2), ("rf", 0)}
    show(plan, "mei", 0)
    show(plan, "mei", 1)
    loaded, book = refreshed(place[1])
    assert {k for k, job in jobs(ledger, plan).items() if job == ("pending", None)} == late
    before = status.status(book, loaded)["jobs_late"]  # of other tests' plans
    wait_for(due)
    assert made(plan)
    loaded, book = refreshed(place[1])
    assert {k for k, job in jobs(ledger, plan).items() if job == ("ignore", "late")} == late
    found = status.status(book, loaded)
    assert found["jobs_late"] == before + len(late)
    assert found["ahead"]["queue_s"] == 0
    import rich.console

    page = rich.console.Console(record=True, width=200)
    page.print(status_pane(found))
    said = f"{before + 7} jobs ignored: their plan was made without them"
    assert said in page.export_text()

    assert verbs.retry(book) == 0  # unless they are named
    assert verbs.retry(book, "mei.Display", asked(plan, control_method="mei", batch=2)[0]) == 1
    refreshed(place[1])
    assert jobs(ledger, plan)["mei", 2] == ("pending", "late")  # a person's word holds

    task = (closed_loop.PlanTask & {"plan_id": plan}).fetch1()
    other = {"plan_id": "0" * 16}
    closed_loop.PlanTask.insert1({**task, **other, "n_natural": 3})
    wanted = asked(plan, control_method="rf") + asked(plan, control_method="mei")
    closed_loop.PlanTask.Display.insert({**row, **other} for row in wanted)
    refreshed(place[1])
    states = jobs(ledger, plan)
    assert {states["rf", batch] for batch in range(3)} == {("pending", None)}
    assert {states["mni", batch] for batch in range(3)} == {("ignore", "late")}
    mei.Display.populate(wanted, suppress_errors=False)
    assert made(other["plan_id"]).fetch1("n_targets") == TARGETS


def test_what_leads_only_to_late_images_is_ignored_all_the_way_up(place, database, ledger, scan):
    from schemas import closed_loop, mei

    due = in_seconds(4)
    loop = register(scan, due, mask={"method": None, "params": {"threshold": 1.25}})
    plan = loop["plan_id"]
    first = asked(plan, batch=0)
    for table in (mei.Mask, mei.Control, mei.Display):
        keys = [{name: key[name] for name in table.primary_key} for key in first]
        table.populate(keys, suppress_errors=False)
    mask = {name: first[0][name] for name in mei.MaskTask.primary_key} | {"batch": 2}
    analysis = mei.AnalysisMethod.add("gradient_spectrum")
    mei.AnalysisTask.insert1({**mask, **analysis})
    wait_for(due)
    assert made(plan)
    left = closed_loop.left_behind()
    mine = {name: first[0][name] for name in ("mask_hash",)}
    batches = {
        name: sorted({key["batch"] for key in keys if mine.items() <= key.items()})
        for name, keys in left.items()
    }
    assert batches["mei.Display"] == batches["mei.Control"] == [1, 2]
    assert batches["mei.Mask"] == [1]  # an analysis of the other is asked for
    assert left["mei.MEI"] == []  # other loops show the same images
    refreshed(place[1])
    (waiting,) = (ledger.Job & {"table_name": "mei.Mask", "status": "pending"}).to_dicts()
    assert json.loads(waiting["job_key"])["batch"] == 2


def test_jobs_become_urgent_when_their_loop_gets_a_deadline(place, database, ledger, scan):
    from schemas import closed_loop
    from schemas.decisions import tasks
    from workers.queue import order, urgency

    chosen = recipe()
    tasks.register_loop(scan, chosen, targets=TARGETS, minutes=8)
    loaded = order.load("schemas", place[1])
    others = [row for row in closed_loop.Loop.to_dicts() if row["deadline_utc"]]
    for row in others:  # those of other tests have passed less than a day ago
        key = {name: row[name] for name in closed_loop.Loop.primary_key}
        closed_loop.Loop.update1({**key, "deadline_utc": None})
    refreshed(place[1])
    mine = ledger.Job & {"table_name": "mei.Display", "status": "pending"}
    assert set(mine.to_arrays("priority")) == {5}
    urgent = urgency.Urgency(loaded)
    urgent.changed()
    assert not urgent.changed()
    tasks.register_loop(scan, chosen, deadline=in_seconds(3600))
    assert urgent.changed()  # the worker that looks then refreshes every table
    refreshed(place[1])
    assert set(mine.to_arrays("priority")) == {1}


def command(place, *arguments):
    """Return what runs `inception` on the tables of these tests."""
    home, prefix = place
    words = [sys.executable, "-m", "workers.cli", *map(str, arguments)]
    return [*words, "--prefix", prefix, "--home", str(home)]


def run(place, *arguments, **more):
    words = command(place, *arguments)
    return subprocess.run(words, capture_output=True, text=True, cwd=ROOT, timeout=120, **more)


def play(package, out):
    """Show a package as the rig does, without a window; return the log."""
    words = [sys.executable, "player.py", "--out", str(out)]
    subprocess.run([*words, "--dry-run"], cwd=package, check=True, capture_output=True)
    subprocess.run([*words, "--verify"], cwd=package, check=True, capture_output=True)
    return pd.read_csv(out / "trials.csv")


@pytest.mark.slow
def test_a_plan_of_the_deadline_is_made_in_time_written_played_and_scored(
    place, database, ledger, scan, tmp_path
):
    """A worker that has nothing else to do sees by the clock alone that the plan is due."""
    import datajoint as dj

    from pipeline.closed_loop.package import read_package
    from schemas import closed_loop, mei
    from schemas.decisions import tasks
    from schemas.decisions.ingest import ingest_bundle
    from workers.package import write
    from workers.queue import jobs as verbs
    from workers.queue.lease import Ledger
    from workers.queue.order import load

    chosen = recipe()
    far = in_seconds(3600).replace(microsecond=0)
    numbers = {"targets": TARGETS, "minutes": 8}
    made_of = tasks.register_loop(scan, chosen, **numbers, deadline=far)
    plan = {"plan_id": made_of["plan_id"]}
    refreshed(place[1])
    book = Ledger(dj.conn())
    verbs.ignore(book)  # what other tests have left
    late = asked(plan["plan_id"], control_method="rf", batch=1)
    for key in asked(plan["plan_id"]):
        if key not in late:
            assert verbs.retry(book, "mei.Display", key) == 1
    idle = run(place, "worker", "--exit-when-idle", "--sleep-duration", 0.5)
    assert idle.returncode == 0, idle.stderr
    assert "; the next plan is made of what is ready at 2" in idle.stdout  # it does not wait
    assert len(mei.Display & asked(plan["plan_id"])) == 8
    assert not closed_loop.Plan & plan

    words = command(place, "worker", "--sleep-duration", 0.5)
    with (tmp_path / "log").open("w") as log:
        worker = subprocess.Popen(words, cwd=ROOT, stdout=log, stderr=log)
    try:
        until = time.monotonic() + 120
        while not len(ledger.Worker & "state='running'"):
            assert time.monotonic() < until, (tmp_path / "log").read_text()
            time.sleep(0.2)
        time.sleep(5)
        due = in_seconds(AHEAD_S).replace(microsecond=0)
        tasks.register_loop(scan, chosen, deadline=due)  # nobody is woken
        while not closed_loop.Plan & plan:
            assert time.monotonic() < until + AHEAD_S, (tmp_path / "log").read_text()
            time.sleep(0.2)
        seen = server_time()
    finally:
        worker.terminate()
        worker.wait(60)
    tried = ledger.Attempt & {"table_name": "closed_loop.Plan", "outcome": "done"}
    (attempt,) = (tried & f"job_key LIKE '%{plan['plan_id']}%'").to_dicts()
    after = (attempt["started_at"] - due.replace(tzinfo=None)).total_seconds()
    assert 0 <= after < 60
    row = (closed_loop.Plan & plan).fetch1()
    print(
        f"due {due:%H:%M:%S}, begun {after:.1f} s later, there "
        f"{(seen - due.replace(tzinfo=None)).total_seconds():.1f} s later; {row['n_targets']} "
        f"targets, {row['n_images']} images, {row['n_trials']} trials, {row['total_s']:.0f} s; "
        f"{len(row['dropped'])} dropped: {row['dropped']}"
    )
    assert [(e["kind"], e["reason"]) for e in row["dropped"]] == [
        ("rf", "not ready at the deadline")
    ] * 2
    assert jobs(ledger, plan["plan_id"])["rf", 1] == ("ignore", None)  # a person's, as it was

    package = tmp_path / "package"
    assert write(scan, package, plan["plan_id"]) == plan["plan_id"]
    log = play(package, tmp_path / "played")
    shown = read_package(package)
    names = sorted(shown.images)
    told = log.assign(onset_s=log["onset_s"] + 2, offset_s=log["offset_s"] + 2)
    pixels = np.stack([shown.images[name] for name in names])
    day2 = chain.record(tmp_path / "day2", 55, 2, pixels, names, told, plan=plan["plan_id"])
    answer = ingest_bundle(day2)
    for task in load("schemas", place[1]):
        if task.name.split(".")[0] not in ("model", "mei"):
            task.table.populate({"animal_id": 55}, suppress_errors=False)
    units = (closed_loop.Outcome.Unit & answer).to_dicts()
    per_kind = {kind: {u["unit_index"] for u in units if u["kind"] == kind} for kind in KINDS}
    print({kind: len(found) for kind, found in per_kind.items()})
    assert len(per_kind["mei"]) >= 4
    assert len(per_kind["rf"]) < len(per_kind["mei"])
    assert {row["kind"] for row in (closed_loop.Population.Kind & answer).to_dicts()} <= set(KINDS)


# ---- another plan, and its package


def test_a_registered_scan_is_planned_again_as_the_message_says(database, scan):
    from schemas import closed_loop, mei
    from schemas.decisions import tasks

    chosen = recipe()
    first = tasks.register_loop(scan, chosen, targets=TARGETS, minutes=8)
    with pytest.raises(DataError, match=r"other numbers.*found 6, 8; expected 6, 4; add --again"):
        tasks.register_loop(scan, chosen, minutes=4)
    with pytest.raises(DataError, match="add --again"):
        tasks.register_loop(scan, chosen, targets=4)
    counts = len(mei.MEITask()), len(mei.DisplayTask())
    second = tasks.register_loop(scan, chosen, minutes=4, again=True)
    assert second["plan_id"] != first["plan_id"]
    assert tasks.register_loop(scan, chosen, minutes=4, again=True) == second
    assert (len(mei.MEITask()), len(mei.DisplayTask())) == counts  # the same images
    for kind, batch in itertools.product(KINDS, range(3)):
        show(first["plan_id"], kind, batch)
    length = [made(loop["plan_id"]).fetch1("total_s") / 60 for loop in (first, second)]
    assert length[1] < 4 < length[0] < 8
    third = tasks.register_loop(scan, chosen, minutes=4, again=True)
    assert third["plan_id"] not in (first["plan_id"], second["plan_id"])  # that one was made
    orders = [
        (closed_loop.Plan.Trial & f"plan_id='{key['plan_id']}'").to_arrays("image_hash").tolist()
        for key in (second, third)
        if made(key["plan_id"])
    ]
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1])


def test_what_a_plan_left_out_is_shown_when_the_scan_is_planned_again(database, scan):
    from schemas import closed_loop
    from schemas.decisions import tasks

    chosen, due = recipe(), in_seconds(4)
    first = tasks.register_loop(scan, chosen, targets=TARGETS, minutes=8, deadline=due)
    show(first["plan_id"], "mei", 0)
    wait_for(due)
    assert made(first["plan_id"]).fetch1("n_targets") == 2
    again = tasks.register_loop(scan, chosen, again=True)
    assert stored(again) is None  # the deadline is past
    assert not [
        key
        for key in closed_loop.left_behind().get("mei.Display", ())
        if key in asked(again["plan_id"])
    ]
    for kind, batch in itertools.product(KINDS, range(3)):
        show(again["plan_id"], kind, batch)
    assert made(again["plan_id"]).fetch1("n_targets") == TARGETS


@pytest.fixture
def two_plans(database, scan):
    """Ids of two plans of 8 and 6 min, the newer one first."""
    from schemas.decisions import tasks

    chosen = recipe()
    first = tasks.register_loop(scan, chosen, targets=TARGETS, minutes=8)["plan_id"]
    for kind, batch in itertools.product(KINDS, range(3)):
        show(first, kind, batch)
    time.sleep(1.1)  # loops are in the order of the seconds of their registration
    second = tasks.register_loop(scan, chosen, minutes=6, again=True)["plan_id"]
    assert made(first)
    assert made(second)
    return second, first


def test_a_second_connection_forecasts_what_the_first_one_does(place, database, ledger, scan):
    """As `inception metrics` has one; displays of other loops' same controls do not count."""
    from workers.commands.screens import ahead_lines
    from workers.database import server
    from workers.insight import forecast
    from workers.queue.lease import Ledger

    plan = register(scan, in_seconds(3600))["plan_id"]
    loaded, first = refreshed(place[1])
    connection = server.new_connection()
    try:
        found = [forecast.forecast(book, loaded, []) for book in (first, Ledger(connection))]
    finally:
        connection.close()
    ours = [{row["plan_id"]: row for row in f["loops"]}[plan] for f in found]
    assert ours[0]["jobs"] == ours[1]["jobs"] >= 9
    late = {**ours[0], "in_time": False, "unmeasured": []}
    assert "LATE: planned then of what is ready" in ahead_lines({**found[0], "loops": [late]})[0]
    stuck = {**ours[0], "stuck": ["mei.Display {}"]}
    assert (
        ", then of what is ready, while 1 jobs are set aside: mei.Display {}"
        in ahead_lines({**found[0], "loops": [stuck]})[0]
    )
    moment = datetime.datetime.fromisoformat(ours[0]["deadline"])
    assert moment.utcoffset() is not None


@pytest.mark.slow
def test_several_plans_are_listed_in_one_line_and_asked_for_at_a_terminal(
    place, ledger, scan, two_plans, tmp_path
):
    from workers.package import choices

    known = choices(scan)
    assert [plan["plan"] for plan in known][:2] == list(two_plans)
    plain = run(place, "package", "55/1/1", tmp_path / "one", stdin=subprocess.DEVNULL)
    assert plain.returncode == 1
    (told,) = plain.stderr.strip().splitlines()
    for plan in known:
        assert (
            f"{plan['plan']} (recipe {plan['recipe']}, {plan['images']} images, "
            f"{plan['units']} units, {plan['minutes']:g} min)" in told
        )
    assert told.endswith("name it with --plan")
    assert not (tmp_path / "one").exists()

    mine, other = pty.openpty()
    words = command(place, "package", "55/1/1", tmp_path / "two")
    asking = subprocess.Popen(
        words, cwd=ROOT, stdin=other, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    os.write(mine, b"0\n2\n")  # there is no plan 0: asked again
    said = asking.communicate(timeout=120)[0]
    os.close(mine)
    os.close(other)
    assert asking.returncode == 0, said
    assert f"2  {two_plans[1]}  recipe" in said
    assert said.count("Which plan (1-") == 2
    chosen = known[1]
    assert (
        f"package {two_plans[1]} written to {tmp_path / 'two'}: {chosen['images']} images for "
        f"{chosen['units']} units, {chosen['repeats']} times each: {chosen['trials']} trials, "
        f"{chosen['minutes']:g} min" in said
    )


def test_a_package_is_not_written_over_what_is_not_its_own(scan, two_plans, tmp_path):
    from workers.package import verify, write

    folder = tmp_path / "package"
    newer, older = two_plans
    write(scan, folder, older)
    play(folder, folder / "day2")  # as docs/day2.md says: in the package's folder
    log = (folder / "day2" / "trials.csv").read_bytes()
    assert verify(scan, folder, older) == older
    assert verify(scan, folder) == older  # of several plans, that which it names
    write(scan, folder, older)  # the same once more
    assert (folder / "day2" / "trials.csv").read_bytes() == log
    with pytest.raises(DataError, match=r"holds the package of another plan.*--replace"):
        write(scan, folder, newer)
    with pytest.raises(DataError, match=r"files beside the package would be lost.*day2/"):
        write(scan, folder, newer, replace=True)
    (folder / "images.csv").write_text("damaged")
    with pytest.raises(DataError, match=r"files beside the package would be lost.*day2/"):
        write(scan, folder, older)
    (folder / "day2").rename(tmp_path / "day2")
    write(scan, folder, older)  # damaged, and written again
    assert verify(scan, folder, older) == older
    write(scan, folder, newer, replace=True)
    assert verify(scan, folder, newer) == newer
    packed = tmp_path / "package.zip"
    write(scan, packed, older)
    with pytest.raises(DataError, match="another plan"):
        write(scan, packed, newer)
    mine = tmp_path / "thesis"
    mine.mkdir()
    (mine / "chapter1.tex").write_text("years")
    for replace in (False, True):
        with pytest.raises(DataError, match="exists and is no package"):
            write(scan, mine, older, replace=replace)
    assert (mine / "chapter1.tex").read_text() == "years"


@pytest.mark.slow
def test_the_command_line_says_what_becomes_of_a_deadline(place, ledger, scan):
    from schemas import clock
    from schemas.decisions import tasks

    key = tasks.register_loop(scan, recipe(), targets=TARGETS, minutes=8)
    due = in_seconds(3600).replace(microsecond=0)
    told = clock.written(due.replace(tzinfo=None))
    said = run(place, "loop", "55/1/1", "--deadline", due.isoformat())
    assert said.stdout.startswith(
        f"loop is registered on 55/1/1, deadline {told} instead of none; run"
    )
    assert stored(key) == due.replace(tzinfo=None)
    said = run(place, "loop", "55/1/1")
    assert said.stdout.startswith(f"loop is registered on 55/1/1, deadline {told}; run")
    said = run(place, "loop", "55/1/1", "--deadline", "2020-01-01T08:00")
    assert said.returncode == 1
    assert said.stderr.startswith("inception: deadline: the deadline is past")
    assert len(said.stderr.strip().splitlines()) == 1


def test_a_migration_brings_local_deadlines_to_utc(place, database, ledger, scan, monkeypatch):
    import datajoint as dj

    from schemas import closed_loop
    from schemas.decisions import tasks
    from workers.database import migration, schema_version

    key = tasks.register_loop(scan, recipe(), targets=TARGETS, minutes=8)
    connection, loops = dj.conn(), closed_loop.Loop.full_table_name
    kind = "timestamp" if connection.adapter.backend == "postgresql" else "datetime"
    schema_version.record(connection, place[1], 2)
    connection.query(f"DELETE FROM {ledger.SchemaVersion.full_table_name} WHERE schema_version > 2")
    connection.query(f"ALTER TABLE {loops} DROP COLUMN deadline_utc")
    connection.query(f"ALTER TABLE {loops} ADD COLUMN deadline {kind} NULL")
    mine = " AND ".join(f"{name}='{key[name]}'" for name in closed_loop.Loop.primary_key)
    connection.query(f"UPDATE {loops} SET deadline='2026-11-24 08:00:00' WHERE {mine}")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        found = migration.look(connection, place[1], "schemas")
        assert [column["name"] for column in found["columns"]] == ["closed_loop.Loop.deadline_utc"]
        (step,) = (step for step in found["steps"] if "deadlines" in step["title"])
        assert len(step["sql"]) == 2
        migration.migrate(connection, place[1], "schemas", despite_workers=True)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert stored(key) == datetime.datetime(2026, 11, 23, 23, 0)
    again = migration.look(connection, place[1], "schemas")
    assert (again["steps"], again["columns"], again["problems"]) == ([], [], [])
