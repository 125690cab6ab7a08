"""Another plan of the same day 1: other minutes, targets or kinds, and decisions made since."""

from __future__ import annotations

import datetime
from collections.abc import Collection, Mapping, Sequence
from copy import deepcopy
from typing import Any

from pipeline.errors import DataError
from pipeline.mei.controls import control_kinds
from pipeline.stimulus.kinds import MEI
from schemas import clock, closed_loop, imaging
from schemas.decisions import tasks
from workers.steering import decide as hand


def replan(
    scan: Mapping[str, Any],
    *,
    minutes: float | None = None,
    targets: int | None = None,
    kinds: Sequence[str] | None = None,
    natural: int | None = None,
    deadline: datetime.datetime | str | None = None,
) -> dict[str, Any]:
    """Register another loop and plan of a scan by the recipe of its newest loop.

    What both share is computed once: traces, models, the MEIs of units that are targets of both.
    Decisions by hand count as they are now.

    Parameters
    ----------
    scan : mapping
        `animal_id, session, scan_idx`.
    minutes : float, optional
        Time for the presentation on day 2 (min); that of the newest loop.
    targets : int, optional
        Most neurons to make stimuli for; those of the newest loop.
    kinds : sequence of str, optional
        Kinds of stimuli, `mei` among them. One of the recipe keeps its parameters and variants,
        another one has its defaults; those of the recipe.
    natural : int, optional
        Most natural images of day 1 to show again; those of the recipe.
    deadline : datetime or ISO text, optional
        See `schemas.decisions.tasks.register_loop`.

    Returns
    -------
    dict
        Key of the loop, and `plan_id`.

    Raises
    ------
    DataError
        If there is no such scan, or no loop on it.
    ValueError
        If a kind does not exist, `mei` is left out, or a number is negative.
    """
    loop = hand.newest_loop(scan)
    recipe = deepcopy((closed_loop.Recipe & loop).fetch1("recipe"))
    if kinds is not None:
        recipe["controls"] = _controls(recipe["controls"], kinds)
    if natural is not None:
        if natural < 0:
            raise ValueError(f"need natural >= 0; got {natural}")
        recipe["plan"]["n_natural"] = int(natural)
    numbers = {
        "targets": loop["targets"] if targets is None else targets,
        "minutes": loop["minutes"] if minutes is None else minutes,
    }
    if deadline is None and loop["deadline_utc"] is not None:
        now = clock.now(closed_loop.Loop().connection)
        if loop["deadline_utc"] > now:
            deadline = loop["deadline_utc"].replace(tzinfo=datetime.UTC)
    return tasks.register_loop(scan, recipe, **numbers, deadline=deadline, again=True)


def _controls(known: list[dict[str, Any]], kinds: Sequence[str]) -> list[dict[str, Any]]:
    """Return the entries of a recipe for some kinds, in the order of the recipe."""
    wanted = list(dict.fromkeys(kinds))
    unknown = [kind for kind in wanted if kind not in control_kinds]
    if unknown:
        raise ValueError(f"no kind of stimulus {unknown[0]!r}; there are {sorted(control_kinds)}")
    if MEI not in wanted:
        raise ValueError(f"kinds must name {MEI!r}: all others are compared with it; got {wanted}")
    there = [control for control in known if control["method"] in wanted]
    names = {control["method"] for control in there}
    return there + [{"method": kind, "params": {}} for kind in wanted if kind not in names]


def exclude_fields(scan: Mapping[str, Any], fields: Collection[int], *, why: str, who: str) -> int:
    """Exclude every unit of some fields that is not excluded yet; return how many.

    Parameters
    ----------
    scan : mapping
        `animal_id, session, scan_idx`.
    fields : collection of int
        Numbers of imaging fields.
    why, who : str
        Reason and name.

    Raises
    ------
    DataError
        If the scan has no such field, or no data set yet.
    """
    key = hand.scan_of(scan)
    there = sorted(set((imaging.ScanInfo.Field & key).to_arrays("field").tolist()))
    missing = sorted(set(fields) - set(there))
    if missing:
        raise DataError("no such field", field="field", found=missing[0], expected=there)
    units = [row for row in hand.targets(key) if row["field"] in fields]
    left = [(row, False) for row in units if row["included"] is not False]
    hand.decide_all(left, why=why, who=who)
    return len(left)
