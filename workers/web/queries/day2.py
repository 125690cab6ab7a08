"""Day 2 of a loop: what was shown, which cells were found again, what they say."""

from __future__ import annotations

from typing import Any

import pandas as pd

from pipeline.errors import DataError
from pipeline.plotting.style import color_of, name_of
from schemas import closed_loop, experiment, imaging, mei
from workers.report.context import LoopPage
from workers.report.naming import shown_order, with_direction
from workers.web.queries.fields import SCAN, fields, rounded

MOST_TRIALS = 100  # of an audit that are not as planned, on the page


def recordings(page: LoopPage) -> list[dict[str, Any]]:
    """Return the recordings in which plans of a loop were shown, the newest first.

    Returns
    -------
    list of dict
        `scan` (as `1/2/1`), `session`, `scan_idx`, `plan_id`; `audit`, see `audit`, or None;
        `matches`, see `match`.
    """
    plans = [{"plan_id": plan["plan_id"]} for plan in page.plans]
    if not plans:
        return []
    shown = (closed_loop.Presentation & plans).to_dicts(order_by=("session DESC", "scan_idx DESC"))
    found = []
    for row in shown:
        scan = {name: row[name] for name in SCAN}
        keys = (closed_loop.UnitMatch & scan).keys(order_by="KEY")
        found.append(
            {
                **scan,
                "scan": experiment.scan_name(scan),
                "plan_id": row["plan_id"],
                "audit": audit(scan),
                "matches": [match(key) for key in keys],
            }
        )
    return found


def audit(scan: dict[str, Any]) -> dict[str, Any] | None:
    """Return what was on the monitor against the plan.

    Returns
    -------
    dict
        `planned, shown, usable`: trials; `statuses`: (name, trials); `odd`: the first trials that
        are not as planned, `more` of which are left out.
    """
    rows = (closed_loop.Audit & scan).to_dicts()
    if not rows:
        return None
    counted: dict[str, int] = {}
    for status in (closed_loop.Audit.Trial & scan).to_arrays("status").tolist():
        counted[status] = counted.get(status, 0) + 1
    odd = closed_loop.Audit.Trial & scan & "status <> 'ok'"
    first = odd.to_dicts(order_by="audit_idx", limit=MOST_TRIALS)
    return {
        "planned": rows[0]["n_planned"],
        "shown": rows[0]["n_shown"],
        "usable": rows[0]["n_usable"],
        "statuses": sorted(counted.items(), key=lambda pair: (pair[0] != "ok", -pair[1])),
        "odd": [
            {
                "planned": row["planned_idx"],
                "shown": row["trial_idx"],
                "status": row["status"],
                "usable": bool(row["usable"]),
                "lateness_s": rounded(row["lateness_s"]),
                "excess_s": rounded(row["excess_s"]),
            }
            for row in first
        ],
        "more": max(0, sum(counted.values()) - counted.get("ok", 0) - len(first)),
    }


def match(key: dict[str, Any]) -> dict[str, Any]:
    """Return how many cells were found again by one method, and the verdicts on them."""
    row = (closed_loop.UnitMatch * closed_loop.MatchMethod & key).fetch1()
    outcomes = (closed_loop.Outcome & key).keys(order_by=closed_loop.Outcome.primary_key)
    waits = bool(closed_loop.without_pairs() & key)
    return {
        "match_hash": row["match_hash"],
        "imaging_hash": row["imaging_hash"],
        "method": row["match_method"],
        "through": row["match_through"],
        "pairs": 0 if waits else len(closed_loop.matched_pairs(key)),
        "waits": waits,
        "source": row["n_source"],
        "target": row["n_target"],
        "outcomes": [verdict(outcome) for outcome in outcomes],
    }


def verdict(outcome: dict[str, Any]) -> dict[str, Any]:
    """Return what one outcome says of the population, control by control.

    Returns
    -------
    dict
        `scored`: neurons; `reference`: kind that the others are compared with; `kinds`: rows of
        `closed_loop.Population.Kind` with `name, color, above` (which of both was better).
    """
    scored = (closed_loop.Outcome & outcome).fetch1("n_scored")
    compared = (closed_loop.Comparison & outcome).to_dicts()
    reference = compared[0]["reference"] if compared else "mei"
    frame = mei.as_stimuli(pd.DataFrame((closed_loop.Population.Kind & outcome).to_dicts()))
    kinds = []
    if len(frame):
        frame = with_direction(shown_order(frame), reference)
        for row in frame.to_dict("records"):
            numbers = {
                name: value if isinstance(value, int | str) else rounded(value, 4)
                for name, value in row.items()
                if name not in closed_loop.Population.primary_key
            }
            above = " ".join(name_of(word) for word in str(row.get("above", "")).split(" "))
            look = {"name": name_of(row["kind"]), "color": color_of(row["kind"]), "above": above}
            kinds.append({**numbers, **look})
    return {
        "scored": scored,
        "reference": name_of(reference),
        "outcome_hash": outcome["outcome_hash"],
        "kinds": kinds,
    }


def matches(page: LoopPage, scan: dict[str, Any], match_hash: str) -> dict[str, Any]:
    """Return both fields of a match and their pairs, to be drawn.

    Returns
    -------
    dict
        `source`, `target`: `scan, imaging_hash, fields`; `places`: which field is which, `(source
        field, target field, score)`; `pairs`: `[source unit, unit, probability, distance (um)]`.
    """
    found = closed_loop.UnitMatch & scan & {"match_hash": match_hash}
    keys = found.keys(order_by="KEY")
    if not keys:
        raise DataError("no such match", field="match", found=match_hash)
    key = keys[0]
    task = (closed_loop.MatchTask & key).fetch1()
    source = {
        "animal_id": task["animal_id"],
        "session": task["source_session"],
        "scan_idx": task["source_scan_idx"],
    }
    places = (closed_loop.UnitMatch.Field & key).to_dicts(order_by="field")
    pairs = [] if closed_loop.without_pairs() & key else closed_loop.matched_pairs(key)
    return {
        "source": _side(source, task["source_imaging_hash"]),
        "target": _side({name: key[name] for name in SCAN}, key["imaging_hash"]),
        "places": [
            [row["source_field"], row["field"], rounded(row["registration_score"])]
            for row in places
        ],
        "pairs": [
            [
                pair["source_unit_id"],
                pair["unit_id"],
                rounded(pair["probability"]),
                rounded(pair.get("distance_um"), 1),
            ]
            for pair in sorted(pairs, key=lambda pair: pair["source_unit_id"])
        ],
    }


def _side(scan: dict[str, Any], imaging_hash: str) -> dict[str, Any]:
    return {
        "scan": experiment.scan_name(scan),
        "imaging_hash": imaging_hash,
        "fields": fields(scan, imaging_hash),
    }


def state_of_figures(page: LoopPage) -> tuple:
    """Return what the figures of day 2 depend on: they are drawn anew when it changes."""
    plans = [{"plan_id": plan["plan_id"]} for plan in page.plans]
    shown = closed_loop.Presentation & plans if plans else []
    scans = (closed_loop.Presentation & shown).keys(order_by="KEY") if plans else []
    tables = (
        closed_loop.UnitMatch,
        closed_loop.Audit,
        closed_loop.Outcome,
        closed_loop.Population,
        closed_loop.Sensitivity,
        closed_loop.Prediction,
        closed_loop.PooledOutcome,
        imaging.SummaryImages,
    )
    counts = [len(table & scans) if scans else 0 for table in tables]
    return (page.name, page.loop["recipe_hash"], *counts)
