"""One cell: where it is, how good it is, what it should see, what it did."""

from __future__ import annotations

from typing import Any

from pipeline.dataset.names import unit_name
from pipeline.errors import DataError
from pipeline.mei.controls import in_order
from pipeline.plotting.style import color_of, name_of
from pipeline.stimulus.kinds import stimulus_name
from schemas import closed_loop, dataset, experiment, imaging, mei, model
from workers.report.context import LoopPage
from workers.web.queries.fields import rounded, target_task

MEASURES = (
    "oracle",
    "single_trial",
    "single_trial_frozen",
    "to_average",
    "fraction_oracle",
    "feve",
    "cc_norm",
    "validation",
)


def unit_key(page: LoopPage, unit_id: int) -> dict[str, Any]:
    """Return the key of `imaging.Segmentation.Unit` of a cell of a loop, or raise DataError."""
    recipe = imaging.ImagingRecipe & (page.imaging or [])
    keys = (imaging.Segmentation.Unit & page.scan & recipe & {"unit_id": unit_id}).keys()
    if len(keys) != 1:
        raise DataError("no such unit", field="unit", found=unit_id, expected=f"one of {page.name}")
    return keys[0]


def cell(page: LoopPage, unit_id: int) -> dict[str, Any]:
    """Return all that is known of one cell of a loop.

    Parameters
    ----------
    page : LoopPage
    unit_id : int
        Number of the cell in the scan.

    Returns
    -------
    dict
        `unit_id, unit` (name), `field`; `place`: center (px, um), area, SNR, probability of a
        soma; `target`: `kept, rank, reason, score`; `decisions`, `labels`; `models`: measures of
        every ensemble of the loop; `stimuli`, see `stimuli`; `days`: recordings that showed them.
    """
    key = unit_key(page, unit_id)
    index = unit_index(page, unit_id)
    fields = (imaging.ScanInfo & page.scan).fetch1("n_fields")
    return {
        "unit_id": unit_id,
        "unit": unit_name(unit_id, key["field"] if fields > 1 else None),
        "field": key["field"],
        "place": place(page, key),
        "target": target(page, index),
        "decisions": decisions(key),
        "labels": labels(key),
        "models": [] if index is None else models(page, index),
        "stimuli": [] if index is None else stimuli(page, index),
        "days": [] if index is None else days(page, index),
        "responses": None if index is None else page.dataset_hash,
    }


def unit_index(page: LoopPage, unit_id: int) -> int | None:
    """Return the number of a cell in the loop's data set; None if it is not in it."""
    own = {"dataset_hash": page.dataset_hash, "unit_id": unit_id, **page.scan}
    found = (dataset.Dataset.Unit & own).to_arrays("unit_index")
    return int(found[0]) if len(found) else None


def place(page: LoopPage, key: dict[str, Any]) -> dict[str, Any]:
    """Return where a cell is, and how good mask and trace are."""
    unit = (imaging.Segmentation.Unit & key).fetch1()
    field = (imaging.ScanInfo.Field & key).fetch1()
    recipe = imaging.ImagingRecipe & page.imaging
    trace = (imaging.Fluorescence.Unit & key & recipe).to_dicts()
    found = (imaging.Activity.Unit & key & recipe).to_dicts()
    size = field["um_per_px_y"], field["um_per_px_x"]
    known = None not in (*size, field["y_um"], field["x_um"])
    middle = (field["height_px"] - 1) / 2, (field["width_px"] - 1) / 2
    return {
        "y_px": rounded(unit["y_px"], 1),
        "x_px": rounded(unit["x_px"], 1),
        "y_um": rounded(field["y_um"] + (unit["y_px"] - middle[0]) * size[0], 1) if known else None,
        "x_um": rounded(field["x_um"] + (unit["x_px"] - middle[1]) * size[1], 1) if known else None,
        "z_um": rounded(field["z_um"], 1),
        "area_px": unit["area_px"],
        "soma": rounded(unit["soma_probability"]),
        "snr": rounded(trace[0]["snr"], 2) if trace else None,
        "decay_s": rounded(found[0]["decay_s"], 2) if found else None,
    }


def target(page: LoopPage, index: int | None) -> dict[str, Any] | None:
    """Return whether a unit is a target of the loop, and why; None if that is not known."""
    task = target_task(page)
    if task is None or index is None:
        return None
    own = {"dataset_hash": page.dataset_hash, "unit_index": index}
    rows = (mei.Targets.Unit & task & own).to_dicts()
    if not rows:
        return None
    row = rows[0]
    numbers = {name: rounded(row[name]) for name in ("score", "oracle", "oracle_held")}
    return {
        "kept": bool(row["kept"]),
        "rank": row["target_rank"],
        "reason": row["reason"],
        **numbers,
    }


