"""Tell the database where recordings, prepared sets and stacks lie after they were moved.

Nothing is moved or written but paths in rows. Store and home need no such step: rows name what is
in the store relative to it, and a home may be moved as a folder.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import datajoint as dj

from pipeline.errors import DataError
from schemas import closed_loop, dataset, experiment

PATHS = (
    (experiment.Scan.File, "path"),
    (experiment.Scan, "folder"),
    (dataset.PreparedFile, "path"),
    (closed_loop.Stack, "stack_path"),
)
"""Tables with an absolute path, and its column."""


@dataclass(frozen=True)
class Move:
    """A path in a row, and what it becomes."""

    table: type[dj.Table]
    row: dict[str, Any]
    column: str
    new: str

    @property
    def old(self) -> str:
        """The path as the row has it."""
        return self.row[self.column]


def plan(old: str | os.PathLike, new: str | os.PathLike) -> list[Move]:
    """Return what moving a folder, or a file, changes in rows.

    Parameters
    ----------
    old : path
        Where rows say that it is; it need not exist any more.
    new : path
        Where it is now.

    Raises
    ------
    LookupError
        If no row names anything there.
    DataError
        If a file is not at the new place, or is another than the one ingested; all are looked at
        before any row is changed.
    """
    before = Path(os.path.abspath(Path(old).expanduser()))
    after = Path(new).expanduser().resolve()
    moves = []
    for table, column in PATHS:
        for row in table().to_dicts(order_by="KEY"):
            path = PurePath(row[column])
            if path == before or before in path.parents:
                moved = after / path.relative_to(before) if path != before else after
                moves.append(Move(table, row, column, str(moved)))
    if not moves:
        raise LookupError(
            f"{before}: no recording, prepared set or stack lies there, as far as rows say; a "
            "store or a home is moved as a folder (DJ_STORES, --home)"
        )
    for move in moves:
        _check(move)
    return moves


def relocate(moves: list[Move]) -> None:
    """Write the new paths, all or none."""
    with experiment.schema.connection.transaction:
        for move in moves:
            key = {name: move.row[name] for name in move.table.primary_key}
            change: dict[str, Any] = {move.column: move.new}
            if "modified_ns" in move.row and move.row["digest"] is not None:
                change["modified_ns"] = Path(move.new).stat().st_mtime_ns  # checked just now
            move.table.update1({**key, **change})


def _check(move: Move) -> None:
    path = Path(move.new)
    if not path.exists():
        raise DataError(
            "is not at the new place; no row was changed",
            file=path,
            field=move.table.__name__,
            expected=f"what lay at {move.old}",
            remedy="move or copy all of the folder first",
        )
    if "fingerprint" not in move.row:
        return
    if move.row["digest"] is not None:
        found, expected = experiment.raw_digest(path), move.row["digest"]
    else:  # a row of before there were digests
        found, expected = experiment.fingerprint(path), move.row["fingerprint"]
    if found != expected:
        raise DataError(
            "is not the file that was ingested; no row was changed",
            file=path,
            found=found,
            expected=expected,
            remedy="copy it again",
        )
