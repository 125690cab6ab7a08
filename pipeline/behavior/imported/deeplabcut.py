"""Pupils whose edge DeepLabCut or Lightning Pose has marked by points."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from pipeline.behavior.pupil import PupilResult, pupil_trackers
from pipeline.errors import DataError
from pipeline.imaging.adapters.hdf5 import open_hdf5, whole
from pipeline.imaging.importers.unpickle import read_pickle

from .points import enough_on_edge, on_edge, pupil_through

HEADS = (["scorer", "bodyparts", "coords"], ["scorer", "individuals", "bodyparts", "coords"])
CSV = "write the csv: deeplabcut.analyze_videos(..., save_as_csv=True)"
Column = tuple[str, str, str]  # individual, point, x or y or likelihood


@pupil_trackers.register("deeplabcut", revision=2)
def deeplabcut(
    table_path: str | os.PathLike,
    *,
    point_prefix: str = "pupil",
    min_likelihood: float = 0.9,
    min_points: int = 4,
    individual: str = "",
) -> PupilResult:
    """Fit an ellipse to the pupil points of a table of DeepLabCut or Lightning Pose.

    Parameters
    ----------
    table_path : path
        csv with three header lines (scorer, bodyparts, coords) or four (individuals), or the h5
        file of the same table, with x, y and likelihood of every point.
    point_prefix : str
        Body parts whose names begin with it, in any case, lie on the pupil's edge.
    min_likelihood : float
        Points below are ignored.
    min_points : int
        Frames with fewer points on the edge are NaN; at least 3.
    individual : str
        Whose pupil, where the table has several animals; may be left out if one has a pupil.

    Returns
    -------
    PupilResult
        Confidence is the mean likelihood of all the points.

    Raises
    ------
    DataError
        If the file is no such table or has too few such points.
    """
    path = Path(table_path)
    columns, table = (_read_h5 if is_hdf5(path) else _read_csv)(path)
    animal = _whose(path, columns, point_prefix, individual)
    names = [name for who, name, _ in columns if who == animal]
    chosen = enough_on_edge(names, point_prefix, min_points, path, "bodyparts")
    index = {column: i for i, column in enumerate(columns)}
    try:
        x, y, likelihood = (
            table[:, [index[animal, name, what] for name in chosen]]
            for what in ("x", "y", "likelihood")
        )
    except KeyError as error:
        raise DataError(
            "a column is missing", file=path, field=" ".join(error.args[0][1:])
        ) from error
    return pupil_through(x, y, likelihood, min_likelihood=min_likelihood, min_points=min_points)


def is_hdf5(path: Path) -> bool:
    """Tell by its content whether a file is HDF5.

    Raises
    ------
    DataError
        If it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(8) == b"\x89HDF\r\n\x1a\n"
    except OSError as error:
        raise DataError("cannot be read", file=path, found=error.strerror) from error


def _whose(path: Path, columns: list[Column], prefix: str, individual: str) -> str:
    animals = list(dict.fromkeys(who for who, _, _ in columns))
    if individual:
        if individual not in animals:
            raise DataError(
                "no such individual", file=path, field=individual, expected=f"one of {animals}"
            )
        return individual
    having = [a for a in animals if on_edge([n for who, n, _ in columns if who == a], prefix)]
    if len(having) > 1:
        raise DataError(
            "several individuals have a pupil",
            file=path,
            field="individuals",
            found=having,
            expected="one",
            remedy="name it: individual",
        )
    return having[0] if having else animals[0]


def _read_csv(path: Path) -> tuple[list[Column], NDArray[np.float64]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file) if row and any(cell.strip() for cell in row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError("cannot be read", file=path, found=error) from error
    first = [row[0].strip().lower() for row in rows[:4]]
    head = next((names for names in HEADS if first[: len(names)] == names), None)
    if head is None:
        raise DataError(
            "is no DeepLabCut table",
            file=path,
            found=[cell[:40] for cell in first],
            expected=f"lines that begin with {HEADS[0]} or {HEADS[1]}",
        )
    top, cells = rows[: len(head)], rows[len(head) :]
    if any(len(row) != len(top[0]) for row in [*top, *cells]) or not cells:
        raise DataError("has rows of unequal length, or none", file=path)
    try:
        table = np.array([[float(v) if v.strip() else np.nan for v in row[1:]] for row in cells])
    except ValueError as error:
        raise DataError("has a cell that is no number", file=path, found=error) from error
    return _columns(head, [row[1:] for row in top]), table


def _columns(head: list[str], rows: list[list[str]]) -> list[Column]:
    line = dict(zip(head, rows, strict=True))
    animals = line.get("individuals", [""] * len(rows[0]))
    return [
        (who.strip(), name.strip(), what.strip().lower())
        for who, name, what in zip(animals, line["bodyparts"], line["coords"], strict=True)
    ]


def _read_h5(path: Path) -> tuple[list[Column], NDArray[np.float64]]:
    """Read a pandas table; the names of its columns are a pickle, which is read and not run."""
    wrong = DataError(
        "is no DeepLabCut table",
        file=path,
        expected="the h5 that DeepLabCut writes (a pandas table), or its csv",
        remedy=CSV,
    )
    try:
        with open_hdf5(path, remedy=CSV) as file:
            groups = [g for g in file.values() if isinstance(g, h5py.Group) and "table" in g]
            for group in groups:
                names = group.attrs.get("non_index_axes")
                table = group["table"]
                if names is None or table.dtype.names is None:
                    continue
                (axis,) = read_pickle(bytes(names))
                tuples = axis[1]
                blocks = [n for n in table.dtype.names if n.startswith("values_block")]
                if len(blocks) != 1 or not all(len(t) == len(tuples[0]) for t in tuples):
                    continue
                values = np.asarray(whole(table)[blocks[0]], np.float64)
                head = HEADS[0] if len(tuples[0]) == 3 else HEADS[1]
                if values.ndim == 2 and values.shape[1] == len(tuples) and len(values):
                    return _columns(
                        head, [list(map(str, row)) for row in zip(*tuples, strict=False)]
                    ), values
    except DataError:
        raise
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise wrong from error
    raise wrong
