"""Every number as CSV: the tables that a loop's results are in, without their arrays."""

from __future__ import annotations

from pathlib import Path

import datajoint as dj
import pandas as pd

import schemas
from pipeline.stages import STAGES
from schemas import closed_loop, dataset
from workers.database.datajoint_internals import plain_columns
from workers.report.naming import with_direction, with_names

FROM_STAGE = STAGES.index("dataset")
MOST_ROWS = 1_000_000


def write_numbers(folder: Path) -> list[str]:
    """Write one CSV for every table and part that has rows; return the files' names.

    Beside every `unit_index` stand number, field and name of the neuron, beside every two-sided p
    which of reference and control was better.
    """
    folder.mkdir(parents=True, exist_ok=True)
    units = dataset.unit_names()
    written = []
    for table in schemas.tables():
        stage = table.__module__.split(".")[1]
        if STAGES.index(stage) < FROM_STAGE:
            continue
        parts = [
            part
            for part in vars(table).values()
            if isinstance(part, type) and issubclass(part, dj.Part)
        ]
        for one in (table, *parts):
            query = one()
            if not 0 < len(query) <= MOST_ROWS:
                continue
            owner = "" if one is table else f"{table.__name__}."
            file = f"{stage}.{owner}{one.__name__}.csv"
            frame = with_names(query.proj(*plain_columns(query)).to_pandas().reset_index(), units)
            _told(frame).to_csv(folder / file, index=False)
            written.append(file)
    return written


def _told(frame: pd.DataFrame) -> pd.DataFrame:
    """Return rows of comparisons with the direction of their p."""
    shared = [name for name in closed_loop.Outcome.primary_key if name in frame]
    if "kind" not in frame or len(shared) < len(closed_loop.Outcome.primary_key):
        return frame
    outcomes = closed_loop.Comparison.proj("reference").to_dicts()
    known = {tuple(row[name] for name in shared): row["reference"] for row in outcomes}
    keys = frame[shared].itertuples(index=False, name=None)
    return with_direction(frame, pd.Series([known.get(key, "reference") for key in keys]))
