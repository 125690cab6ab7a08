"""From one decision to all task rows: a loop on day 1, a presentation on day 2, a data set."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from pipeline.errors import DataError
from pipeline.registry import config_hash
from schemas import clock, closed_loop, dataset, experiment, mei, model
from schemas.decisions.recipe import check_recipe
from schemas.decisions.task_rows import (
    dataset_of,
    model_tasks,
    named,
    numbered,
    scan_tasks,
    stimulus_tasks,
    transaction,
)

log = logging.getLogger("inception.registration")

NUMBERS = {"targets": 150, "minutes": 60.0}  # of a loop, unless they are given


def register_loop(
    scan_key: Mapping[str, Any],
    recipe: str | Mapping[str, Any] | None = None,
    *,
    targets: int | None = None,
    minutes: float | None = None,
    deadline: datetime.datetime | str | None = None,
    again: bool = False,
) -> dict[str, Any]:
    """Decide to close the loop on a scan: insert every task up to the plan, in one transaction.

    Parameters
    ----------
    scan_key : mapping
        `animal_id, session, scan_idx`.
    recipe : str or mapping, optional
        Name in `RECIPES`, hash or name of a recipe in the table, or what differs from the default.
        Not given, it is that of the scan's newest loop, or the default.
    targets : int, optional
        Most neurons to make stimuli for; those of the registered loop, or 150.
    minutes : float, optional
        Time for the presentation on day 2 (min); those of the registered loop, or 60.
    deadline : datetime or ISO text, optional
        When the package is needed: the plan is then made of the stimuli that are ready. Without an
        offset from UTC it is local time of this machine.
    again : bool
        Make another loop and plan, of a recipe that states these numbers; what both share is not
        computed twice. The deadline is that of the loop before, if it is to come.

    Returns
    -------
    dict
        Key of the loop and its `plan_id`. Registering the same loop again changes nothing but the
        deadline, if another one is given; every task is a row that can be edited before its result
        is computed.

    Raises
    ------
    DataError
        If there is no such scan, the loop has other numbers, the deadline is past, or it is to be
        moved though the plan is made.
    ValueError
        If the recipe, or a method or parameter in it, does not exist.
    """
    scan = {name: int(scan_key[name]) for name in experiment.Scan.primary_key}
    if not experiment.Scan & scan:
        raise DataError(
            "no such scan",
            field="scan",
            found=experiment.scan_name(scan),
            remedy="ingest its recording first",
        )
    if (targets is not None and targets < 1) or (minutes is not None and minutes <= 0):
        raise ValueError(f"need targets >= 1 and minutes > 0; got {targets} and {minutes}")
    due = None if deadline is None else clock.to_utc(deadline)
    with transaction():
        loops = (closed_loop.Loop & scan).to_dicts(order_by=("registered DESC", "recipe_hash"))
        if recipe is None and loops:
            recipe = loops[0]["recipe_hash"]
        loop = {**scan, **closed_loop.Recipe.add(recipe)}
        same = [row for row in loops if row["recipe_hash"] == loop["recipe_hash"]]
        known = (same or (loops if again else []) or [NUMBERS])[0]
        numbers = {
            "targets": int(known["targets"] if targets is None else targets),
            "minutes": float(known["minutes"] if minutes is None else minutes),
        }
        if again:
            loop = _another_loop(loop, numbers)
            due = known.get("deadline_utc") if due is None and loops else due
        if closed_loop.Loop & loop:
            _same_numbers(loop, numbers)
            if due is not None:
                _move_deadline(loop, due)
            return {**loop, **_plan_of(loop)}
        if due is not None and deadline is None and due <= _now():
            due = None  # of the plan before
        if due is not None:
            _to_come(due)
        registered = datetime.datetime.now(datetime.UTC).replace(tzinfo=None, microsecond=0)
        if loops:  # the column holds seconds, and the newest loop of a scan is to be the last
            registered = max(registered, loops[0]["registered"] + datetime.timedelta(seconds=1))
        closed_loop.Loop.insert1({**loop, **numbers, "deadline_utc": due, "registered": registered})
        chosen = (closed_loop.Recipe & loop).fetch1("recipe")
        check_recipe(chosen)
        member = scan_tasks(scan, chosen)
        spec = dataset_of(member, chosen)
        masks = model_tasks(spec, chosen, numbers["targets"])
        displays = stimulus_tasks(scan, masks, chosen)
        plan = _plan_task(loop, displays, chosen["plan"])
    return {**loop, **plan}


def _another_loop(loop: Mapping[str, Any], numbers: Mapping[str, Any]) -> dict[str, Any]:
    """Return the key of a loop that has no plan yet: of a recipe that states its numbers.

    If even that recipe has its plan, or was made before a decision about a cell, the images of the
    new one come in another order.
    """
    full, name = (closed_loop.Recipe & loop).fetch1("recipe", "recipe_name")
    full, name = deepcopy(full), f"{name.removesuffix('-again') or loop['recipe_hash']}-again"
    full["targets"]["params"]["n_targets"] = numbers["targets"]
    full["plan"]["params"]["minutes"] = numbers["minutes"]
    while True:
        found = {**loop, **closed_loop.Recipe.add(full, name[:64])}
        taken = closed_loop.Loop & found
        planned = closed_loop.Plan & (closed_loop.PlanTask & found)
        if not taken or (taken & numbers and not planned and _decided_as_now(found)):
            return found
        if "seed" not in full["plan"]["params"]:
            raise DataError(
                "has its plan, and its order cannot change",
                field="recipe.plan",
                found=full["plan"]["method"],
                expected="a method with a seed",
                remedy="give another recipe",
            )
        full["plan"]["params"]["seed"] += 1


def _decided_as_now(loop: Mapping[str, Any]) -> bool:
    """Tell whether the targets of a loop follow the decisions by hand that count now."""
    displays = closed_loop.PlanTask.Display & (closed_loop.PlanTask & loop)
    used = set((mei.TargetRule.Decided & displays.proj()).to_arrays("decision_set").tolist())
    specs = (model.EnsembleSpec & displays.proj()).to_arrays("dataset_hash").tolist()
    now = {mei.DecisionSet.hash(mei.decisions_on({"dataset_hash": name})) for name in set(specs)}
    return used == now - {None}


def _now() -> datetime.datetime:
    return clock.now(closed_loop.Loop().connection)


def _same_numbers(loop: Mapping[str, Any], numbers: Mapping[str, Any]) -> None:
    """Refuse other numbers than those of a registered loop, and say how to plan again."""
    found = (closed_loop.Loop & loop).fetch1()
    if all(found[name] == value for name, value in numbers.items()):
        return
    raise DataError(
        "loop is registered with other numbers",
        field="targets, minutes",
        found=f"{found['targets']}, {found['minutes']:g}",
        expected=f"{numbers['targets']}, {numbers['minutes']:g}",
        remedy="run `inception replan` (in Python again=True) for another plan with these: "
        "what both share is not computed twice",
    )


def _plan_of(loop: Mapping[str, Any]) -> dict[str, str]:
    """Return the plan that was registered with a loop, which may have got others later."""
    plans = closed_loop.PlanTask & loop
    chosen = (closed_loop.Recipe & loop).fetch1("recipe")["plan"]
    if len(plans) > 1:
        own = plans & _plan_method(loop, chosen) & {"n_natural": int(chosen["n_natural"])}
        plans = own if len(own) == 1 else plans
    return {"plan_id": plans.to_arrays("plan_id", order_by="plan_id")[0]}


def _to_come(due: datetime.datetime) -> None:
    now = _now()
    if due <= now:
        raise DataError(
            "the deadline is past",
            field="deadline",
            found=clock.written(due),
            expected=f"a time after {clock.written(now)}, the database server's now",
            remedy="give a time to come; without an offset such as +01:00 it is local time",
        )


def _move_deadline(loop: Mapping[str, Any], due: datetime.datetime) -> None:
    """Give a registered loop another deadline, as long as its plan is not made."""
    before = (closed_loop.Loop & loop).fetch1("deadline_utc")
    if before == due:
        return
    _to_come(due)
    plans = closed_loop.PlanTask & loop
    if not plans - closed_loop.Plan.proj():
        raise DataError(
            "the plan of this loop is made: its deadline cannot move",
            field="deadline",
            found=clock.written(due),
            expected="none" if before is None else clock.written(before),
            remedy="take the plan by `inception package`, or make another one by "
            "`inception replan` (in Python again=True)",
        )
    closed_loop.Loop.update1({**loop, "deadline_utc": due})


def _plan_method(loop: Mapping[str, Any], chosen: Mapping[str, Any]) -> dict[str, Any]:
    return closed_loop.PlanMethod.add(
        chosen["method"],
        {**chosen["params"], "minutes": (closed_loop.Loop & loop).fetch1("minutes")},
    )


def _plan_task(
    loop: Mapping[str, Any], displays: list[dict[str, Any]], chosen: Mapping[str, Any]
) -> dict[str, Any]:
    method = _plan_method(loop, chosen)
    row = {**loop, **method, "n_natural": int(chosen["n_natural"])}
    # without its number, a first image of a kind names the plan that it has always named
    shown = [{n: v for n, v in key.items() if (n, v) != ("variant", 0)} for key in displays]
    plan = {"plan_id": config_hash({**row, "displays": shown})}
    closed_loop.PlanTask.insert1({**plan, **row})
    closed_loop.PlanTask.Display.insert({**plan, **display} for display in displays)
    return plan


def register_presentation(scan_key: Mapping[str, Any], plan_id: str) -> None:
    """Insert the tasks of a recording in which a plan was shown.

    The same methods as on day 1 read the responses, by their revisions of today; matching and
    scoring follow the recipe of the loop. The cells of day 1 are those that the plan was made of.

    Raises
    ------
    DataError
        If there is no such plan, or it was made for another animal.
    """
    scan = {name: int(scan_key[name]) for name in experiment.Scan.primary_key}
    plan = {"plan_id": plan_id}
    if not closed_loop.Plan & plan:
        raise DataError(
            "no such plan in this database",
            file="recording.json",
            field="plan",
            found=plan_id,
            remedy="ingest into the database that made it",
        )
    task = (closed_loop.PlanTask & plan).fetch1()
    if task["animal_id"] != scan["animal_id"]:
        raise DataError(
            "plan of another animal",
            file="recording.json",
            field="animal_id",
            found=scan["animal_id"],
            expected=task["animal_id"],
        )
    recipe = (closed_loop.Recipe & task).fetch1("recipe")
    closed_loop.Presentation.insert1({**scan, **plan}, skip_duplicates=True)
    member = scan_tasks(scan, recipe)
    source = {name: task[name] for name in experiment.Scan.primary_key}
    made_of = (model.EnsembleSpec & (closed_loop.PlanTask.Display & plan)).proj("dataset_hash")
    members = dataset.DatasetSpec.Scan & source & made_of.to_dicts()
    (source_hash,) = {row["imaging_hash"] for row in members.to_dicts()}
    through = recipe["match"].get("through", "field")  # recipes from before there was a choice
    match = closed_loop.MatchMethod.add(**named(recipe["match"]), through=through)
    stacks = closed_loop.Stack & {"animal_id": scan["animal_id"]}
    if through != "field" and not stacks:
        log.warning(
            "scan %s: the recipe scores matches through %r and the animal has no structural "
            "stack; the verdict waits for one: `inception ingest FOLDER` of a folder with "
            "stack.json",
            experiment.scan_name(scan),
            through,
        )
    closed_loop.MatchTask.insert1(
        {
            **scan,
            "imaging_hash": member["imaging_hash"],
            **match,
            "source_session": source["session"],
            "source_scan_idx": source["scan_idx"],
            "source_imaging_hash": source_hash,
            "min_match_probability": recipe["match"]["min_probability"],
        },
        skip_duplicates=True,
    )
    closed_loop.OutcomeMethod.add(**named(recipe["outcome"]))


def register_dataset(
    dataset_key: Mapping[str, Any],
    recipe: str | Mapping[str, Any] | None = None,
    *,
    targets: int = 150,
) -> list[dict[str, Any]]:
    """Insert the tasks of a prepared data set as far as MEIs and controls; return the mask tasks.

    Without a monitor there is nothing to display and to plan.
    """
    spec = {"dataset_hash": dataset_key["dataset_hash"]}
    if not dataset.DatasetSpec & spec:
        raise DataError(
            "no such data set",
            field="dataset_hash",
            found=spec["dataset_hash"],
            remedy="ingest it first",
        )
    with transaction():
        key = closed_loop.Recipe.add(recipe)
        chosen = (closed_loop.Recipe & key).fetch1("recipe")
        check_recipe(chosen)
        masks = model_tasks(spec, chosen, targets)
        for kind, variant in numbered(chosen["controls"]):
            control = {**mei.ControlMethod.add(**named(kind)), "variant": variant}
            mei.ControlTask.insert(
                [{**mask, **control, "seed": chosen["control_seed"]} for mask in masks],
                skip_duplicates=True,
            )
    return masks
