"""From one decision to all task rows: a loop on day 1, a presentation on day 2, a data set."""

from __future__ import annotations

import datetime
import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from copy import deepcopy
from typing import Any

from pipeline.errors import DataError
from pipeline.imaging.deconvolution.indicators import kinetics_of
from pipeline.model import default_config, ln_config
from pipeline.registry import config_hash
from pipeline.stimulus.monitor import MonitorCurve
from schemas import (
    behavior,
    clock,
    closed_loop,
    dataset,
    experiment,
    imaging,
    mei,
    model,
    stimulus,
)
from schemas.decisions.recipe import check_recipe

log = logging.getLogger("inception.registration")

MODEL_HEIGHTS = range(24, 49)  # rows of the model's image that are tried for another aspect ratio
ASPECT_TOLERANCE = 0.005
NUMBERS = {"targets": 150, "minutes": 60.0}  # of a loop, unless they are given
CONTRAST = 0.2  # sd over mean of the luminance where the recipe's own is beyond the monitor


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
            found="/".join(map(str, scan.values())),
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
        closed_loop.Loop.insert1({**loop, **numbers, "deadline_utc": due, "registered": registered})
        chosen = (closed_loop.Recipe & loop).fetch1("recipe")
        check_recipe(chosen)
        member = scan_tasks(scan, chosen)
        spec = dataset.DatasetSpec.add(
            member, model_shape(scan, chosen["dataset"]["height_px"]), chosen["dataset"]["tiers"]
        )
        masks = _model_tasks(spec, chosen, numbers["targets"])
        displays = _stimulus_tasks(scan, masks, chosen)
        plan = _plan_task(loop, displays, chosen["plan"])
    return {**loop, **plan}


def _another_loop(loop: Mapping[str, Any], numbers: Mapping[str, Any]) -> dict[str, Any]:
    """Return the key of a loop that has no plan yet: of a recipe that states its numbers.

    If even that recipe has its plan, the images of the new one come in another order.
    """
    full, name = (closed_loop.Recipe & loop).fetch1("recipe", "recipe_name")
    full, name = deepcopy(full), f"{name.removesuffix('-again') or loop['recipe_hash']}-again"
    full["targets"]["params"]["n_targets"] = numbers["targets"]
    full["plan"]["params"]["minutes"] = numbers["minutes"]
    while True:
        found = {**loop, **closed_loop.Recipe.add(full, name[:64])}
        taken = closed_loop.Loop & found
        planned = closed_loop.Plan & (closed_loop.PlanTask & found)
        if not taken or (taken & numbers and not planned):
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
        remedy="add --again (in Python again=True) for another plan with these: "
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
            remedy="take the plan by `inception package`, or add --again (in Python again=True) "
            "for another plan",
        )
    closed_loop.Loop.update1({**loop, "deadline_utc": due})


def transaction() -> Any:
    """Open a transaction, or take part in the one that is open."""
    connection = experiment.schema.connection
    return nullcontext() if connection.in_transaction else connection.transaction


def scan_tasks(scan: Mapping[str, Any], recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Insert the tasks of one scan up to its responses and return their keys together."""
    images = imaging.ImagingRecipe.add(_imaging_methods(scan, recipe["imaging"]))
    imaging.ImagingTask.insert1({**scan, **images}, skip_duplicates=True)
    imaging.QualityMethod.add()
    chosen = recipe["responses"]
    response = dataset.ResponseMethod.add(**named(chosen["window"]))
    limits = {name: chosen[name] for name in ("min_soma_probability", "min_snr")}
    if not experiment.Scan.files(scan, "tiff"):
        # whoever extracted the traces has said which units are cells, whatever their SNR
        limits = {"min_soma_probability": 0.5, "min_snr": 0.0}
    dataset.ResponseTask.insert1({**scan, **images, **response, **limits}, skip_duplicates=True)
    for method in chosen["reliability"]:
        dataset.ReliabilityMethod.add(**named(method))
    state = {
        **behavior.PupilMethod.add(**named(recipe["behavior"]["pupil"])),
        **behavior.TreadmillMethod.add(**named(recipe["behavior"]["treadmill"])),
    }
    behavior.BehaviorTask.insert1({**scan, **state}, skip_duplicates=True)
    window = dataset.BehaviorWindow.add(**named(recipe["behavior"]["window"]))
    dataset.TrialBehaviorTask.insert1({**scan, **state, **window}, skip_duplicates=True)
    return {**scan, **images, **response, **state, **window}


def named(method: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe's method as `MethodTable.add` takes it."""
    return {"name": method["method"], "params": method["params"]}


def numbered(controls: Iterable[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], int]]:
    """Return a recipe's controls, each with its number among those of its kind, from 0."""
    counts: Counter[str] = Counter()
    found = []
    for control in controls:
        found.append((control, counts[control["method"]]))
        counts[control["method"]] += 1
    return found


