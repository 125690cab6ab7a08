"""Loops whose images are computed one by one, and deadlines that come in seconds."""

import datetime
import io
import itertools
import os
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import pandas as pd
from known_neurons import RECIPE, populate, record, shown_trials, smooth_images

KINDS = ("mei", "rf", "mni")
TARGETS = 6
CHEAP = {
    **RECIPE,
    "model": {
        **RECIPE["model"],
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
ROOT = Path(__file__).parents[3]


def computed_scan(database, folder, animal):
    """Ingest day 1 of an animal and compute a loop of CHEAP up to its plan; return the key."""
    from schemas.decisions import tasks
    from schemas.decisions.ingest import ingest_bundle

    names, trials = shown_trials(count=120, repeated=8)
    images = smooth_images(len(names), seed=1)
    key = ingest_bundle(record(folder / "day1", animal, 1, images, names, trials))
    tasks.register_loop(key, CHEAP, targets=TARGETS, minutes=8)
    populate(database, animal)
    return key


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


def start_loop(scan, deadline=None, **parts):
    from schemas.decisions import tasks

    return tasks.register_loop(scan, recipe(**parts), targets=TARGETS, minutes=8, deadline=deadline)


def stored(loop):
    from schemas import closed_loop

    return (closed_loop.Loop & loop).fetch1("deadline_utc")


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


def command(place, *arguments):
    """Return what runs `inception` on the tables of these tests."""
    home, prefix = place
    words = [sys.executable, "-m", "workers.cli", *map(str, arguments)]
    return [*words, "--prefix", prefix, "--home", str(home)]


def run(place, *arguments, **more):
    words = command(place, *arguments)
    return subprocess.run(words, capture_output=True, text=True, cwd=ROOT, timeout=120, **more)


def run_here(place, *arguments):
    """Do what `run` does in this process, which has imported everything; nobody is asked."""
    from workers import cli

    words, out, err = ["inception", *command(place, *arguments)[3:]], io.StringIO(), io.StringIO()
    with (
        mock.patch.dict(os.environ),
        mock.patch.multiple(sys, argv=words, stdin=io.StringIO(), stdout=out, stderr=err),
    ):
        try:
            cli.main()
            code = 0
        except SystemExit as end:
            code = end.code or 0
    return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())


def play(package, out):
    """Show a package as the rig does, without a window; return the log."""
    words = [sys.executable, "player.py", "--out", str(out)]
    subprocess.run([*words, "--dry-run"], cwd=package, check=True, capture_output=True)
    subprocess.run([*words, "--verify"], cwd=package, check=True, capture_output=True)
    return pd.read_csv(out / "trials.csv")
