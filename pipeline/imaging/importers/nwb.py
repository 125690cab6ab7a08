"""Units in NWB files: PlaneSegmentation and RoiResponseSeries (extra `nwb`)."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError, Finding
from pipeline.imaging.adapters.hdf5 import of_type, open_hdf5, spacing_of, times_of, whole

from .base import ImportedScan, assemble, even_times, importers, reading
from .nwb_units import decisions, mean_image_of, rows_come_first, weights_of

ROLES = {
    "neuropil": ("neuropil", "fneu"),
    "activity": ("deconvolved", "spike", "event", "inferred"),
    "denoised": ("denoised",),
}


@importers.register("nwb")
def nwb(
    path: str | os.PathLike,
    *,
    plane: str | None = None,
    series: str | None = None,
    fps: float | None = None,
    um_per_px: tuple[float, float] | None = None,
    neuropil_coefficient: float = 0.7,
    rows_first: bool | None = None,
) -> ImportedScan:
    """Read the units of one PlaneSegmentation and their RoiResponseSeries.

    Parameters
    ----------
    path : path
    plane, series : str, optional
        Name of the PlaneSegmentation and of the series of fluorescence, where there are several;
        the end of a path (`DfOverF/RoiResponseSeries`) or the name of a container will do.
    fps, um_per_px : optional
        Override the file's rate and grid spacing.
    neuropil_coefficient : float
        Share of a series of neuropil (less its median) that is subtracted; series of deconvolved
        activity are told by their names, too.
    rows_first : bool, optional
        Masks and mean image are (row, column). The standard says (x, y), that is columns first;
        files of early roiextractors are known by their columns and taken as they are meant.

    Returns
    -------
    ImportedScan
        `keep` and `soma_probability` from columns such as `Accepted`, `Rejected` or `iscell`.

    Raises
    ------
    DataError
        If the file holds no such units, several from which to choose, or parts that do not fit.
    """
    path = Path(path)
    with open_hdf5(path) as file, reading(path, "NWB"):
        findings: list[Finding] = []
        table = _one(of_type(file, "PlaneSegmentation"), plane, "PlaneSegmentation", path)
        items = [item for item in of_type(file, "RoiResponseSeries") if "data" in item]
        chosen = _series(file, items, table, series, path)
        rows = whole(chosen["rois"]).astype(int)
        units = len(table["id"]) if "id" in table else int(rows.max(initial=-1)) + 1
        if rows.size and (rows.min() < 0 or rows.max() >= units):
            raise DataError(
                "series names units that are not there",
                file=path,
                field=chosen.name,
                found=int(rows.max()),
                expected=f"below {units}",
            )
        raw = _traces(chosen, len(rows), path)
        if rows_first is None:
            rows_first, reason = rows_come_first(table)
            findings.append(Finding("masks-turned", f"{path.name}: {reason}"))
        weights = weights_of(table, mean_image_of(file, table, None), rows_first, path)
        if len(weights) != units:
            raise DataError(
                "masks do not fit the table",
                file=path,
                field=table.name,
                found=f"{len(weights)} masks",
                expected=f"{units} units",
            )
        mean = mean_image_of(file, table, weights.shape[1:] if rows_first else weights.shape[:0:-1])
        keep, probability = decisions(table, units, path)
        if "image_mask" not in table and mean is None:
            text = "the size of the field is unknown: it is drawn as far as masks reach"
            findings.append(Finding("field-size-unknown", f"{path.name}: {text}"))
        others = {
            role: _aligned(
                [one for one in items if one.name != chosen.name and _role(one) == role],
                chosen,
                raw.shape,
                path,
            )
            for role in ("neuropil", "activity")
        }
        time = even_times(raw.shape[1], fps, path) if fps else times_of(chosen, raw.shape[1])
        if time is None:
            time = even_times(raw.shape[1], None, path)
        size = um_per_px or spacing_of(table.get("imaging_plane"))
    corrected = raw
    if others["neuropil"] is not None:
        around = others["neuropil"]
        corrected = raw - neuropil_coefficient * (around - np.median(around, axis=1, keepdims=True))
    if mean is not None and not rows_first:
        mean = mean.T
    if keep is None:
        text = "no column says which units were rejected: all are kept"
        findings.append(Finding("units-all-kept", f"{path.name}: {text}"))
    if size is None:
        findings.append(Finding("pixel-size-unknown", f"{path.name}: gives no size of a pixel"))
    return assemble(
        path,
        corrected=corrected,
        weights=weights.select(rows),
        time_s=time,
        mean_image=mean,
        keep=None if keep is None else keep[rows],
        soma_probability=None if probability is None else probability[rows],
        raw=raw,
        um_per_px=size,
        findings=findings,
        **others,
    )


def _one(items: list, name: str | None, kind: str, path: Path):
    names = [item.name for item in items]
    if name is not None:
        items = [i for i in items if f"/{i.name.strip('/')}".endswith(f"/{name.strip('/')}")]
    if len(items) != 1:
        raise DataError(
            f"holds not exactly one such {kind}",
            file=path,
            field=name,
            found=names or "none",
            remedy="name one" if names else None,
        )
    return items[0]


def _series(file, items: list, table, name: str | None, path: Path):
    """Return the series of fluorescence of a table's units."""
    of_table = []
    for item in items:
        target = item["rois"].attrs.get("table") if "rois" in item else None
        if "rois" in item and (target is None or file[target].name == table.name):
            of_table.append(item)
    if name is None:
        return _one([i for i in of_table if _role(i) == "fluorescence"], None, _KIND, path)
    inside = [i for i in of_table if i.name.split("/")[-2] == name]
    return inside[0] if len(inside) == 1 else _one(of_table, name, _KIND, path)


_KIND = "RoiResponseSeries"


def _role(item) -> str:
    """Return what a series holds, by its own name, else by that of its container."""
    parts = item.name.lower().split("/")
    for name in (parts[-1], parts[-2] if len(parts) > 1 else ""):
        for role, words in ROLES.items():
            if any(word in name for word in words):
                return role
    return "fluorescence"


def _traces(item, units: int, path: Path) -> NDArray[np.float32]:
    """Return the data of a series as (units, frames); the standard says (frames, units)."""
    data = np.asarray(whole(item["data"]), np.float32)
    if data.ndim == 1 and units == 1:
        data = data[:, None]
    if data.ndim != 2 or data.shape[1] != units:
        raise DataError(
            "series does not fit its units",
            file=path,
            field=item.name,
            found=data.shape,
            expected=f"(frames, {units})",
        )
    scale, offset = (
        float(item["data"].attrs.get(n, v)) for n, v in (("conversion", 1), ("offset", 0))
    )
    if np.isfinite([scale, offset]).all() and (scale, offset) != (1.0, 0.0) and scale != 0:
        data = data * np.float32(scale) + np.float32(offset)
    return data.T


def _aligned(items: list, chosen, shape: tuple, path: Path) -> NDArray | None:
    """Return the one series of the same units and frames, None if there is none.

    A series that does not say whose it is belongs to the one beside it in a container.
    """
    rows = whole(chosen["rois"])
    for item in items:
        same = item.parent == chosen.parent
        if "rois" in item:
            same = np.array_equal(whole(item["rois"]), rows)
            target, own = (one["rois"].attrs.get("table") for one in (item, chosen))
            same &= target is None or own is None or item.file[target] == item.file[own]
        if same and item["data"].shape == shape[::-1]:
            return _traces(item, shape[0], path)
    return None