def _imaging_methods(
    scan: Mapping[str, Any], methods: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Return the recipe's methods as they suit a scan: its indicator, or its given traces."""
    chosen = {step: dict(method) for step, method in methods.items()}
    if not experiment.Scan.files(scan, "tiff"):
        for step in ("raster", "motion", "segmentation", "fluorescence"):
            chosen[step] = {"method": "extracted", "params": {}}
    deconvolution = chosen["deconvolution"]
    params = dict(deconvolution["params"])
    if "indicator" in params and params["indicator"] is None:
        indicator = (experiment.Scan & scan).fetch1("indicator")
        if _known_indicator(indicator):
            params["indicator"] = indicator
    chosen["deconvolution"] = {**deconvolution, "params": params}
    return chosen


def _known_indicator(name: str) -> bool:
    try:
        kinetics_of(name)
    except ValueError:
        return False  # the deconvolver then estimates the kinetics from the traces
    return True


def _image_size(scan: Mapping[str, Any]) -> tuple[int, int]:
    """Return height and width of the images that a scan showed (px)."""
    shown = stimulus.Image & (stimulus.Trial & scan)
    sizes = sorted({(row["height_px"], row["width_px"]) for row in shown.to_dicts()})
    return sizes[-1]


def model_shape(scan: Mapping[str, Any], height: int) -> tuple[int, int]:
    """Return height and width of the model's image: the monitor's aspect, about `height` rows."""
    size = _image_size(scan)
    if size[0] <= height:
        return size
    ratio = size[1] / size[0]
    for rows in sorted(MODEL_HEIGHTS, key=lambda rows: (abs(rows - height), rows)):
        if abs(round(rows * ratio) / (rows * ratio) - 1) <= ASPECT_TOLERANCE and rows <= size[0]:
            return rows, round(rows * ratio)
    return height, round(height * ratio)


def _model_tasks(
    spec: Mapping[str, Any], recipe: Mapping[str, Any], targets: int
) -> list[dict[str, Any]]:
    """Insert trainings, ensembles, target selection, MEIs and masks; return the mask tasks."""
    maker, ln = model_ensembles(spec, recipe)
    rule = recipe["targets"]
    target = {
        "ensemble_hash": maker["ensemble_hash"],
        "ln_ensemble_hash": ln["ensemble_hash"],
        **mei.TargetRule.add(rule["method"], {**rule["params"], "n_targets": targets}),
    }
    mei.TargetTask.insert1(target, skip_duplicates=True)
    chosen = recipe["mei"]
    ascent = mei.AscentMethod.add(**named(chosen))
    mask = mei.MaskMethod.add(**named(recipe["mask"]))
    size = int(chosen["batch_size"])
    masks = []
    for batch, first in enumerate(range(0, targets, size)):
        task = {**target, **ascent, "batch": batch}
        settings = {name: chosen[name] for name in ("starts", "seed", "norm")}
        last = min(first + size, targets) - 1
        mei.MEITask.insert1(
            {**task, "first_rank": first, "last_rank": last, **settings}, skip_duplicates=True
        )
        masks.append({**task, **mask})
        mei.MaskTask.insert1(masks[-1], skip_duplicates=True)
    for wanted in recipe["analyses"]:
        analysis = mei.AnalysisMethod.add(**named(wanted))
        tasks = ({**task, **analysis} for task in masks)
        mei.AnalysisTask.insert(tasks, skip_duplicates=True)
    return masks


def model_ensembles(
    spec: Mapping[str, Any], recipe: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Insert the trainings of a recipe and their ensembles.

    Returns
    -------
    maker, ln : dict
        Keys of the ensemble that MEIs are made from, and of the LN ensemble.
    """
    chosen, made, everyone = recipe["model"], {}, {}
    for kind, fallback in (("cnn", default_config), ("ln", ln_config)):
        config = model.ModelConfig.add(chosen[kind] or fallback(), kind)
        tasks = [{**spec, **config, "seed": int(seed)} for seed in chosen[f"{kind}_seeds"]]
        limit = {"max_seconds": chosen["max_seconds"]}
        model.TrainingTask.insert([{**task, **limit} for task in tasks], skip_duplicates=True)
        made[kind] = model.EnsembleSpec.add(tasks, kind)
        everyone |= {(task["model_hash"], task["seed"]): task for task in tasks}
    if chosen.get("combination") is None:  # recipes from before there was one, too
        return made["cnn"], made["ln"]
    maker = model.EnsembleSpec.add(
        list(everyone.values()), "combined", combination=chosen["combination"]
    )
    return maker, made["ln"]


def _stimulus_tasks(
    scan: Mapping[str, Any], masks: list[dict[str, Any]], recipe: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Insert the tasks of every kind of stimulus and of their display; return the latter's keys."""
    height, width = _image_size(scan)
    chosen = recipe["display"]
    curve = experiment.MonitorCalibration.curve(scan)
    display = mei.DisplayMethod.add(chosen["method"], _displayable(chosen["params"], curve))
    pools = stimulus.ImageSet & [{"imageset_name": name} for name in recipe["pool"]]
    if len(pools) < len(recipe["pool"]):
        raise DataError(
            "no such image set",
            field="recipe.pool",
            found=recipe["pool"],
            expected="names in stimulus.ImageSet",
        )
    displays = []
    for kind, variant in numbered(recipe["controls"]):
        control = {**mei.ControlMethod.add(**named(kind)), "variant": variant}
        for mask in masks:
            task = {**mask, **control}
            mei.ControlTask.insert1({**task, "seed": recipe["control_seed"]}, skip_duplicates=True)
            if recipe["pool"]:
                sets = ({**task, **pool} for pool in pools.keys())  # noqa: SIM118
                mei.ControlTask.Pool.insert(sets, skip_duplicates=True)
            displays.append({**task, **display})
            mei.DisplayTask.insert1(
                {**displays[-1], **scan, "height_px": height, "width_px": width},
                skip_duplicates=True,
            )
    return displays


def _displayable(params: Mapping[str, Any], curve: MonitorCurve) -> dict[str, Any]:
    """Return display parameters with a luminance and contrast that the monitor has.

    The recipe's, if the monitor reaches three standard deviations around its mean; else the
    luminance of mid-gray, at the same contrast.
    """
    params = dict(params)
    mean, sd = params.get("mean_cd_m2"), params.get("sd_cd_m2")
    low, high = curve.luminance_range
    if mean is None or sd is None or (low <= mean - 3 * sd and mean + 3 * sd <= high):
        return params
    mean = round(float(curve.to_luminance(sum(curve.pixel_range) / 2)), 3)
    sd = min(CONTRAST * mean, (mean - low) / 3, (high - mean) / 3)
    return {**params, "mean_cd_m2": mean, "sd_cd_m2": round(sd, 4)}


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
            "/".join(map(str, scan.values())),
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
        masks = _model_tasks(spec, chosen, targets)
        for kind, variant in numbered(chosen["controls"]):
            control = {**mei.ControlMethod.add(**named(kind)), "variant": variant}
            mei.ControlTask.insert(
                [{**mask, **control, "seed": chosen["control_seed"]} for mask in masks],
                skip_duplicates=True,
            )
    return masks
