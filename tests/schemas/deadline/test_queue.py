"""What workers do of a loop with a deadline."""

import json
import subprocess
import time

import numpy as np
import pytest
from known_neurons import populate, record
from short_loops import (
    KINDS,
    ROOT,
    TARGETS,
    asked,
    command,
    in_seconds,
    jobs,
    made,
    play,
    recipe,
    refreshed,
    run,
    server_time,
    show,
    start_loop,
    wait_for,
)

pytestmark = pytest.mark.tables

AHEAD_S = 6.0  # how long a deadline that a worker waits for is in the future (s)


def test_late_jobs_are_ignored_until_another_plan_wants_them(place, database, ledger, scan):
    from schemas import closed_loop, mei
    from workers.commands.screens import status_pane
    from workers.insight import status
    from workers.queue import jobs as verbs

    due = in_seconds(4)
    plan = start_loop(scan, due)["plan_id"]
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
    loop = start_loop(scan, due, mask={"method": None, "params": {"threshold": 1.25}})
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


@pytest.mark.slow
def test_a_plan_of_the_deadline_is_made_in_time_written_played_and_scored(
    place, database, ledger, scan, tmp_path
):
    """A worker that has nothing else to do sees by the clock alone that the plan is due."""
    import datajoint as dj

    import schemas
    from pipeline.closed_loop.package import read_package
    from schemas import closed_loop, mei
    from schemas.decisions import tasks
    from schemas.decisions.ingest import ingest_bundle
    from workers.package import write
    from workers.queue import jobs as verbs
    from workers.queue.lease import Ledger

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
    day2 = record(tmp_path / "day2", 55, 2, pixels, names, told, plan=plan["plan_id"])
    answer = ingest_bundle(day2)
    populate(schemas, 55, without=("model", "mei"))
    units = (closed_loop.Outcome.Unit & answer).to_dicts()
    per_kind = {kind: {u["unit_index"] for u in units if u["kind"] == kind} for kind in KINDS}
    print({kind: len(found) for kind, found in per_kind.items()})
    assert len(per_kind["mei"]) >= 4
    assert len(per_kind["rf"]) < len(per_kind["mei"])
    assert {row["kind"] for row in (closed_loop.Population.Kind & answer).to_dicts()} <= set(KINDS)