def decisions(key: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what was decided by hand about a cell, the newest first."""
    rows = (mei.TargetDecision & key).to_dicts(order_by="decision_idx DESC")
    return [
        {
            "included": None if row["included"] is None else bool(row["included"]),
            "why": row["why"],
            "who": row["who"],
            "when": row["decided_at"].isoformat(" ", "minutes"),
        }
        for row in rows
    ]


def labels(key: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what people say the mask of a cell is."""
    rows = (imaging.MaskLabel & key).to_dicts(order_by="labeler")
    return [{"labeler": row["labeler"], "is_soma": bool(row["is_soma"])} for row in rows]


def ensembles(page: LoopPage) -> list[dict[str, str]]:
    """Return the ensembles that a loop's stimuli are made with: `kind, ensemble_hash`."""
    display = page.display or {}
    hashes = [display[name] for name in ("ensemble_hash", "ln_ensemble_hash") if name in display]
    rows = (model.EnsembleSpec & [{"ensemble_hash": name} for name in hashes]).to_dicts()
    kinds = {row["ensemble_hash"]: row["ensemble_kind"] for row in rows}
    return [{"kind": kinds[name], "ensemble_hash": name} for name in hashes]


def models(page: LoopPage, index: int) -> list[dict[str, Any]]:
    """Return how well each ensemble predicts a unit: `kind`, and its measures."""
    found = []
    for ensemble in ensembles(page):
        key = {"ensemble_hash": ensemble["ensemble_hash"], "unit_index": index}
        for row in (model.Evaluation.Unit & key).to_dicts():
            measures = {name: rounded(row[name]) for name in MEASURES}
            found.append({"kind": ensemble["kind"], **measures})
    return found


def displayed(page: LoopPage, units: Any) -> list[dict[str, Any]]:
    """Return the rows of `mei.Display.Image` of units, of the displays of the loop."""
    shown = page.displays
    if not shown:
        return []
    keys = [{name: row[name] for name in mei.Display.primary_key} for row in shown]
    own = {"dataset_hash": page.dataset_hash}
    return (mei.Display.Image & own & units & keys).to_dicts(order_by="KEY")


def stimuli(page: LoopPage, index: int) -> list[dict[str, Any]]:
    """Return the images made for a unit, in the order in which kinds are shown.

    Returns
    -------
    list of dict
        `kind` (with its variant), `name`, `color`, `image` (address of the 8-bit PNG), `predicted`,
        `ok` and `reason` (luminance and contrast), `planned`, and `measured`: a dict for each
        recording of day 2, `scan, mean, sem, repeats, normalized`.
    """
    rows = displayed(page, {"unit_index": index})
    own = {"dataset_hash": page.dataset_hash, "unit_index": index}
    plan = page.plan
    planned = (closed_loop.Plan.Target & plan & own).to_dicts() if plan else []
    in_plan = {stimulus_name(row["kind"], row["variant"]) for row in planned}
    responses: dict[str, list[dict[str, Any]]] = {}
    for row in measured(page, own):
        responses.setdefault(stimulus_name(row["kind"], row["variant"]), []).append(
            {
                "scan": experiment.scan_name(row),
                "mean": rounded(row["raw_mean"], 4),
                "sem": rounded(row["raw_sem"], 4),
                "normalized": rounded(row["mean_response"], 4),
                "repeats": row["n_repeats"],
            }
        )
    found = {}
    for row in rows:
        kind = stimulus_name(row["kind"], row["variant"])
        found[kind] = {
            "kind": kind,
            "name": name_of(kind),
            "color": color_of(kind),
            "image": f"/images/shown/{row['dataset_hash']}/{index}/{row['image_hash']}.png",
            "predicted": rounded(row["predicted"], 4),
            "ok": bool(row["ok"]),
            "reason": row["reason"],
            "planned": kind in in_plan,
            "measured": responses.get(kind, []),
        }
    return [found[kind] for kind in in_order(found)]


def measured(page: LoopPage, own: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of `closed_loop.Outcome.Unit` of the loop's plans, of chosen units."""
    plans = [{"plan_id": plan["plan_id"]} for plan in page.plans]
    if not plans:
        return []
    rows = closed_loop.Outcome.Unit * closed_loop.Presentation.proj("plan_id") & plans & own
    return rows.to_dicts(order_by="KEY")


def days(page: LoopPage, index: int) -> list[dict[str, Any]]:
    """Return the recordings that a unit was found in: `scan, unit_id, probability`."""
    own = {"dataset_hash": page.dataset_hash, "unit_index": index}
    plans = [{"plan_id": plan["plan_id"]} for plan in page.plans]
    if not plans:
        return []
    rows = closed_loop.Outcome.Neuron * closed_loop.Presentation.proj("plan_id") & plans & own
    seen = {}
    for row in rows.to_dicts(order_by="KEY"):
        scan = experiment.scan_name(row)
        seen[scan] = {"scan": scan, "unit_id": row["matched_unit_id"]}
    return list(seen.values())
