"""Jobs of a loop with a deadline run before all others."""

from __future__ import annotations

import datetime
import time
from collections.abc import Sequence
from typing import Any

from workers.plan import Plan, Task
from workers.refresh import ORDINARY, Priority, bulk

URGENT = 1
_LOOK_S = 10.0  # how long the list of urgent loops is believed (s)
_SCAN = ("animal_id", "session", "scan_idx")


def priorities(plan: Plan) -> Priority:
    """Return the function that gives new jobs their priority.

    A job belongs to a loop by its scan, or by the hash of a data set, ensemble or plan made of it.
    """
    if plan.source != "schemas":
        return bulk
    urgent: dict[str, set] = {}
    looked = -_LOOK_S

    def rank(_task: Task, keys: list[dict[str, Any]]) -> Sequence[int]:
        nonlocal urgent, looked
        if not keys:
            return []
        if time.monotonic() - looked > _LOOK_S:
            urgent, looked = _urgent(), time.monotonic()
        return [URGENT if _belongs(key, urgent) else ORDINARY for key in keys]

    return rank


def _belongs(key: dict[str, Any], urgent: dict[str, set]) -> bool:
    if tuple(key.get(name) for name in _SCAN) in urgent.get("scan", ()):
        return True
    return any(key.get(name) in values for name, values in urgent.items() if name != "scan")


def _urgent() -> dict[str, set]:
    """Return what belongs to loops whose deadline has not passed for a day."""
    from schemas import closed_loop, dataset, model

    since = datetime.datetime.now() - datetime.timedelta(days=1)
    loops = closed_loop.Loop & f"deadline > '{since:%Y-%m-%d %H:%M:%S}'"
    scans = [{name: row[name] for name in _SCAN} for row in loops.to_dicts()]
    if not scans:
        return {}
    sets = (dataset.DatasetSpec.Scan & scans).to_dicts()
    hashes = {row["dataset_hash"] for row in sets}
    members = (model.EnsembleSpec.Member & [{"dataset_hash": name} for name in hashes]).to_dicts()
    plans = (closed_loop.PlanTask & scans).to_dicts()
    return {
        "scan": {tuple(scan.values()) for scan in scans},
        "dataset_hash": hashes,
        "ensemble_hash": {row["ensemble_hash"] for row in members},
        "plan_id": {row["plan_id"] for row in plans},
    }
