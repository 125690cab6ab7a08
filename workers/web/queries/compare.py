"""Two loops, two recipes or two ensembles beside each other."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.errors import DataError
from pipeline.registry import canonical_json
from schemas import closed_loop, model
from workers.report.context import LoopPage
from workers.web.queries import cells, day2, plans
from workers.web.queries.cells import MEASURES
from workers.web.queries.fields import rounded

MOST_ENSEMBLES = 200  # in the list to choose from


def flat(value: Any, name: str = "") -> dict[str, str]:
    """Return the entries of a document by their path: `{"mei.params.steps": "5"}`."""
    if isinstance(value, dict) and value:
        found: dict[str, str] = {}
        for key, item in value.items():
            found |= flat(item, f"{name}.{key}" if name else str(key))
        return found
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        found = {}
        for place, item in enumerate(value):
            label = item.get("method") if isinstance(item, dict) else None
            found |= flat(item, f"{name}[{label or place}]")
        return found
    return {name: value if isinstance(value, str) else canonical_json(value)}


def differences(first: Any, second: Any) -> list[tuple[str, str | None, str | None]]:
    """Return the entries that two recipes do not share: path, first, second (None: not there)."""
    one, two = flat(first), flat(second)
    names = sorted(set(one) | set(two))
    return [
        (name, one.get(name), two.get(name)) for name in names if one.get(name) != two.get(name)
    ]


def loops(first: LoopPage, second: LoopPage) -> dict[str, Any]:
    """Return what two loops have in common and what not.

    Returns
    -------
    dict
        `differences` of their recipes; `numbers`: rows (name, first, second); `shared`: units that
        are targets of both, None on different scans; `verdicts`: of each, by recording.
    """
    sides = [_side(page) for page in (first, second)]
    same = first.scan == second.scan
    chosen = [set(page.targets["unit_id"].dropna().astype(int)) for page in (first, second)]
    names = list(dict.fromkeys(name for side in sides for name in side["numbers"]))
    return {
        "differences": differences(first.recipe, second.recipe),
        "numbers": [(name, *(side["numbers"].get(name) for side in sides)) for name in names],
        "shared": len(chosen[0] & chosen[1]) if same else None,
        "chosen": [len(units) for units in chosen],
        "verdicts": [side["verdicts"] for side in sides],
    }


def _side(page: LoopPage) -> dict[str, Any]:
    numbers: dict[str, Any] = {
        "targets asked for": page.loop["targets"],
        "minutes asked for": page.loop["minutes"],
    }
    plan = plans.plan(page)
    if plan:
        names = {"units": "targets", "images": "images", "repeats": "repeats", "minutes": "minutes"}
        numbers |= {f"{text} of the plan": plan["size"][name] for name, text in names.items()}
        numbers |= {f"predicted to {k['name']} (median)": k["predicted"] for k in plan["kinds"]}
    for ensemble in cells.ensembles(page):
        for row in (model.Evaluation & {"ensemble_hash": ensemble["ensemble_hash"]}).to_dicts():
            for name in ("validation", "single_trial", "fraction_oracle"):
                numbers[f"{ensemble['kind']}: {name.replace('_', ' ')}"] = rounded(row[name])
    verdicts = [
        {"scan": recording["scan"], **outcome}
        for recording in day2.recordings(page)
        for match in recording["matches"]
        for outcome in match["outcomes"]
    ]
    return {"numbers": numbers, "verdicts": verdicts}


def all_ensembles() -> list[dict[str, Any]]:
    """Return the ensembles that are evaluated: `ensemble_hash, ensemble_kind, dataset_hash`."""
    rows = model.EnsembleSpec & model.Evaluation.proj()
    return rows.to_dicts(
        order_by=("dataset_hash", "ensemble_kind", "ensemble_hash"), limit=MOST_ENSEMBLES
    )


def ensembles(first: str, second: str) -> dict[str, Any]:
    """Return the measures of two ensembles, and of units that both predict.

    Returns
    -------
    dict
        `numbers`: rows (measure, first, second, share of units where the second is better);
        `points`: `[first, second]` of each unit, single trials; `contrasts`: rows of
        `model.Contrast.Measure`, where somebody asked for them.
    """
    rows = [(model.Evaluation & {"ensemble_hash": name}).to_dicts() for name in (first, second)]
    if not all(rows):
        missing = first if not rows[0] else second
        raise DataError("no such ensemble is evaluated", field="ensemble", found=missing)
    units = [_units(name) for name in (first, second)]
    shared = sorted(set(units[0]) & set(units[1]))
    numbers = []
    for name in MEASURES:
        pairs = np.array(
            [[units[0][unit][name], units[1][unit][name]] for unit in shared], float
        ).reshape(-1, 2)
        known = pairs[np.isfinite(pairs).all(axis=1)]
        share = float((known[:, 1] > known[:, 0]).mean()) if len(known) else None
        numbers.append((name, rounded(rows[0][0][name]), rounded(rows[1][0][name]), rounded(share)))
    asked = {"first_hash": first, "second_hash": second}
    return {
        "numbers": numbers,
        "units": len(shared),
        "points": [
            [rounded(side[unit]["single_trial"]) for side in units] for unit in shared[:5000]
        ],
        "contrasts": (model.Contrast.Measure & asked).to_dicts(order_by="measure"),
    }


def _units(name: str) -> dict[tuple, dict[str, Any]]:
    rows = (model.Evaluation.Unit & {"ensemble_hash": name}).to_dicts()
    return {(row["dataset_hash"], row["unit_index"]): row for row in rows}


def recipe_names() -> list[dict[str, Any]]:
    """Return every recipe: `recipe_hash, recipe_name`."""
    return closed_loop.Recipe.proj("recipe_name").to_dicts(order_by=("recipe_name", "recipe_hash"))


def recipe(name: str) -> dict[str, Any]:
    """Return a recipe by its hash, or raise DataError."""
    rows = (closed_loop.Recipe & {"recipe_hash": name}).to_dicts()
    if not rows:
        raise DataError("no such recipe", field="recipe", found=name)
    return rows[0]["recipe"]
