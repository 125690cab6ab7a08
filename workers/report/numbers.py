"""Every number as CSV: the tables that a loop's results are in, without their arrays."""

from __future__ import annotations

from pathlib import Path

import datajoint as dj

from pipeline.stages import STAGES

FROM_STAGE = STAGES.index("dataset")
MOST_ROWS = 1_000_000


def write_numbers(folder: Path) -> list[str]:
    """Write one CSV for every table and part that has rows; return the files' names."""
    import schemas

    folder.mkdir(parents=True, exist_ok=True)
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
            plain = [name for name in query.heading.names if query.heading[name].codec is None]
            owner = "" if one is table else f"{table.__name__}."
            file = f"{stage}.{owner}{one.__name__}.csv"
            query.proj(*plain).to_pandas().reset_index().to_csv(folder / file, index=False)
            written.append(file)
    return written
