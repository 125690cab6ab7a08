"""The methods text: what was computed, with the parameters of the rows that were used."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from importlib import metadata
from typing import Any

from pipeline.mei.controls import in_order
from pipeline.plotting.style import name_of
from pipeline.stimulus.kinds import stimulus_name
from schemas import behavior, closed_loop, dataset, imaging, mei, model, stimulus
from workers.report.context import LoopPage
from workers.report.page import Section
from workers.version import code_version

PACKAGES = ("numpy", "scipy", "torch", "datajoint", "opencv-python-headless", "pandas")


@dataclass(frozen=True)
class Step:
    """One row that something was computed by.

    Attributes
    ----------
    part : str
        Paragraph that it belongs to.
    title : str
        What it decides; may be empty.
    table : str
        Stage and class of its table, such as `mei.TargetRule`.
    key : dict
        Its primary key, or what several rows that agree have in common.
    name : str
        Of the method; empty where the row has settings alone.
    values : dict
        Its parameters.
    """

    part: str
    title: str
    table: str
    key: dict[str, Any]
    name: str
    values: dict[str, Any]

    @property
    def text(self) -> str:
        """Title, method and parameters, with table and hash of the row."""
        settings = settings_text(self.values)
        what = f"{self.name} ({settings})" if self.name and settings else self.name or settings
        row = f"{self.table} {next(iter(self.key.values()))}" if len(self.key) == 1 else self.table
        return f"{self.title + ': ' if self.title else ''}{what} [{row}]."


def settings_text(values: Mapping[str, Any]) -> str:
    """Return parameters as text, sorted by name: `edge_um 10.0, norm none`."""
    return ", ".join(f"{name} {_value(values[name])}" for name in sorted(values))


def _value(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, Mapping):
        return "{" + settings_text(value) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_value, value)) + "]"
    return str(value)


def methods(page: LoopPage) -> Section:
    """Return the methods as paragraphs; every row that was used is named with its parameters."""
    parts: dict[str, list[str]] = {}
    for step in steps(page):
        parts.setdefault(step.part, []).append(step.text)
    lines = [f"{part}. " + " ".join(texts) for part, texts in parts.items()]
    frozen = (closed_loop.AnalysisPlan & (page.plan or {"plan_id": ""})).to_dicts()
    if frozen:
        plan = frozen[0]["analysis_plan"]
        pairs = ", ".join(" against ".join(map(name_of, pair)) for pair in plan["comparisons"])
        lines.append(
            f"Analysis plan, frozen as {frozen[0]['analysis_hash']} before day 2. {pairs}; "
            f"{plan['method']} ({settings_text(plan['params'])}); neurons matched with probability "
            f"{plan['inclusion']['min_match_probability']} or more, trials that passed the audit "
            "[closed_loop.AnalysisPlan]."
        )
    packages = closed_loop.Package & (page.plan or {"plan_id": ""})
    for row in packages.to_dicts(order_by="written"):
        lines.append(f"Package {row['package_digest'][:16]} was written {row['written']} (UTC).")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in _installed())
    python = platform.python_version()
    lines.append(f"Software. inception-loop {code_version()}, Python {python}, {versions}.")
    if not parts:
        lines.insert(0, "Nothing is planned yet; the recipe tells what will be computed.")
    return Section(f"Methods of the loop on {page.name}", remarks=lines)


def steps(page: LoopPage) -> list[Step]:
    """Return the rows that the plan told of, and its presentations, were computed by."""
    if page.display is None:
        return []
    return [*_recording(page), *_models(page), *_stimuli(page), *_day2(page)]


def _method(part: str, title: str, table: Any, key: Mapping[str, Any]) -> Step:
    """Return the row of a method table that a key names."""
    (name,) = table.primary_key
    own = {name: key[name]}
    return Step(part, title, _name(table), own, *table.fetch_method(own))


def _name(table: Any) -> str:
    return f"{table.__module__.split('.')[1]}.{table.__name__}"


def _distinct(rows: Iterable[Mapping[str, Any]], *names: str) -> list[dict[str, Any]]:
    """Return some columns of rows, each combination once, in the order of the rows."""
    found: list[dict[str, Any]] = []
    for row in rows:
        one = {name: row[name] for name in names}
        if one not in found:
            found.append(one)
    return found


def _recording(page: LoopPage) -> list[Step]:
    """Return what made responses and behavior of day 1, and the data set."""
    found = []
    if page.imaging is not None:
        recipe = (imaging.ImagingRecipe & page.imaging).fetch1()
        found += [
            _method("Imaging", step, table, recipe)
            for step, table in imaging.ImagingRecipe.steps.items()
        ]
    data = {"dataset_hash": page.dataset_hash}
    for member in (dataset.DatasetSpec.Scan & data).to_dicts(order_by="KEY"):
        task = (dataset.ResponseTask & member).fetch1()
        limits = {name: task[name] for name in ("min_soma_probability", "min_snr")}
        key = {name: task[name] for name in dataset.ResponseTask.primary_key}
        found += [
            _method("Behavior", "pupil", behavior.PupilMethod, member),
            _method("Behavior", "treadmill", behavior.TreadmillMethod, member),
            _method("Behavior", "on trials", dataset.BehaviorWindow, member),
            _method("Responses", "window", dataset.ResponseMethod, member),
            Step("Responses", "units", "dataset.ResponseTask", key, "", limits),
        ]
        measured = (dataset.Reliability & key).to_dicts(order_by="reliability_hash")
        found += [
            _method("Responses", "reliability", dataset.ReliabilityMethod, row)
            for row in _distinct(measured, "reliability_hash")
        ]
    spec = (dataset.DatasetSpec & data).fetch1()
    size = {name: spec[name] for name in ("height_px", "width_px")}
    tiers = {**size, **spec["tier_params"]}
    found.append(Step("Data set", "images and tiers", "dataset.DatasetSpec", data, "", tiers))
    for row in (dataset.DatasetSpec.Filter & data).to_dicts():
        found.append(_method("Data set", "units", dataset.UnitFilter, row))
    return found


def _models(page: LoopPage) -> list[Step]:
    """Return the members of both ensembles, and how they share a prediction."""
    found, told = [], set()
    for column in ("ensemble_hash", "ln_ensemble_hash"):
        key = {"ensemble_hash": page.display[column]}
        members = (model.EnsembleSpec.Member & key).to_dicts(order_by=["model_hash", "seed"])
        for config in _distinct(members, "model_hash"):
            row = (model.ModelConfig & config).fetch1()
            mine = [m for m in members if m["model_hash"] == row["model_hash"]]
            seeds = [m["seed"] for m in mine]
            if (row["model_hash"], *seeds) in told:
                continue
            told.add((row["model_hash"], *seeds))
            own = {name: mine[0][name] for name in ("dataset_hash", "model_hash")}
            limit = (model.TrainingTask & own & [{"seed": seed} for seed in seeds]).to_dicts()
            name = row["model_kind"].upper()
            found.append(Step("Models", name, "model.ModelConfig", config, "", row["model_config"]))
            values = {"seeds": seeds, "max_seconds": _one(r["max_seconds"] for r in limit)}
            found.append(
                Step("Models", f"{name}, trainings", "model.TrainingTask", own, "", values)
            )
        for row in (model.EnsembleSpec.Combination & key).to_dicts():
            title = "how models share the prediction that MEIs are made from"
            found.append(_method("Models", title, model.CombinationMethod, row))
    return found


def _one(values: Iterable[Any]) -> Any:
    """Return the value that all rows have, or the list of them."""
    different = list(dict.fromkeys(values))
    return different[0] if len(different) == 1 else different


def _stimuli(page: LoopPage) -> list[Step]:
    """Return what chose the targets and made, masked, displayed and analyzed their images."""
    shown = page.displays
    batches = [{n: row[n] for n in mei.MaskTask.primary_key} for row in shown]
    found = [
        _method("Selection of neurons", "", mei.TargetRule, row)
        for row in _distinct(shown, "target_hash")
    ]
    for row in _distinct(shown, "ascent_hash"):
        found.append(_method("Most exciting inputs", "", mei.AscentMethod, row))
        tasks = (mei.MEITask & batches & row).to_dicts(order_by="KEY")
        values = {name: _one(task[name] for task in tasks) for name in ("starts", "seed", "norm")}
        found.append(Step("Most exciting inputs", "ascents", "mei.MEITask", row, "", values))
    found += [_method("Masks", "", mei.MaskMethod, row) for row in _distinct(shown, "mask_hash")]
    kinds = {}
    for row in shown:
        step = _method("Stimuli", "", mei.ControlMethod, row)
        name = stimulus_name(step.name, row.get("variant", 0))
        kinds[name] = replace(step, title=name_of(name))
    found += [kinds[name] for name in in_order(kinds)]
    tasks = mei.ControlTask & shown
    seed = {"seed": _one(tasks.to_arrays("seed", order_by="KEY").tolist())}
    pools = stimulus.ImageSet & (mei.ControlTask.Pool & shown)
    if pools:
        names = pools.to_arrays("imageset_name", order_by="imageset_name").tolist()
        seed["further natural images"] = names
    found.append(Step("Stimuli", "all of them", "mei.ControlTask", {}, "", seed))
    for row in _distinct(shown, "display_hash"):
        step = _method("Display", "", mei.DisplayMethod, row)
        # the task and the stimulus decide these, whatever the method's row holds
        used = {name: v for name, v in step.values.items() if name not in ("size_px", "masks")}
        found.append(replace(step, values=used))
        tasks = (mei.DisplayTask & shown & row).to_dicts()
        values = {name: _one(t[name] for t in tasks) for name in ("height_px", "width_px")}
        found.append(Step("Display", "size", "mei.DisplayTask", row, "", values))
    made = (mei.Analysis & batches).to_dicts(order_by=["analysis", "analysis_hash"])
    found += [
        _method("Analyses in the models", "", mei.AnalysisMethod, row)
        for row in _distinct(made, "analysis_hash")
    ]
    return found


def _day2(page: LoopPage) -> list[Step]:
    """Return what planned day 2, found its cells and scored it; and the models of other days."""
    task = (closed_loop.PlanTask & {"plan_id": page.told}).fetch1()
    found = [_method("Plan of day 2", "", closed_loop.PlanMethod, task)]
    plan = {"plan_id": page.told}
    natural = {"n_natural": task["n_natural"]}
    found.append(Step("Plan of day 2", "images", "closed_loop.PlanTask", plan, "", natural))
    matches = [(closed_loop.MatchTask & match).fetch1() for match in page.presentations()]
    for row in _distinct(matches, "match_hash", "min_match_probability"):
        found.append(_method("The same cells", "", closed_loop.MatchMethod, row))
        least = {"min_match_probability": row["min_match_probability"]}
        key = {"match_hash": row["match_hash"]}
        found.append(Step("The same cells", "scored", "closed_loop.MatchTask", key, "", least))
    scored = [
        row
        for match in page.presentations()
        for row in (closed_loop.Outcome & match).to_dicts(order_by="outcome_hash")
    ]
    found += [
        _method("Verdict", "", closed_loop.OutcomeMethod, row)
        for row in _distinct(scored, "outcome_hash")
    ]
    batches = [{n: row[n] for n in mei.MaskTask.primary_key} for row in page.displays]
    others = (closed_loop.OtherDayTask & batches).to_dicts(order_by="KEY")
    for row in _distinct(others, "match_hash", "min_match_probability"):
        title = "cells of the other day"
        found.append(_method("MEIs of another day", title, closed_loop.MatchMethod, row))
        least = {"min_match_probability": row["min_match_probability"]}
        key = {"match_hash": row["match_hash"]}
        found.append(
            Step("MEIs of another day", "compared", "closed_loop.OtherDayTask", key, "", least)
        )
    return found


def _installed() -> list[str]:
    known = {item.metadata["Name"].lower() for item in metadata.distributions()}
    return [name for name in PACKAGES if name in known]
