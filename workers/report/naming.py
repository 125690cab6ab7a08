"""What the rows of a report's tables are called: neurons, stimuli, and which of two was better."""

from __future__ import annotations

from typing import Any

import pandas as pd

from pipeline.closed_loop.verdict.direction import above
from pipeline.dataset.names import unit_name
from pipeline.mei.controls import in_order
from pipeline.plotting.style import name_of
from schemas import closed_loop, imaging

NAMES = ("unit_id", "field", "unit")
P_VALUES = ("p", "p_adjusted", "wilcoxon_p", "bootstrap_p")
DIFFERENCES = ("difference", "median_difference")


def with_names(frame: pd.DataFrame, units: pd.DataFrame) -> pd.DataFrame:
    """Insert number, field and name of the neuron beside every `unit_index` of a table.

    Parameters
    ----------
    frame : DataFrame
        Columns `dataset_hash, unit_index`, perhaps a second pair with a prefix (`other_`).
    units : DataFrame
        As `schemas.dataset.unit_names` returns it.
    """
    frame = frame.copy()
    for column in [name for name in frame.columns if name.endswith("unit_index")]:
        prefix = column.removesuffix("unit_index")
        if f"{prefix}dataset_hash" not in frame:
            continue
        keys = pd.MultiIndex.from_arrays([frame[f"{prefix}dataset_hash"], frame[column]])
        found = units.reindex(keys)
        for name in reversed(NAMES):
            if f"{prefix}{name}" not in frame:
                place = frame.columns.get_loc(column) + 1
                frame.insert(place, f"{prefix}{name}", found[name].array)
    return frame


def with_direction(frame: pd.DataFrame, reference: str | pd.Series) -> pd.DataFrame:
    """Insert `above` beside two-sided p values: which of reference and control was better.

    Parameters
    ----------
    frame : DataFrame
        Columns `kind` (the control), a p and a difference, reference minus control.
    reference : str or Series
        Kind that the others are compared with, of all rows or of each.
    """
    tests = [name for name in P_VALUES if name in frame]
    differences = [name for name in DIFFERENCES if name in frame]
    if not tests or not differences or "kind" not in frame or "above" in frame:
        return frame
    first = pd.Series(reference, index=frame.index)
    words = [
        above(None if pd.isna(difference) else float(difference), one, kind)
        for difference, one, kind in zip(frame[differences[0]], first, frame["kind"], strict=True)
    ]
    frame = frame.copy()
    frame.insert(frame.columns.get_loc(tests[-1]) + 1, "above", words)
    return frame


def shown_order(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows of kinds in the order in which these are shown."""
    if rows.empty:
        return rows
    rank = {kind: place for place, kind in enumerate(in_order(rows["kind"]))}
    return rows.sort_values("kind", key=lambda kinds: kinds.map(rank), kind="stable").reset_index(
        drop=True
    )


def readable(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows of the page's tables, stimuli as figures write them."""
    rows = rows.assign(kind=rows["kind"].map(name_of))
    if "above" in rows:
        words = [" ".join(map(name_of, text.split(" "))) for text in rows["above"]]
        rows = rows.assign(above=words)
    return rows


def source_names(match: dict[str, Any]) -> dict[int, str]:
    """Return the names of the units of day 1, by `unit_id`."""
    task = (closed_loop.MatchTask & match).fetch1()
    scan = {
        "animal_id": match["animal_id"],
        "session": task["source_session"],
        "scan_idx": task["source_scan_idx"],
    }
    several = (imaging.ScanInfo & scan).fetch1("n_fields") > 1
    units = imaging.Segmentation.Unit & scan
    units &= imaging.ImagingRecipe & {"imaging_hash": task["source_imaging_hash"]}
    return {
        row["unit_id"]: unit_name(row["unit_id"], row["field"] if several else None)
        for row in units.to_dicts()
    }
