"""The fields of a scan: images, outlines of masks, and what is known of every unit."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.errors import DataError
from schemas import dataset, experiment, imaging, mei
from workers.report.context import LoopPage

SCAN = ("animal_id", "session", "scan_idx")
IMAGES = {"mean": "mean_image", "correlation": "correlation_image", "maximum": "max_image"}
"""Images of a field by their name on the page; the columns of `imaging.SummaryImages`."""


def segmentation(scan: dict[str, Any], imaging_hash: str, field: int) -> dict[str, Any]:
    """Return the key of a segmented field of a scan and recipe, or raise DataError."""
    recipe = imaging.ImagingRecipe & {"imaging_hash": imaging_hash}
    found = imaging.Segmentation & {name: scan[name] for name in SCAN} & recipe & {"field": field}
    keys = found.keys()
    if len(keys) != 1:
        raise DataError(
            "is not segmented yet",
            field="field",
            found=f"{experiment.scan_name(scan)}, field {field}",
        )
    return keys[0]


def fields(scan: dict[str, Any], imaging_hash: str) -> list[dict[str, Any]]:
    """Return the segmented fields of a scan: `field, height_px, width_px, um_per_px, n_units`."""
    recipe = imaging.ImagingRecipe & {"imaging_hash": imaging_hash}
    found = (imaging.Segmentation.proj("n_units") & scan & recipe) * imaging.ScanInfo.Field
    return [
        {
            "field": row["field"],
            "height_px": row["height_px"],
            "width_px": row["width_px"],
            "um_per_px": row["um_per_px_x"],
            "n_units": row["n_units"],
        }
        for row in found.to_dicts(order_by="field")
    ]


def image(key: dict[str, Any], name: str) -> Any:
    """Return the reference to an image of a field, by its name in `IMAGES`."""
    rows = (imaging.SummaryImages & key).to_dicts()
    if name not in IMAGES or not rows:
        raise DataError("no such image", field="image", found=name, expected=" or ".join(IMAGES))
    return rows[0][IMAGES[name]]


def masks(key: dict[str, Any]) -> tuple[Any, Any, int, list[int]]:
    """Return what the outlines of a field are made of: references, width, ids of the units."""
    packed = imaging.Segmentation.fetch_masks(key)
    units = imaging.Segmentation.fetch_units(key)
    return packed["start"], packed["pixel"], packed["shape"][1], units


def target_task(page: LoopPage) -> dict[str, Any] | None:
    """Return the key of the selection of a loop's targets."""
    display = page.display
    return display and {name: display[name] for name in mei.TargetTask.primary_key}


def units(page: LoopPage, key: dict[str, Any]) -> dict[str, list]:
    """Return what is known of the units of a field, column by column, in the order of unit_id.

    Returns
    -------
    dict of lists
        `unit_id`, `y`, `x` (px), `snr`, `soma` (probability), `rank` (of a target, -1 if it is
        none, None if it was not looked at), `oracle`, `decided` (True or False by hand, else None).
    """
    rows = (imaging.Segmentation.Unit & key).to_dicts(order_by="unit_id")
    found = {row["unit_id"]: row for row in rows}
    quality = (imaging.Fluorescence.Unit & key & _recipe(page)).to_dicts()
    snr = {row["unit_id"]: row["snr"] for row in quality}
    chosen = selection(page)
    decided = decisions(key)
    ids = list(found)
    return {
        "unit_id": ids,
        "y": [round(row["y_px"], 2) for row in rows],
        "x": [round(row["x_px"], 2) for row in rows],
        "snr": [rounded(snr.get(unit)) for unit in ids],
        "soma": [rounded(row["soma_probability"]) for row in rows],
        "rank": [chosen[unit]["target_rank"] if unit in chosen else None for unit in ids],
        "oracle": [rounded(chosen[unit]["oracle"]) if unit in chosen else None for unit in ids],
        "decided": [decided.get(unit) for unit in ids],
    }


def _recipe(page: LoopPage) -> Any:
    return imaging.ImagingRecipe & page.imaging


def selection(page: LoopPage) -> dict[int, dict[str, Any]]:
    """Return the rows of the selection of a loop's targets, by `unit_id`."""
    task = target_task(page)
    if task is None:
        return {}
    in_data = (dataset.Dataset.Unit & {"dataset_hash": page.dataset_hash}).to_arrays(
        "unit_index", "unit_id"
    )
    ids = dict(zip(*(column.tolist() for column in in_data), strict=True))
    rows = (mei.Targets.Unit & task).to_dicts()
    return {
        int(ids[row["unit_index"]]): row for row in rows if ids.get(row["unit_index"]) is not None
    }


def decisions(key: dict[str, Any]) -> dict[int, bool]:
    """Return what was decided by hand about the units of a field: True is always a target."""
    rows = mei.TargetDecision.newest(key)
    return {row["unit_id"]: bool(row["included"]) for row in rows if row["included"] is not None}


def rounded(value: Any, digits: int = 3) -> float | None:
    """Return a number that JSON knows, None for NULL and NaN."""
    if value is None or not np.isfinite(value):
        return None
    return round(float(value), digits)
