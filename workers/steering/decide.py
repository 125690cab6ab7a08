"""Which cells are targets whatever the rule says: decisions by hand, and what became of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import datajoint as dj

from pipeline.dataset.names import unit_name
from pipeline.errors import DataError
from schemas import closed_loop, dataset, experiment, imaging, mei, model
from schemas.decisions.task_rows import transaction

CELL = "animal_id, session, scan_idx, field, unit_id and the hashes of its segmentation"
_TRIES = 5


def decide(unit: Mapping[str, Any], *, include: bool | None, why: str, who: str) -> None:
    """Decide about a cell as a target; plans that exist keep the targets that they have.

    Parameters
    ----------
    unit : mapping
        Key of `imaging.Segmentation.Unit` or of `dataset.Dataset.Unit`; other entries are ignored.
    include : bool or None
        True: always a target. False: never one. None: the rule decides again.
    why, who : str
        Reason and name.

    Raises
    ------
    DataError
        If there is no such cell, it is to be a target and is in no data set, or reason or name is
        missing.
    """
    decide_all([(unit, include)], why=why, who=who)


def decide_all(
    decided: Iterable[tuple[Mapping[str, Any], bool | None]], *, why: str, who: str
) -> None:
    """Decide about several cells for one reason, all or none; see `decide`."""
    cells = [(_cell(unit), include) for unit, include in decided]
    for cell, include in cells:
        if include:
            _expect_in_data(cell)
    for left in reversed(range(_TRIES)):
        try:
            with transaction():
                for cell, include in cells:
                    mei.TargetDecision.add(cell, include, why=why, who=who)
        except dj.errors.DuplicateError:  # somebody decided about the same cell at once
            if not left or mei.schema.connection.in_transaction:
                raise
        else:
            return


def _cell(unit: Mapping[str, Any]) -> dict[str, Any]:
    """Return the key of `imaging.Segmentation.Unit` of a cell."""
    names = imaging.Segmentation.Unit.primary_key
    if all(name in unit for name in names):
        return {name: unit[name] for name in names}
    in_data = dataset.Dataset.Unit.primary_key
    if not all(name in unit for name in in_data):
        raise DataError("names no cell", field="unit", found=sorted(unit), expected=CELL)
    key = {name: unit[name] for name in in_data}
    rows = (dataset.Dataset.Unit * dataset.Responses.Unit & key).to_dicts()
    if not rows:
        raise DataError(
            "no such unit of a scan",
            field="unit",
            found=f"{key['dataset_hash']}, output {key['unit_index']}",
            expected="a unit of a data set that was made from a scan",
        )
    return {name: rows[0][name] for name in names}


def _expect_in_data(cell: Mapping[str, Any]) -> None:
    """Refuse a cell that could not be a target, as far as that is known by now."""
    segmentation = {name: cell[name] for name in imaging.Segmentation.primary_key}
    units = dataset.Dataset.Unit * dataset.Responses.Unit
    if units & segmentation and not units & cell:
        raise DataError(
            "no data set holds this unit, so that it cannot be a target",
            field="unit",
            found=cell["unit_id"],
            expected="a unit that passes the limits of dataset.ResponseTask",
        )


def decisions(scan: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return every decision about the cells of a scan, the newest first.

    Parameters
    ----------
    scan : mapping
        `animal_id, session, scan_idx`.

    Returns
    -------
    list of dict
        Row of `mei.TargetDecision`; `unit`, the name of the cell; `counts`, whether it is the last
        one about its cell and was not withdrawn.

    Raises
    ------
    DataError
        If there is no such scan.
    """
    key = scan_of(scan)
    names = mei.TargetDecision.primary_key
    counting = {tuple(row[name] for name in names) for row in mei.TargetDecision.newest(key)}
    rows = (mei.TargetDecision & key).to_dicts(order_by=("decided_at DESC", *names))
    several = _several_fields(key)
    for row in rows:
        row["unit"] = unit_name(row["unit_id"], row["field"] if several else None)
        row["counts"] = tuple(row[name] for name in names) in counting
        row["included"] = None if row["included"] is None else bool(row["included"])
    return rows


def scan_of(scan: Mapping[str, Any]) -> dict[str, int]:
    """Return the key of a scan that exists, or raise DataError."""
    key = {name: int(scan[name]) for name in experiment.Scan.primary_key}
    if not experiment.Scan & key:
        raise DataError("no such scan", field="scan", found=experiment.scan_name(key))
    return key


