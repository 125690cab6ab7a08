"""Output of EXTRACT in MATLAB files of version 7.3, which are HDF5 (extra `nwb`, for h5py)."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError, Finding
from pipeline.imaging.adapters.hdf5 import open_hdf5, whole
from pipeline.imaging.segmentation.masks import PixelStack

from .base import ImportedScan, assemble, check_size, even_times, importers, reading

NAMES = (("spatial_weights", "temporal_weights"), ("filters", "traces"))
IMAGES = ("F_per_pixel", "summary_image", "max_image")
_BLOCK = 1 << 22


@importers.register("extract")
def extract(
    path: str | os.PathLike,
    *,
    fps: float | None = None,
    um_per_px: tuple[float, float] | None = None,
) -> ImportedScan:
    """Read the cells of EXTRACT: spatial and temporal weights.

    Parameters
    ----------
    path : path
        A .mat of version 7.3 (`save(..., '-v7.3')`) with the struct that EXTRACT returns.
    fps : float
        Frames per second (Hz), which EXTRACT does not keep.
    um_per_px : tuple (y, x), optional
        Size of a pixel (um), which it does not keep either.

    Returns
    -------
    ImportedScan
        `corrected` are the temporal weights, as EXTRACT has scaled them; cells that its check
        calls bad are not kept.

    Raises
    ------
    DataError
        If the file is none of EXTRACT's, its parts do not fit, or no rate is given.
    """
    path = Path(path)
    if path.is_file() and path.open("rb").read(19).startswith(b"MATLAB 5.0"):
        raise DataError(
            "is a MATLAB file of an old version",
            file=path,
            expected="version 7.3",
            remedy="save(file, 'output', '-v7.3')",
        )
    with open_hdf5(path) as file, reading(path, "EXTRACT"):
        output, names = _output(file, path)
        traces = np.asarray(whole(output[names[1]]), np.float32)  # MATLAB's (frames, units)
        if traces.ndim != 2 or not hasattr(output[names[1]], "dtype"):
            raise DataError("traces are not (units, frames)", file=path, found=traces.shape)
        image = _image(output, path)
        weights = _weights(output[names[0]], len(traces), image, path)
        bad = output.get("info/cellcheck/is_bad")
        bad = None if bad is None else np.ravel(whole(bad)) > 0
    if bad is not None and bad.shape != (len(traces),):
        raise DataError(
            "does not fit the traces",
            file=path,
            field="info/cellcheck/is_bad",
            found=bad.shape,
            expected=(len(traces),),
        )
    fits = image is not None and image.shape == weights.shape[1:]
    return assemble(
        path,
        corrected=traces,
        weights=weights,
        time_s=even_times(traces.shape[1], fps, path),
        mean_image=image if fits else None,
        keep=None if bad is None else ~bad,
        um_per_px=um_per_px,
        findings=[
            Finding("units-scaled", f"{path.name}: traces are scaled as EXTRACT leaves them")
        ],
    )


def _output(file, path: Path):
    """Return the group with both weights, at the top or one level below, and their names."""
    groups = [file, *(file[n] for n in sorted(file) if n != "#refs#" and hasattr(file[n], "keys"))]
    found = [(g, names) for g in groups for names in NAMES if all(n in g for n in names)]
    if len(found) != 1:
        raise DataError(
            "holds not exactly one output of EXTRACT",
            file=path,
            found=sorted(file)[:8],
            expected="a struct with spatial_weights and temporal_weights",
        )
    return found[0]


def _image(output, path: Path) -> NDArray | None:
    for name in IMAGES:
        item = output.get(f"info/{name}")
        if item is not None and len(item.shape) == 2 and item.dtype.kind == "f":
            return np.asarray(whole(item), np.float32).T  # MATLAB stores columns first
    return None


def _weights(item, units: int, image: NDArray | None, path: Path) -> PixelStack:
    """Return MATLAB's (H, W, units), which the file holds as (units, W, H), or (pixels, units)."""
    if not hasattr(item, "dtype"):
        return _from_sparse(item, units, image, path)
    shape = (1, *item.shape) if (len(item.shape), units) == (2, 1) else item.shape
    if len(shape) != 3 or shape[0] != units or item.dtype.kind not in "biuf":
        raise DataError(
            "footprints do not fit",
            file=path,
            field="spatial_weights",
            found=item.shape,
            expected=f"({units}, W, H)",
        )
    height, width = check_size(path, shape[2], shape[1])
    parts = [(np.zeros(0, int),) * 3 + (np.zeros(0, np.float32),)]
    step = max(1, _BLOCK // (height * width))
    for start in range(0, units, step):
        block = item[()] if len(item.shape) == 2 else item[start : start + step]
        block = block.reshape(-1, width, height)
        unit, x, y = np.nonzero(block > 0)
        parts.append((unit + start, y, x, block[unit, x, y].astype(np.float32)))
    unit, y, x, weight = (np.concatenate(part) for part in zip(*parts, strict=True))
    return PixelStack.from_points(unit, y, x, weight, (units, height, width))


def _from_sparse(group, units: int, image: NDArray | None, path: Path) -> PixelStack:
    """Read MATLAB's sparse matrix (pixels, units); its size comes from an image of the field."""
    rows = int(group.attrs.get("MATLAB_sparse", 0))
    if image is None or rows != image.size or "jc" not in group:
        raise DataError(
            "footprints cannot be read",
            file=path,
            field="spatial_weights",
            found=f"{rows} pixels",
            expected="(H, W, units), or a sparse matrix and an image of the field",
        )
    ends, pixel, weight = (whole(group[name]) for name in ("jc", "ir", "data"))
    if len(ends) != units + 1 or ends[-1] != len(pixel) or pixel.max(initial=0) >= rows:
        raise DataError("footprints do not fit", file=path, field="spatial_weights")
    x, y = np.divmod(pixel.astype(np.int64), image.shape[0])
    ends = ends.astype(np.int64)
    unit = np.repeat(np.arange(units), ends[1:] - ends[:-1])
    return PixelStack.from_points(unit, y, x, weight, (units, *image.shape))
