"""Images, trials, and what a closed loop made of and with them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from pipeline.dataset import assign_tiers
from pipeline.recording.nwb.session import PROVENANCE, Column, Table
from pipeline.stimulus.kinds import name_of
from schemas import behavior, closed_loop, dataset, experiment, mei, stimulus

UNKNOWN = "unknown"


def fetch_trials(key: Mapping[str, int]) -> tuple[Table, dict[str, str]]:
    """Return the trials on the rig's clock, and the kinds of the images that a plan knows."""
    rows = (stimulus.Trial & key).to_dicts(order_by="trial_idx")
    times = (behavior.Sync & key).fetch1("trial_times").load()
    kinds = {
        image["image_hash"]: name_of(image)
        for image in (closed_loop.Plan.Image & _plans(key)).to_dicts()
    }
    hashes = [row["image_hash"] for row in rows]
    seen: dict[str, int] = {}
    repeats = [seen.update({name: seen.get(name, -1) + 1}) or seen[name] for name in hashes]
    number = {name: index for index, name in enumerate(sorted(set(hashes)))}
    columns = {
        "start_time": Column("Image on (s, rig clock)", times[:, 0]),
        "stop_time": Column("Image off (s, rig clock)", times[:, 1]),
        "trial_idx": Column("Number of the trial", [row["trial_idx"] for row in rows]),
        "image": Column("SHA-256 of the image's content: its name", hashes),
        "image_index": Column("Its row in order_of_images", [number[name] for name in hashes]),
        "repeat": Column("How often it was shown before, in order of trial_idx", repeats),
        "blank_before_s": Column(
            "Gray screen before the image (s)", [row["blank_before_s"] for row in rows]
        ),
        "kind": Column(
            "Kind of the image by the plan, variant included",
            [kinds.get(name, UNKNOWN) for name in hashes],
        ),
    }
    columns |= _tier(key, hashes) | _audit(key, rows)
    return Table("trials", "Presentations of images, in order of trial_idx.", columns), kinds


def _tier(key: Mapping[str, int], hashes: list[str]) -> dict[str, Column]:
    """Return the tier of every trial, if the data sets of the scan agree on it."""
    specs = (dataset.DatasetSpec & (dataset.DatasetSpec.Scan & key)).to_dicts()
    params = [spec["tier_params"] for spec in specs]
    if not params or any(other != params[0] for other in params):
        return {}
    tiers = assign_tiers(hashes, **params[0])
    return {"tier": Column("train, validation or test, as models use it", tiers.tolist())}


def _audit(key: Mapping[str, int], rows: list[dict[str, Any]]) -> dict[str, Column]:
    """Return what an audit of a presentation says of the trials."""
    found = {
        row["trial_idx"]: row
        for row in (closed_loop.Audit.Trial & key).to_dicts()
        if row["trial_idx"] is not None
    }
    if not found:
        return {}
    said = [found.get(row["trial_idx"], {}) for row in rows]
    return {
        "planned_idx": Column("Trial of the plan", [row.get("planned_idx") for row in said]),
        "status": Column("Against the plan", [row.get("status") for row in said]),
        "usable": Column("It is scored", [bool(row.get("usable")) for row in said]),
    }


def _plans(key: Mapping[str, int]) -> list[dict[str, str]]:
    """Return the plan that a scan shows, or else those made of it."""
    shown = (closed_loop.Presentation & key).to_arrays("plan_id").tolist()
    made = (closed_loop.PlanTask & key & closed_loop.Plan.proj()).to_arrays("plan_id").tolist()
    return [{"plan_id": plan} for plan in sorted(shown or made)]