def newest_loop(scan: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row of the newest loop on a scan.

    Raises
    ------
    DataError
        If there is no such scan, or no loop on it.
    """
    key = scan_of(scan)
    rows = (closed_loop.Loop & key).to_dicts(order_by=("registered DESC", "recipe_hash"), limit=1)
    if not rows:
        name = experiment.scan_name(key)
        raise DataError(f"no loop is registered on {name}", remedy=f"run `inception loop {name}`")
    return rows[0]


def _several_fields(scan: Mapping[str, Any]) -> bool:
    counts = (imaging.ScanInfo & scan).to_arrays("n_fields")
    return bool(len(counts)) and int(max(counts)) > 1


def unit_key(scan: Mapping[str, Any], unit_id: int) -> dict[str, Any]:
    """Return the key of `imaging.Segmentation.Unit` of a cell, by its number in the scan.

    Where several segmentations have that number, it is the one of the newest loop.

    Raises
    ------
    DataError
        If there is no such cell.
    """
    key = scan_of(scan)
    found = imaging.Segmentation.Unit & key & {"unit_id": int(unit_id)}
    if len(found) > 1:
        task = _tasks(newest_loop(key))
        segmented = imaging.ImagingRecipe & (dataset.DatasetSpec.Scan & task & key)
        found &= segmented.to_dicts()
    if len(found) != 1:
        known = (imaging.Segmentation.Unit & key).to_arrays("unit_id", order_by="unit_id")
        expected = f"{known[0]} to {known[-1]}" if len(known) else "segmented fields"
        raise DataError("no such unit", field="unit", found=int(unit_id), expected=expected)
    return found.fetch1("KEY")


def _tasks(loop: Mapping[str, Any]) -> dict[str, Any]:
    """Return one target task of a loop, and its data set."""
    key = {name: loop[name] for name in closed_loop.Loop.primary_key}
    shown = (closed_loop.PlanTask.Display & (closed_loop.PlanTask & key)).to_dicts(limit=1)
    if not shown:
        raise DataError("the loop has no plan task", field="loop", found=key)
    ensemble = {"ensemble_hash": shown[0]["ensemble_hash"]}
    task = {name: shown[0][name] for name in mei.TargetTask.primary_key}
    return {**task, "dataset_hash": (model.EnsembleSpec & ensemble).fetch1("dataset_hash")}


def targets(scan: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the units of the newest loop on a scan: which are targets, and why.

    Returns
    -------
    list of dict
        `unit` (name), the key of `imaging.Segmentation.Unit`, `dataset_hash`, `unit_index`; `kept`,
        `target_rank`, `reason`, `score`, `oracle` of the selection, or None where it is not
        computed; `included`, `why`, `who`, `decided_at`: the decision that counts now, or None;
        `differs`: a plan that is made now would know of another decision than this loop does.
        Targets come first, by rank.

    Raises
    ------
    DataError
        If there is no such scan or loop, or its data set is not computed.
    """
    task = _tasks(newest_loop(scan))
    spec = {"dataset_hash": task["dataset_hash"]}
    if not dataset.Dataset & spec:
        raise DataError(
            "the data set of the loop is not computed, so that no unit is known",
            field="scan",
            found=experiment.scan_name(scan_of(scan)),
            remedy="run `inception worker` first",
        )
    cells = (dataset.Dataset.Unit * dataset.Responses.Unit & spec).to_dicts(order_by="unit_index")
    names = imaging.Segmentation.Unit.primary_key
    unit_names = dataset.unit_names(spec)["unit"]
    selected = {
        row["unit_index"]: row
        for row in (
            mei.Targets.Unit & {name: task[name] for name in mei.TargetTask.primary_key}
        ).to_dicts()
    }
    now = {_place(row): row for row in mei.decisions_on(spec)}
    used = (
        mei.TargetDecision
        & (mei.DecisionSet.Member & (mei.TargetRule.Decided & {"target_hash": task["target_hash"]}))
    ).to_dicts()
    then = {_place(row): row["included"] for row in used}
    nothing = dict.fromkeys(("kept", "target_rank", "reason", "score", "oracle"))
    undecided = dict.fromkeys(("included", "why", "who", "decided_at"))
    found = []
    for cell in cells:
        place, index = _place(cell), cell["unit_index"]
        row = selected.get(index, nothing)
        decision = now.get(place, undecided)
        found.append(
            {
                "unit": unit_names[spec["dataset_hash"], index],
                **{name: cell[name] for name in (*names, "dataset_hash", "unit_index")},
                **{name: row[name] for name in nothing},
                **{name: decision[name] for name in undecided},
                "differs": decision["included"] != then.get(place),
            }
        )
    for row in found:
        for name in ("kept", "included"):
            row[name] = None if row[name] is None else bool(row[name])
    return sorted(found, key=lambda row: (not row["kept"], row["target_rank"] or 0))


def _place(row: Mapping[str, Any]) -> tuple:
    return tuple(row[name] for name in imaging.Segmentation.Unit.primary_key)
