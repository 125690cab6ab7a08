"""One loop and where its chapters write: decisions, targets, ensembles, pictures, CSVs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline import plotting
from workers.report.page import Picture

KINDS = ("mei", "rf", "gabor", "mni", "fni")


class Loop:
    """A loop of the active database.

    Attributes
    ----------
    loop, scan, recipe, plans : its rows
    label : str
        What tells it from the other loops of the report; empty if there are none.
    imaging : dict or None
        Key of the imaging task of its scan.
    targets : DataFrame
        Planned targets: `unit_index, target_rank, unit_id` (NaN if prepared).
    summary : dict
        What the report found, for `result.json`.
    """

    def __init__(self, loop: dict[str, Any], out: Path, stem: str, label: str = "") -> None:
        from schemas import closed_loop

        self.loop, self.out, self.stem, self.label = loop, out, stem, label
        self.scan = {name: loop[name] for name in ("animal_id", "session", "scan_idx")}
        self.name = "/".join(str(value) for value in self.scan.values())
        self.recipe = (closed_loop.Recipe & loop).fetch1("recipe")
        plans = (closed_loop.PlanTask & loop).to_dicts(order_by="plan_id")
        ids = [{"plan_id": plan["plan_id"]} for plan in plans]
        shown = set((closed_loop.Presentation & ids).to_arrays("plan_id")) if ids else set()
        self.plans = sorted(plans, key=lambda plan: plan["plan_id"] in shown)  # the last is told
        self.summary: dict[str, Any] = {"scan": self.name, "recipe": loop["recipe_hash"]}
        self.imaging = self._imaging()
        self.targets = self._targets()

    @property
    def plan(self) -> dict[str, str] | None:
        """Key of the plan to tell of: one that was shown if there is one, and computed."""
        from schemas import closed_loop

        for task in reversed(self.plans):
            if closed_loop.Plan & {"plan_id": task["plan_id"]}:
                return {"plan_id": task["plan_id"]}
        return None

    @property
    def display(self) -> dict[str, Any] | None:
        """Key of one display of that plan: it names target rule, ensembles and methods."""
        from schemas import closed_loop

        if not self.plans:
            return None
        rows = closed_loop.PlanTask.Display & {"plan_id": self.plans[-1]["plan_id"]}
        found = rows.to_dicts(limit=1)
        return found[0] if found else None

    def presentations(self) -> list[dict[str, Any]]:
        """Return the keys of all matches of recordings in which a plan was shown."""
        from schemas import closed_loop

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
        """Write a table of numbers."""
        frame.to_csv(self.out / f"{self.stem}_{name}.csv", index=False)

    def write_recipe(self) -> str:
        """Write the recipe beside the page and return the file's name."""
        file = f"{self.stem}_recipe.json"
        (self.out / file).write_text(json.dumps(self.recipe, indent=2) + "\n", encoding="utf-8")
        return file

    def _imaging(self) -> dict[str, Any] | None:
        """Return the imaging task that the loop's data set is made from."""
        from schemas import dataset, imaging, model

        tasks = imaging.ImagingTask & self.scan
        if self.display:
            ensemble = model.EnsembleSpec & {"ensemble_hash": self.display["ensemble_hash"]}
            data = {"dataset_hash": ensemble.fetch1("dataset_hash")}
            own = dataset.DatasetSpec.Scan & self.scan & data
            tasks &= [{"imaging_hash": row["imaging_hash"]} for row in own.to_dicts()]
        keys = tasks.keys(order_by="imaging_hash")
        return keys[0] if keys else None

    def _targets(self) -> pd.DataFrame:
        """Return the planned targets: unit_index, target_rank, unit_id (NaN if prepared)."""
        from schemas import closed_loop, dataset

        if not self.plans:
            return pd.DataFrame(columns=["unit_index", "target_rank", "unit_id"])
        planned = closed_loop.Plan.Target & {"plan_id": self.plans[-1]["plan_id"]} & {"kind": "mei"}
        joined = planned.proj("target_rank") * dataset.Dataset.Unit
        rows = joined.to_dicts(order_by="target_rank")
        names = ["unit_index", "target_rank", "unit_id"]
        return pd.DataFrame([{name: row[name] for name in names} for row in rows], columns=names)
