"""Pupils whose edge another program has marked by points."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError

from .pupil import PupilResult, pupil_trackers


@pupil_trackers.register("deeplabcut")
def deeplabcut(
    csv_path: str | os.PathLike,
    *,
    point_prefix: str = "pupil",
    min_likelihood: float = 0.9,
    min_points: int = 4,
) -> PupilResult:
    """Fit a circle to the pupil points in a DeepLabCut CSV file.

    Parameters
    ----------
    csv_path : path
        Table with three header lines (scorer, bodyparts, coords) and x, y, likelihood per point.
    point_prefix : str
        Body parts whose names begin with it, in any case, lie on the pupil's edge.
    min_likelihood : float
        Points below are ignored.
    min_points : int
        Frames with fewer points are NaN; at least 3.

    Returns
    -------
    PupilResult
        Confidence is the mean likelihood of all the points.

    Raises
    ------
    DataError
        If the file is no such table or has too few such points.
    """
    names, coords, table = _read_deeplabcut(Path(csv_path))
    chosen = sorted({n for n in names if n.lower().startswith(point_prefix.lower())})
    if len(chosen) < max(3, min_points):
        raise DataError(
            "too few points on the pupil",
            file=csv_path,
            field="bodyparts",
            found=sorted(set(names)),
            expected=f"at least {max(3, min_points)} that begin with {point_prefix!r}",
        )
    index = {(n, c): i for i, (n, c) in enumerate(zip(names, coords, strict=True))}
    try:
        x, y, likelihood = (
            table[:, [index[name, what] for name in chosen]] for what in ("x", "y", "likelihood")
        )
    except KeyError as error:
        raise DataError("a column is missing", file=csv_path, field=str(error.args[0])) from error
    good = (likelihood >= min_likelihood) & np.isfinite(x) & np.isfinite(y)
    cx, cy, radius = _circles(x, y, good)
    bad = good.sum(axis=1) < max(3, min_points)
    cx, cy, radius = (np.where(bad, np.nan, values) for values in (cx, cy, radius))
    return PupilResult(cx, cy, radius, np.nan_to_num(likelihood).mean(axis=1))


def _read_deeplabcut(path: Path) -> tuple[list[str], list[str], NDArray[np.float64]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError("cannot be read", file=path, found=error) from error
    head = [line.split(",") for line in lines[:3]]
    expected = ["scorer", "bodyparts", "coords"]
    if [row[0] for row in head] != expected:
        raise DataError(
            "is no DeepLabCut table",
            file=path,
            found=[row[0] for row in head],
            expected=f"lines that begin with {expected}",
        )
    cells = [line.split(",") for line in lines[3:] if line.strip()]
    if any(len(row) != len(head[1]) for row in cells) or not cells:
        raise DataError("has rows of unequal length, or none", file=path)
    try:
        table = np.array([[float(v) if v.strip() else np.nan for v in row[1:]] for row in cells])
    except ValueError as error:
        raise DataError("has a cell that is no number", file=path, found=error) from error
    return head[1][1:], head[2][1:], table


def _circles(x: NDArray, y: NDArray, good: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Least-squares circle (Kasa 1976) through the good points of every row."""
    weight = good.astype(np.float64)
    count = np.maximum(weight.sum(axis=1, keepdims=True), 1)
    x, y = np.where(good, x, 0.0), np.where(good, y, 0.0)
    mx, my = x.sum(axis=1, keepdims=True) / count, y.sum(axis=1, keepdims=True) / count
    u, v = (x - mx) * weight, (y - my) * weight
    square = u**2 + v**2
    suu, svv, suv = (u * u).sum(1), (v * v).sum(1), (u * v).sum(1)
    right_u, right_v = (u * square).sum(1) / 2, (v * square).sum(1) / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        determinant = suu * svv - suv**2
        cu = (right_u * svv - right_v * suv) / determinant
        cv = (right_v * suu - right_u * suv) / determinant
        radius = np.sqrt(cu**2 + cv**2 + square.sum(1) / count[:, 0])
    return mx[:, 0] + cu, my[:, 0] + cv, radius
