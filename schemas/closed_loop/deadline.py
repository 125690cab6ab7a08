"""What a plan is made of at its deadline: the stimuli that are ready, and what is left out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import datajoint as dj

from pipeline.registry import canonical_json
from schemas import dataset, mei
from schemas.clock import now_sql
from schemas.closed_loop.loop import Loop

NOT_READY = "not ready at the deadline"
WITHOUT_MEI = "its MEI was not ready at the deadline"
NOT_SHOWABLE = "its MEI cannot be shown"


def overdue() -> Any:
    """Return the loops whose deadline has come, by the clock of the database server."""
    return Loop & f"deadline_utc <= {now_sql(Loop().connection)}"


def showable(asked: Any) -> Any:
    """Return the `plan_id` of plans that two displayed images could be shown of.

    An image counts if it is as wanted and its unit's MEI is displayed, too.

    Parameters
    ----------
    asked : query
        Displays by plan, rows of `PlanTask.Display`.
    """
    images = asked * mei.Display.Image.proj("image_hash", "kind", "ok") & {"ok": True}
    of_targets = dj.U("plan_id", "dataset_hash", "unit_index") & (images & {"kind": "mei"})
    counted = dj.U("plan_id").aggr(images & of_targets, n_showable="COUNT(DISTINCT image_hash)")
    return counted & "n_showable >= 2"


def entry(
    kind: str, reason: str, *, unit: Mapping[str, Any] | None = None, variant: int = 0,
    image: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Return one stimulus that a plan leaves out, as `Plan.dropped` lists it."""
    unit = unit or {}
    return {
        "unit_index": unit.get("unit_index"),
        "unit_id": unit.get("unit_id"),
        "kind": kind,
        "variant": variant,
        "image_hash": image,
        "reason": reason,
    }


def not_ready(
    asked: Iterable[Mapping[str, Any]], ready: Iterable[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """List every stimulus whose display is missing: unit, kind and variant.

    Parameters
    ----------
    asked, ready : iterable of dict
        Keys of `mei.Display`: those that the plan asks for, and those that it is made from.

    Returns
    -------
    list of dict
        See `entry`. Where the targets of a batch are not selected yet, one entry for the batch;
        its reason names the ranks.
    """
    there = {canonical_json(_key(row)) for row in ready}
    found = []
    for row in sorted(map(_key, asked), key=canonical_json):
        if canonical_json(row) in there:
            continue
        kind = (mei.ControlMethod & row).fetch1("control_method")
        variant = int(row.get("variant", 0))
        first, last = (mei.MEITask & row).fetch1("first_rank", "last_rank")
        if not mei.Targets & row:
            reason = f"{NOT_READY}: the targets of ranks {first} to {last} (batch {row['batch']}) "
            found.append(entry(kind, reason + "are not selected", variant=variant))
            continue
        kept = mei.Targets.Unit & row & f"target_rank >= {first}" & f"target_rank <= {last}"
        units = kept * dataset.Dataset.Unit.proj("unit_id")
        found += [
            entry(kind, NOT_READY, unit=unit, variant=variant)
            for unit in units.to_dicts(order_by="target_rank")
        ]
    return found


def without_mei(
    rows: Iterable[Mapping[str, Any]], ranks: Iterable[int], late: Iterable[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """List the displayed images of units that are no targets, since their MEI is not shown.

    Parameters
    ----------
    rows : iterable of dict
        Displayed images that could be shown.
    ranks : iterable of int
        Ranks of the targets that are shown.
    late : iterable of dict
        Of `not_ready`.
    """
    shown = set(ranks)
    waiting = {row["unit_index"] for row in late if row["kind"] == "mei"}
    return [
        entry(
            row["kind"],
            WITHOUT_MEI if row["unit_index"] in waiting else NOT_SHOWABLE,
            unit=row, variant=int(row.get("variant", 0)), image=row["image_hash"],
        )
        for row in rows
        if row["target_rank"] not in shown
    ]  # fmt: skip


def _key(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in mei.Display.primary_key}
