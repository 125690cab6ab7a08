"""Take tables out of the database."""

from __future__ import annotations

import importlib
from pathlib import Path

from pipeline.stages import STAGES
from workers.database.datajoint_internals import plain_columns


def write_table(name: str, file: Path) -> int:
    """Write the scalar columns of a table to a file.

    Parameters
    ----------
    name : str
        Stage, table and perhaps part: `closed_loop.Outcome.Unit`.
    file : Path
        `.csv`, `.json` (records) or `.parquet`.

    Returns
    -------
    int
        Number of rows.

    Raises
    ------
    ValueError
        If there is no such table, or the suffix is another.
    """
    stage, *path = name.split(".")
    if stage not in STAGES or not path:
        raise ValueError(f"no table {name!r}; name one like imaging.Motion, stages are {STAGES}")
    table = importlib.import_module(f"schemas.{stage}")
    for part in path:
        table = getattr(table, part, None)
        if table is None:
            raise ValueError(f"no table {name!r} in schemas.{stage}")
    query = table()
    frame = query.proj(*plain_columns(query)).to_pandas().reset_index()
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".csv":
        frame.to_csv(file, index=False)
    elif file.suffix == ".json":
        frame.to_json(file, orient="records", date_format="iso")
    elif file.suffix == ".parquet":
        frame.to_parquet(file, index=False)
    else:
        raise ValueError(f"{file.name}: unknown suffix; use .csv, .json or .parquet")
    return len(frame)