def fetch_images(
    key: Mapping[str, int], shown: Iterable[str], kinds: Mapping[str, str]
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return the pixels of all images, shown or planned, and a line about each of them."""
    hashes = sorted({*shown, *kinds})
    images = stimulus.load_images(stimulus.ImageSet.locate(hashes))
    owners: dict[str, list[str]] = {}
    for row in _targets(key):
        owners.setdefault(row["image"], []).append(
            f"{row['kind']} of unit {row['unit_id']} of scan {row['source']}, "
            f"variant {row['variant']}"
        )
    about = {
        name: "; ".join(owners.get(name, [f"{kinds.get(name, 'kind unknown')}, of no unit"]))[:500]
        for name in hashes
    }
    return images, about


def _targets(key: Mapping[str, int]) -> list[dict[str, Any]]:
    """Return a row for every image of every target, with the hashes that lead to it."""
    rows = []
    for plan in _plans(key):
        task = (closed_loop.PlanTask & plan).fetch1()
        source = experiment.scan_name(task)
        displayed = {
            (row["unit_index"], row["kind"], row["variant"], row["image_hash"]): row
            for row in (mei.Display.Image & (closed_loop.Plan.Source & plan)).to_dicts(
                order_by=mei.Display.primary_key
            )
        }
        targets = closed_loop.Plan.Target & plan
        labels = {
            row["unit_index"]: row["label"]
            for row in (dataset.Dataset.Unit & targets.proj()).to_dicts()
        }
        light = {row["image_hash"]: row for row in (closed_loop.Plan.Image & plan).to_dicts()}
        for row in targets.to_dicts(order_by=("target_rank", "kind", "variant")):
            place = (row["unit_index"], row["kind"], row["variant"], row["image_hash"])
            rows.append(
                {
                    **displayed.get(place, {}),
                    **light[row["image_hash"]],
                    **row,
                    "image": row["image_hash"],
                    "source": source,
                    "unit_id": labels[row["unit_index"]],
                }
            )
    return rows


def closed_loop_tables(key: Mapping[str, int]) -> list[Table]:
    """Return provenance of the images, predictions with what was measured, and matched cells."""
    targets = _targets(key)
    return [_provenance(targets), _predictions(key, targets), _matches(key)]


def _provenance(targets: list[dict[str, Any]]) -> Table:
    meanings = {
        "image": "SHA-256 of the image's content: its name",
        "kind": "Kind of the image",
        "variant": "Which of the unit's images of this kind, from 0",
        "source": "Scan whose unit it was made for: animal/session/scan",
        "unit_id": "Number of that unit",
        "mean_cd_m2": "Mean luminance (cd/m2)",
        "sd_cd_m2": "Standard deviation of the luminance (cd/m2)",
        "clipped_fraction": "Share of pixels that wanted to leave the range of the monitor",
        "plan_id": "Plan that shows it",
        "dataset_hash": "Hash of the training set",
        "batch": "Batch of targets",
    }
    hashes = [name for name in mei.Display.primary_key if name.endswith("_hash")]
    meanings |= {name: f"{name.removesuffix('_hash')}: hash of what made it" for name in hashes}
    text = "Whence the images are: for which unit, of which kind, by which methods."
    return Table.of_rows(PROVENANCE, text, targets, meanings)


def _predictions(key: Mapping[str, int], targets: list[dict[str, Any]]) -> Table:
    meanings = {
        "source": "Scan of the unit: animal/session/scan",
        "unit_id": "Number of the unit there",
        "target_rank": "0 is the best target",
        "kind": "Kind of the image",
        "variant": "Which of the unit's images of this kind, from 0",
        "image": "SHA-256 of the image's content: its name",
        "predicted": "Predicted response to exactly this image (a.u. of the source scan)",
    }
    measured = {
        (row["unit_index"], row["kind"], row["variant"]): row
        for row in (closed_loop.Outcome.Unit & key).to_dicts(order_by="KEY")
    }
    if measured:
        meanings |= {
            "matched_unit_id": "Number of the unit in this scan",
            "n_repeats": "Trials that count",
            "mean_response": "Measured (sd of the scan, or as the method says)",
            "sem_response": "Standard error (same unit)",
        }
    rows = [
        {**measured.get((row["unit_index"], row["kind"], row["variant"]), {}), **row}
        for row in targets
    ]
    return Table.of_rows("predictions", "Predicted and measured responses.", rows, meanings)


def _matches(key: Mapping[str, int]) -> Table:
    meanings = {
        "unit_id": "Number of the unit in this scan",
        "source_session": "Session of the source scan",
        "source_scan_idx": "Number of the source scan",
        "source_unit_id": "Number of the unit there",
        "probability": "That they are one cell (1)",
        "distance_um": "Between the centers after registration (um)",
        "ambiguity": "Best rival's probability over this one's (1)",
        "match_hash": "Hash of the method",
    }
    pairs = closed_loop.UnitMatch.Pair & key
    found = {
        tuple(row[name] for name in closed_loop.MatchTask.primary_key): row
        for row in (closed_loop.MatchTask & pairs.proj()).to_dicts()
    }
    rows = [
        {**found[tuple(row[name] for name in closed_loop.MatchTask.primary_key)], **row}
        for row in pairs.to_dicts(order_by="KEY")
    ]
    return Table.of_rows("unit_matches", "Cells of the source scan found again.", rows, meanings)
