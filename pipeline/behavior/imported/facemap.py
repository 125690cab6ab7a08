"""Pupils that facemap has tracked."""

from __future__ import annotations

import os

import numpy as np

from pipeline.behavior.pupil import (
    PupilResult,
    lone_leaps,
    problem_of,
    pupil_trackers,
    unlike_others,
)
from pipeline.errors import DataError
from pipeline.imaging.importers.pickle_values import as_numbers
from pipeline.imaging.importers.unpickle import load_pickled_dict


@pupil_trackers.register("facemap", revision=2)
def facemap(npy_path: str | os.PathLike, *, pupil_index: int = 0) -> PupilResult:
    """Read the pupil from a facemap `_proc.npy` file.

    Parameters
    ----------
    npy_path : path
        A pickled dictionary; what is no number, text, array or container is refused, not run.
    pupil_index : int
        Which of the pupils that facemap tracked.

    Returns
    -------
    PupilResult
        Radius from facemap's area before smoothing; center relative to the region drawn in
        facemap. NaN where a lid cuts the area: 2.5 times smaller or larger than the usual radius,
        or a leap of one frame; confidence 1 elsewhere.

    Raises
    ------
    DataError
        If the file holds no pupil.
    """
    try:
        content = load_pickled_dict(npy_path)
        pupil = content["pupil"][pupil_index]
        # not area_smooth and com_smooth: there facemap has filled blinks by interpolation
        area = as_numbers(pupil["area"])
        center = as_numbers(pupil["com"])
    except DataError:
        raise
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            "holds no facemap pupil",
            file=npy_path,
            field=f"pupil[{pupil_index}]",
            found=f"{type(error).__name__}: {error}",
            expected="a _proc.npy with area and com",
        ) from error
    if area.ndim != 1 or center.shape != (len(area), 2):
        raise DataError(
            "area and com differ in length", file=npy_path, found=f"{area.shape}, {center.shape}"
        )
    known = np.isfinite(area) & np.isfinite(center).all(axis=1) & (area > 0)
    radius = np.where(known, np.sqrt(np.where(known, area, 0) / np.pi), np.nan)
    y, x = np.where(known, center.T, np.nan)  # facemap's com is (row, column)
    track = np.stack([x, y, radius])
    track[:, unlike_others(radius)] = np.nan
    track[:, lone_leaps(track, 0.5)] = np.nan
    known = np.isfinite(track[2])
    problem = problem_of((~known).astype(int), ("", "no area, or one unlike that of other frames"))
    x, y, radius = track
    return PupilResult(x, y, radius, known.astype(np.float64), problem=problem)
