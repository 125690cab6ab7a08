"""Pupils whose edge SLEAP has marked by points."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.behavior.pupil import PupilResult, pupil_trackers
from pipeline.errors import DataError
from pipeline.imaging.adapters.hdf5 import open_hdf5, text
from pipeline.imaging.adapters.nwb_tables import check_claim, values

from .deeplabcut import is_hdf5
from .points import enough_on_edge, pupil_through

EXPORT = "export an Analysis HDF5 or csv: sleap-convert --format analysis"
MOST = 1 << 28  # numbers of a table


@pupil_trackers.register("sleap")
def sleap(
    analysis_path: str | os.PathLike,
    *,
    point_prefix: str = "pupil",
    min_likelihood: float = 0.5,
    min_points: int = 4,
    track: int = 0,
) -> PupilResult:
    """Fit an ellipse to the pupil points of an analysis file of SLEAP.

    Parameters
    ----------
    analysis_path : path
        Analysis HDF5 or csv.
    point_prefix : str
        Nodes whose names begin with it, in any case, lie on the pupil's edge.
    min_likelihood : float
        Points with a lower score are ignored; SLEAP's scores are lower than likelihoods.
    min_points : int
        Frames with fewer points on the edge are NaN; at least 3.
    track : int
        Which of the tracks.

    Returns
    -------
    PupilResult
        Confidence is the mean score of all the points, at most 1.

    Raises
    ------
    DataError
        If the file is no such table or has too few such points.
    """
    path = Path(analysis_path)
    names, at, score = (_read_h5 if is_hdf5(path) else _read_csv)(path, track)
    chosen = enough_on_edge(names, point_prefix, min_points, path, "node_names")
    index = [names.index(name) for name in chosen]
    x, y, likelihood = at[0][:, index], at[1][:, index], np.minimum(score[:, index], 1.0)
    return pupil_through(x, y, likelihood, min_likelihood=min_likelihood, min_points=min_points)


def _no_track(path: Path, track: int, count: int) -> DataError:
    return DataError("no such track", file=path, field=f"track {track}", expected=f"below {count}")


def _read_h5(path: Path, track: int) -> tuple[list[str], NDArray, NDArray]:
    """Return node names, x and y (2, frames, nodes), and scores (frames, nodes)."""
    try:
        with open_hdf5(path, remedy=EXPORT) as file:
            if "tracks" not in file or "node_names" not in file:
                raise DataError(
                    "is no SLEAP analysis file",
                    file=path,
                    found=sorted(file)[:8],
                    expected="tracks, node_names and point_scores",
                    remedy=EXPORT,
                )
            names = [text(name) for name in np.ravel(values(file["node_names"], path))]
            tracks = file["tracks"]  # (tracks, 2, nodes, frames), as MATLAB has it reversed
            if tracks.ndim != 4 or tracks.shape[1:3] != (2, len(names)):
                raise DataError(
                    "tracks have another shape",
                    file=path,
                    found=tracks.shape,
                    expected=f"(tracks, 2, {len(names)}, frames)",
                )
            if not 0 <= track < tracks.shape[0]:
                raise _no_track(path, track, tracks.shape[0])
            check_claim(tracks, path)
            at = np.moveaxis(np.asarray(tracks[track], np.float64), 1, 2)
            score = np.all(np.isfinite(at), axis=0).astype(np.float64)
            if "point_scores" in file:
                check_claim(file["point_scores"], path)
                given = np.asarray(file["point_scores"][track], np.float64).T
                if given.shape != score.shape:
                    raise DataError(
                        "point_scores and tracks differ in shape", file=path, found=given.shape
                    )
                score = np.where(score > 0, np.nan_to_num(given), 0.0)
    except DataError:
        raise
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise DataError("cannot be read", file=path, found=error, remedy=EXPORT) from error
    return names, at, score


def _read_csv(path: Path, track: int) -> tuple[list[str], NDArray, NDArray]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
        head = list(rows[0]) if rows else []
        names = [name[:-2] for name in head if name and name.endswith(".x")]
        if "frame_idx" not in head or not names:
            raise DataError(
                "is no SLEAP table",
                file=path,
                found=head[:8],
                expected="track, frame_idx and NODE.x, NODE.y, NODE.score",
                remedy=EXPORT,
            )
        animals = sorted({row.get("track") or "" for row in rows})
        if not 0 <= track < len(animals):
            raise _no_track(path, track, len(animals))
        own = [row for row in rows if (row.get("track") or "") == animals[track]]
        frame = np.array([int(row["frame_idx"]) for row in own])
        if frame.min() < 0 or (int(frame.max()) + 1) * len(names) > MOST:
            raise DataError("frame_idx is out of range", file=path, found=int(frame.max()))
        at = np.full((2, frame.max() + 1, len(names)), np.nan)
        score = np.zeros(at.shape[1:])
        for k, name in enumerate(names):
            for target, what in ((at[0], "x"), (at[1], "y"), (score, "score")):
                target[frame, k] = [float(row[f"{name}.{what}"] or "nan") for row in own]
    except DataError:
        raise
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise DataError("cannot be read", file=path, found=error, remedy=EXPORT) from error
    return names, at, np.nan_to_num(score)
