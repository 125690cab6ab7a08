"""One loop and where its chapters write: decisions, targets, ensembles, pictures, CSVs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline import plotting
from pipeline.dataset.names import unit_name
from schemas import closed_loop, dataset, experiment, imaging, model
from workers.report.naming import NAMES, with_names
from workers.report.page import Picture


class LoopPage:
    """A loop of the active database.

    Attributes
    ----------
    loop, scan, recipe, plans : its rows
    label : str
        What tells it from the other loops of the report; empty if there are none.
    imaging : dict or None
        Key of the imaging task of its scan.
    units : DataFrame
        Units of its data set as `schemas.dataset.unit_names` returns them; none without a plan.
    targets : DataFrame
        Planned targets, best first: `unit_index, target_rank, unit_id` (NaN if prepared), `field`
        and `unit`, the name.
    summary : dict
        What the report found, for `result.json`.
    """

    def __init__(self, loop: dict[str, Any], out: Path, stem: str, label: str = "") -> None:
        self.loop, self.out, self.stem, self.label = loop, out, stem, label
        self.scan = {name: loop[name] for name in ("animal_id", "session", "scan_idx")}
        self.name = experiment.scan_name(loop)
        self.recipe = (closed_loop.Recipe & loop).fetch1("recipe")
        plans = (closed_loop.PlanTask & loop).to_dicts(order_by="plan_id")
        ids = [{"plan_id": plan["plan_id"]} for plan in plans]
        shown = set((closed_loop.Presentation & ids).to_arrays("plan_id")) if ids else set()
        self.plans = sorted(plans, key=lambda plan: plan["plan_id"] in shown)  # the last is told
        self.summary: dict[str, Any] = {"scan": self.name, "recipe": loop["recipe_hash"]}
        self.imaging = self._imaging()
        self.units = self._units()
        self.targets = self._targets()

    @property
    def plan(self) -> dict[str, str] | None:
        """Key of the plan to tell of: one that was shown if there is one, and computed."""
        for task in reversed(self.plans):
            if closed_loop.Plan & {"plan_id": task["plan_id"]}:
                return {"plan_id": task["plan_id"]}
        return None

    @property
    def told(self) -> str:
        """The `plan_id` that the report tells of, computed or not; empty without any."""
        if self.plan:
            return self.plan["plan_id"]
        return self.plans[-1]["plan_id"] if self.plans else ""

    @property
    def displays(self) -> list[dict[str, Any]]:
        """Keys of the displays of that plan: what it was made from, or is to be made from."""
        plan = {"plan_id": self.told}
        rows = closed_loop.Plan.Source & plan if self.plan else closed_loop.PlanTask.Display & plan
        return rows.to_dicts(order_by="KEY")

    @property
    def display(self) -> dict[str, Any] | None:
        """Key of one of them: it names target rule, ensembles and methods."""
        found = self.displays
        return found[0] if found else None

    @property
    def dataset_hash(self) -> str:
        """Key of the data set that the stimuli are made from; empty without a plan."""
        if not self.display:
            return ""
        ensemble = model.EnsembleSpec & {"ensemble_hash": self.display["ensemble_hash"]}
        return ensemble.fetch1("dataset_hash")

    def name_of_unit(self, unit_index: int) -> str:
        """Return what a unit of the loop's data set is called."""
        found = self.units["unit"].xs(int(unit_index), level="unit_index")
        return str(found.iloc[0]) if len(found) else unit_name(None, output=unit_index)

    def presentations(self) -> list[dict[str, Any]]:
        """Return the keys of all matches of recordings in which a plan was shown."""
        if not self.plans:
            return []
        plans = [{"plan_id": plan["plan_id"]} for plan in self.plans]
        shown = closed_loop.Presentation & plans
        return (closed_loop.UnitMatch * shown.proj()).keys(order_by=["session", "scan_idx"])

    def picture(self, figure: Any, name: str, title: str, caption: str = "") -> Picture:
        """Write a figure and return it for a section."""
        file = f"{self.stem}_{name}.png"
        plotting.save(figure, self.out / file)
        figure.clear()  # its parts refer to one another, so that they would stay in memory
        return Picture(title, file, caption)

    def csv(self, frame: pd.DataFrame, name: str) -> None:
        """Write a table of numbers; a neuron's number, field and name stand beside its index."""
        own = set(self.units.index.unique("dataset_hash"))
        hashes = {
            str(name)
            for column in frame.columns
            if column.endswith("dataset_hash")
            for name in frame[column].dropna().unique()
        }
        units = self.units
        if hashes - own:  # of another day
            units = dataset.unit_names([{"dataset_hash": name} for name in hashes])
        with_names(frame, units).to_csv(self.out / f"{self.stem}_{name}.csv", index=False)

    def write_recipe(self) -> str:
        """Write the recipe beside the page and return the file's name."""
        file = f"{self.stem}_recipe.json"
        (self.out / file).write_text(json.dumps(self.recipe, indent=2) + "\n", encoding="utf-8")
        return file

    def _imaging(self) -> dict[str, Any] | None:
        """Return the imaging task that the loop's data set is made from."""
        tasks = imaging.ImagingTask & self.scan
        if self.display:
            own = dataset.DatasetSpec.Scan & self.scan & {"dataset_hash": self.dataset_hash}
            tasks &= [{"imaging_hash": row["imaging_hash"]} for row in own.to_dicts()]
        keys = tasks.keys(order_by="imaging_hash")
        return keys[0] if keys else None

    def _units(self) -> pd.DataFrame:
        """Return the names of the units of the data set that the plan's stimuli are made from."""
        return dataset.unit_names({"dataset_hash": self.dataset_hash})

    def _targets(self) -> pd.DataFrame:
        """Return the planned targets with their names."""
        if not self.plans:
            return pd.DataFrame(columns=["unit_index", "target_rank", *NAMES])
        planned = closed_loop.Plan.Target & {"plan_id": self.told}
        names = ["dataset_hash", "unit_index", "target_rank"]
        rows = pd.DataFrame(
            [{n: row[n] for n in names} for row in planned.to_dicts()], columns=names
        )
        rows = rows.drop_duplicates().sort_values("target_rank", ignore_index=True)
        return with_names(rows, self.units)
