"""HDF5 files that CaImAn has written (extra `nwb`, for h5py)."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pipeline.errors import DataError, Finding
from pipeline.imaging.adapters.hdf5 import open_hdf5, whole
from pipeline.imaging.segmentation.masks import PixelStack

from .base import ImportedScan, assemble, check_size, even_times, importers, reading


@importers.register("caiman")
def caiman(
    path: str | os.PathLike,
    *,
    fps: float | None = None,
    um_per_px: tuple[float, float] | None = None,
) -> ImportedScan:
    """Read the estimates of CNMF: footprints A, traces C and their residual YrA, spikes S.

    Parameters
    ----------
    path : path
    fps : float, optional
        Frames per second (Hz), to override the file's.
    um_per_px : tuple (y, x), optional
        Size of a pixel (um).

    Returns
    -------
    ImportedScan
        `corrected` is C + YrA, scaled to the mean of the footprint's pixels weighted by the
        footprint; C alone, which is smooth, where the file lacks YrA. `keep` are the components
        that CaImAn accepted, `soma_probability` its network's verdict if it was asked.

    Raises
    ------
    DataError
        If the file is none of CaImAn's or its parts do not fit.
    """
    path = Path(path)
    with open_hdf5(path) as file, reading(path, "CaImAn"):
        if "estimates" not in file:
            raise DataError(
                "is no CaImAn file", file=path, found=sorted(file)[:8], expected="a group estimates"
            )
        estimates = file["estimates"]
        traces = _matrix(estimates, "C", path)
        dims = _numbers(estimates.get("dims", file.get("dims")))
        if dims is None or len(dims) != 2:
            raise DataError(
                "size of the field is unknown",
                file=path,
                field="dims",
                found=dims,
                expected="height and width (3-D scans are not read)",
            )
        size = check_size(path, *dims)
        footprints = _footprints(estimates, size, len(traces), path)
        residual = _optional(estimates, "YrA", traces.shape, path)
        accepted = _numbers(estimates.get("idx_components"))
        verdict = _numbers(estimates.get("cnn_preds"))
        rate = fps or _rate(file)
        spikes = _optional(estimates, "S", traces.shape, path)
        background = _background(estimates, size)
        rejected = _numbers(estimates.get("idx_components_bad"))
    units = len(traces)
    # pixels of a component are A c: their mean, weighted by A, is c sum(A^2) / sum(A)
    unit, value = footprints.unit, footprints.value.astype(np.float64)
    total = np.maximum(np.bincount(unit, value, units), 1e-12)
    scale = np.bincount(unit, value**2, units) / total
    corrected = (traces if residual is None else traces + residual) * scale[:, None]
    keep = np.ones(units, bool)
    if accepted is not None:
        keep = np.isin(np.arange(units), accepted.astype(int))
    elif rejected is not None:
        keep = ~np.isin(np.arange(units), rejected.astype(int))
    probability = verdict if verdict is not None and verdict.shape == (units,) else None
    return assemble(
        path,
        corrected=corrected,
        weights=footprints,
        time_s=even_times(traces.shape[1], rate, path),
        mean_image=background,
        keep=keep,
        soma_probability=probability,
        activity=spikes,
        um_per_px=um_per_px,
        findings=[Finding("units-smoothed", f"{path.name}: lacks YrA: traces are the smooth C")]
        if residual is None
        else [],
    )


def _numbers(item: object) -> NDArray[np.float64] | None:
    """Return the numbers of a data set; None if there are none (CaImAn writes None as text)."""
    if item is None or not hasattr(item, "dtype") or item.dtype.kind not in "fiub":
        return None
    return np.asarray(whole(item), np.float64)


def _matrix(estimates, name: str, path: Path) -> NDArray[np.float64]:
    values = _numbers(estimates.get(name))
    if values is None or values.ndim != 2:
        raise DataError(
            "lacks a matrix", file=path, field=f"estimates/{name}", expected="(units, frames)"
        )
    return values


def _optional(estimates, name: str, shape: tuple, path: Path) -> NDArray[np.float64] | None:
    values = _numbers(estimates.get(name))
    if values is not None and values.shape != shape:
        raise DataError(
            "does not fit C",
            file=path,
            field=f"estimates/{name}",
            found=values.shape,
            expected=shape,
        )
    return values


def _footprints(estimates, size: tuple[int, int], units: int, path: Path) -> PixelStack:
    """Return A as weights; CaImAn writes (pixels, units) as a compressed sparse matrix by column.

    Its pixels are counted down the columns of the field.
    """
    group, expected = estimates.get("A"), (size[0] * size[1], units)
    try:
        if hasattr(group, "dtype"):
            shape, (pixel, unit, value) = group.shape, _points(group)
        else:
            parts = tuple(whole(group[name]) for name in ("data", "indices", "indptr"))
            shape = tuple(int(one) for one in group["shape"][()])
            matrix = sparse.csc_matrix(parts, shape=shape)
            matrix.check_format(full_check=True)
            matrix = matrix.tocoo()
            pixel, unit, value = matrix.row, matrix.col, matrix.data
    except (TypeError, KeyError, ValueError) as error:
        raise DataError(
            "footprints cannot be read",
            file=path,
            field="estimates/A",
            found=error,
            expected="a sparse matrix by column",
        ) from error
    if tuple(shape) != expected:
        raise DataError(
            "footprints do not fit",
            file=path,
            field="estimates/A",
            found=shape,
            expected=expected,
        )
    x, y = np.divmod(pixel, size[0])
    return PixelStack.from_points(unit, y, x, value, (units, *size))


def _points(dense) -> tuple[NDArray, NDArray, NDArray]:
    """Return rows, columns and values of a dense matrix on disk that are above 0."""
    found = [(np.zeros(0, int), np.zeros(0, int), np.zeros(0))]
    step = max(1, (1 << 22) // max(dense.shape[1], 1))
    for first in range(0, dense.shape[0], step):
        block = np.asarray(dense[first : first + step], np.float64)
        row, column = np.nonzero(block > 0)
        found.append((row + first, column, block[row, column]))
    row, column, value = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return row, column, value


def _rate(file) -> float | None:
    for place in ("params/data/fr", "params/fr"):
        value = _numbers(file.get(place))
        if value is not None and value.size == 1:
            return float(value)
    return None


def _background(estimates, size: tuple[int, int]) -> NDArray | None:
    """Return the mean background as an image, if the file keeps its two factors."""
    b, f = _numbers(estimates.get("b")), _numbers(estimates.get("f"))
    if b is None or f is None or b.ndim != 2 or f.ndim != 2 or b.shape[1] != len(f):
        return None
    if len(b) != size[0] * size[1]:
        return None
    return (b @ f.mean(axis=1)).reshape(size, order="F")
