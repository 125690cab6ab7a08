"""Single stages on files: each reads what the ones before it have left in a folder.

A stage writes one npz of its name into the folder, and takes `raster.npz`, `motion.npz`,
`segmentation.npz` and `extraction.npz` from there if it needs them. Without raster or motion,
frames are used as they are.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.files import written_whole
from pipeline.imaging.motion import MotionResult
from pipeline.imaging.movie import MotionCorrected, Movie, RasterCorrected
from pipeline.npy import read_npz


def save(folder: str | os.PathLike, stage: str, **arrays: Any) -> Path:
    """Write `<stage>.npz`, whole or not at all."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError("cannot be made", file=folder, found=error.strerror) from error
    path = folder / f"{stage}.npz"
    with written_whole(path) as partial:
        np.savez(partial, **arrays)
    return path


def load(path: str | os.PathLike, *names: str) -> dict[str, NDArray]:
    """Read arrays of an npz file.

    Raises
    ------
    DataError
        If the file or one of the named arrays is missing.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError("file is missing", file=path, remedy=f"run {path.stem} first")
    arrays = read_npz(path)
    if any(name not in arrays for name in names):
        raise DataError("array is missing", file=path, found=sorted(arrays), expected=names)
    return arrays


def steady(movie: Movie, folder: str | os.PathLike) -> Movie:
    """Return the movie with the raster phase in the folder undone, if there is one."""
    path = Path(folder) / "raster.npz"
    if not path.is_file():
        return movie
    return RasterCorrected(movie, float(load(path, "raster_px")["raster_px"]))


def still(movie: Movie, folder: str | os.PathLike) -> Movie:
    """Return the movie with raster phase and motion in the folder undone, if there are any.

    Raises
    ------
    DataError
        If the shifts are of another movie.
    """
    path, movie = Path(folder) / "motion.npz", steady(movie, folder)
    if not path.is_file():
        return movie
    found = load(path, "shifts_y", "shifts_x")
    if len(found["shifts_y"]) != movie.shape[0]:
        raise DataError(
            "shifts are of another movie",
            file=path,
            field="shifts_y",
            found=f"{len(found['shifts_y'])} frames",
            expected=movie.shape[0],
        )
    blocks = {}
    if "block_shifts" in found:
        blocks["block_y_shifts"], blocks["block_x_shifts"] = found["block_shifts"]
        blocks["block_centers"] = (found["block_y_px"], found["block_x_px"])
    return MotionCorrected(movie, found["shifts_y"], found["shifts_x"], **blocks)


def save_motion(folder: str | os.PathLike, moved: MotionResult) -> Path:
    """Write `motion.npz`."""
    blocks = {}
    if moved.block_centers is not None:
        blocks["block_shifts"] = np.array([moved.block_y_shifts, moved.block_x_shifts])
        blocks["block_y_px"], blocks["block_x_px"] = moved.block_centers
    if moved.fixed is not None:
        blocks["fixed"] = moved.fixed
    return save(
        folder,
        "motion",
        shifts_y=moved.y_shifts,
        shifts_x=moved.x_shifts,
        template=moved.template,
        outliers=moved.outliers,
        accepted=moved.accepted,
        correlation=np.array([moved.correlation_before, moved.correlation_after]),
        **blocks,
    )
