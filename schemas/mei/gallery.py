"""Images of any units, ready to draw."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from pipeline.stimulus.kinds import kind_and_variant, name_of
from schemas.mei.display import Display

FIRST = ("mei", "rf", "gabor", "mni", "fni")
UNIT_KEY = ["dataset_hash", "unit_index"]


def gallery(units: Any = True, kinds: Sequence[str] | None = None, most: int = 20) -> dict:
    """Return the 8-bit images of a query of units: ``gallery_figure(**gallery(query))``.

    Parameters
    ----------
    units : restriction
        Of `Display.Image`: a key, a query such as ``Targets.Unit & "target_rank < 10"``, SQL.
    kinds : sequence of str, optional
        Columns, in this order; default every kind that there is. A kind's further variants are
        columns of their own, named `gabor:1`, `gabor:2`.
    most : int
        Units to show, in the order of the tables; one that lacks a kind is left out.

    Returns
    -------
    dict
        `images` (kind to (units, H, W)), `labels`, `predicted` (kind to (units,)).

    Raises
    ------
    ValueError
        If no unit has all the kinds.
    """
    found = [
        {**row, "stimulus": name_of(row)}
        for row in (Display.Image & units).to_dicts(order_by="KEY")
    ]
    rows = pd.DataFrame(found) if found else pd.DataFrame(columns=[*UNIT_KEY, "stimulus"])
    if kinds is None:
        there = set(rows["stimulus"])
        others = sorted(there - set(FIRST), key=kind_and_variant)
        kinds = [kind for kind in FIRST if kind in there] + others
    # one image a unit and stimulus, should there be several displays of it
    rows = rows[rows["stimulus"].isin(kinds)].drop_duplicates([*UNIT_KEY, "stimulus"])
    complete = rows.groupby(UNIT_KEY, sort=False)["stimulus"].nunique()
    shown = list(complete[complete == len(kinds)].index[:most])
    if not shown or not kinds:
        raise ValueError(f"no unit of the query has images of all kinds {list(kinds)}")
    by_unit = rows.set_index([*UNIT_KEY, "stimulus"])
    names, arrays = Display.primary_key, {}

    def image(row: pd.Series) -> np.ndarray:
        key = {name: row[name] for name in names if name in row}
        place = tuple(key.items())
        if place not in arrays:
            arrays[place] = (Display & key).fetch1("images").load(mmap_mode="r")
        return arrays[place][int(row["image_row"])]

    picked = {kind: [by_unit.loc[(*unit, kind)] for unit in shown] for kind in kinds}
    return {
        "images": {kind: np.stack([image(r) for r in rows_]) for kind, rows_ in picked.items()},
        "labels": [f"unit {unit}" for _, unit in shown],
        "predicted": {
            kind: np.array([r["predicted"] for r in rows_]) for kind, rows_ in picked.items()
        },
    }
