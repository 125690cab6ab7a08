"""The rows of task tables that a recipe asks for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from typing import Any

from pipeline.errors import DataError
from pipeline.imaging.deconvolution.indicators import kinetics_of
from pipeline.model import default_config, ln_config
from pipeline.stimulus.display import within_range
from pipeline.stimulus.sizes import stored_shape
from schemas import behavior, dataset, experiment, imaging, mei, model, stimulus


def transaction() -> Any:
    """Open a transaction, or take part in the one that is open."""
    connection = experiment.schema.connection
    return nullcontext() if connection.in_transaction else connection.transaction


def insert_decision(table: Any, row: Mapping[str, Any], field: str) -> None:
    """Insert a task, or find it as it is wanted.

    Raises
    ------
    DataError
        If the same task was decided with other numbers: its results would be taken for these.
    """
    table.insert1(row, skip_duplicates=True)
    found = (table & {name: row[name] for name in table.primary_key}).fetch1()
    others = {name: found[name] for name in row if found[name] != row[name]}
    if others:
        raise DataError(
            f"these tasks of {table.__module__.split('.')[1]}.{table.__name__} were decided before",
            field=field,
            found=others,
            expected={name: row[name] for name in others},
            remedy="keep the former numbers, or change the method's parameters as well",
        )


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


def image_size(scan: Mapping[str, Any]) -> tuple[int, int]:
    """Return height and width of the images that a scan showed (px)."""
    shown = stimulus.Image & (stimulus.Trial & scan)
    sizes = sorted({(row["height_px"], row["width_px"]) for row in shown.to_dicts()})
    return sizes[-1]


def dataset_of(member: Mapping[str, Any], recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Insert the data set of one scan, of the keys that `scan_tasks` returns; return its key."""
    chosen = recipe["dataset"]
    shape = stored_shape(image_size(member), chosen["height_px"])
    return dataset.DatasetSpec.add(member, shape, chosen["tiers"])


def model_tasks(
    spec: Mapping[str, Any], recipe: Mapping[str, Any], targets: int
) -> list[dict[str, Any]]:
    """Insert trainings, ensembles, target selection, MEIs and masks; return the mask tasks."""
    maker, ln = model_ensembles(spec, recipe)
    rule = recipe["targets"]
    params = {**rule["params"], "n_targets": targets}
    target = {
        "ensemble_hash": maker["ensemble_hash"],
        "ln_ensemble_hash": ln["ensemble_hash"],
        **mei.TargetRule.add(rule["method"], params, decision_set=_decision_set(spec, targets)),
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
        ranks = {"first_rank": first, "last_rank": last}
        insert_decision(mei.MEITask, {**task, **ranks, **settings}, "recipe.mei")
        masks.append({**task, **mask})
        mei.MaskTask.insert1(masks[-1], skip_duplicates=True)
    for wanted in recipe["analyses"]:
        analysis = mei.AnalysisMethod.add(**named(wanted))
        tasks = ({**task, **analysis} for task in masks)
        mei.AnalysisTask.insert(tasks, skip_duplicates=True)
    return masks


def _decision_set(spec: Mapping[str, Any], targets: int) -> str | None:
    """Keep the decisions by hand that count now; return the hash of all of them."""
    decisions = mei.decisions_on(spec)
    included = sum(bool(row["included"]) for row in decisions)
    if included > targets:
        raise DataError(
            "more units are targets by hand than there are to be targets",
            field="targets",
            found=targets,
            expected=f"{included} or more",
            remedy="ask for more (--targets), or exclude some (inception targets)",
        )
    return mei.DecisionSet.add(decisions)


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


def stimulus_tasks(
    scan: Mapping[str, Any], masks: list[dict[str, Any]], recipe: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Insert the tasks of every kind of stimulus and of their display; return the latter's keys."""
    height, width = image_size(scan)
    chosen = recipe["display"]
    curve = experiment.MonitorCalibration.curve(scan)
    display = mei.DisplayMethod.add(chosen["method"], within_range(chosen["params"], curve))
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
            seed = {"seed": recipe["control_seed"]}
            insert_decision(mei.ControlTask, {**task, **seed}, "recipe.control_seed")
            if recipe["pool"]:
                sets = ({**task, **pool} for pool in pools.keys())  # noqa: SIM118
                mei.ControlTask.Pool.insert(sets, skip_duplicates=True)
            displays.append({**task, **display})
            mei.DisplayTask.insert1(
                {**displays[-1], **scan, "height_px": height, "width_px": width},
                skip_duplicates=True,
            )
    return displays
