"""Take tables, and whole scans, out of the database."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import DataError
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


def write_nwb(
    scan: Mapping[str, int],
    out: Path,
    *,
    movie: str = "raw",
    imaging_hash: str | None = None,
    entries: Path | None = None,
) -> dict[str, Any]:
    """Write a scan with all that is known of it as an NWB file.

    Parameters
    ----------
    scan : mapping
        `animal_id, session, scan_idx`; the schemas are active.
    out : path
        Ends in `.nwb`.
    movie, imaging_hash
        See `schemas.nwb.session.fetch_session`.
    entries : path, optional
        JSON object with entries of `pipeline.recording.nwb.write.SAID`, which no row knows.

    Returns
    -------
    dict
        `bytes` of the file, and `not_said`: entries that archives ask for and nobody has said.

    Raises
    ------
    DataError
        If pynwb is not installed, or the scan cannot be written.
    """
    try:
        from pipeline.recording.nwb.write import missing_facts, write_session
    except ImportError as error:
        raise DataError(
            "pynwb is not installed",
            file=out,
            found=error.name,
            remedy="pip install 'inception-loop[nwb]'",
        ) from error
    from pipeline.recording.nwb.unpack import read_entries
    from schemas.nwb.session import fetch_session

    session = fetch_session(
        scan, imaging_hash=imaging_hash, movie=movie, said=read_entries(entries)
    )
    written = write_session(session, out)
    return {"bytes": written.stat().st_size, "not_said": missing_facts(session)}
