"""Units of one field from an NWB file: masks and traces, of this program or of others."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.imaging.adapters.hdf5 import of_type, spacing_of
from pipeline.imaging.adapters.nwb_tables import FIELDS, find_table, read_table, values
from pipeline.imaging.importers.nwb import nwb
from pipeline.recording.nwb.session import Column, Plane, Table, Trace
from pipeline.recording.nwb.timing import exact, rising, series_times

if TYPE_CHECKING:
    import h5py


def read_rois(
    file: h5py.File, path: Path, choices: Mapping[str, Any], *, own: bool
) -> tuple[list[Plane], NDArray[np.float64]]:
    """Return one field with its units, and the times of the frames (s).

    Raises
    ------
    DataError
        If there are several fields and none is chosen, or parts do not fit.
    """
    if own:
        return _own(file, path, choices)
    picked = {name: choices[name] for name in ("plane", "series", "rows_first") if name in choices}
    found = nwb(path, **picked)
    columns = {
        "unit_id": Column("", found.source_row + 1),
        "keep": Column("", found.keep),
        "soma_probability": Column("", found.soma_probability),
    }
    traces = {"corrected": found.corrected, "raw": found.raw, "neuropil": found.neuropil}
    plane = Plane(
        0,
        found.pixels.shape[1:],
        um_per_px=found.um_per_px,
        images={"mean_image": found.mean_image},
        masks=(found.pixels.start, found.pixels.pixel, found.pixels.value),
        units=Table("units", "", columns),
        traces={
            name: Trace(functools.partial(np.asarray, data), "", "")
            for name, data in traces.items()
            if data is not None
        },
        findings=found.findings,
    )
    times = rising(found.time_s, {"file": path, "field": "timestamps"})
    return [plane], times


def _own(
    file: h5py.File, path: Path, choices: Mapping[str, Any]
) -> tuple[list[Plane], NDArray[np.float64]]:
    """Read a field as `write_imaging` has written it, to the last bit."""
    tables = {item.name.rsplit("/", 1)[-1]: item for item in of_type(file, "PlaneSegmentation")}
    wanted = choices.get("plane", next(iter(tables), None))
    if wanted not in tables or (len(tables) > 1 and "plane" not in choices):
        raise DataError(
            "holds units of several fields, and a recording of traces has one",
            file=path,
            field="nwb.plane",
            found=sorted(tables) or "none",
            expected="one PlaneSegmentation",
            remedy='name one: {"nwb": {"plane": "units_0"}}, or export with the movie',
        )
    table = tables[wanted]
    index = int(wanted.rsplit("_", 1)[-1])
    fields = find_table(file, FIELDS, path) or {}
    row = list(fields.get("field", [])).index(index)
    shape = (int(fields["height_px"][row]), int(fields["width_px"][row]))
    traces, times = {}, None
    for item in of_type(file, "RoiResponseSeries"):
        name, _, field = item.name.rsplit("/", 1)[-1].rpartition("_")
        if field != str(index):
            continue
        data = item["data"]
        own = series_times(item, data.shape[0], path)
        times = own if times is None or name == "corrected" else times
        traces[name] = Trace(functools.partial(_transposed, data, path), "", "")
    if times is None or "corrected" not in traces:
        raise DataError(
            "holds no corrected traces of these units",
            file=path,
            field=table.name,
            found=sorted(traces) or "none",
            expected="a RoiResponseSeries corrected_" + str(index),
        )
    units = {name: Column("", values) for name, values in read_table(table, path).items()}
    plane = Plane(
        index,
        shape,
        um_per_px=spacing_of(table.get("imaging_plane")),
        delay_s=float(fields["delay_s"][row]),
        line_period_s=float(fields["line_period_s"][row]),
        images=_mean_image(file, index, path),
        masks=_masks(table, shape, path),
        units=Table("units", "", units),
        traces=traces,
    )
    return [plane], exact(file, "frames", times, path)


def _transposed(data: h5py.Dataset, path: Path) -> NDArray:
    return values(data, path).T


def _mean_image(file: h5py.File, index: int, path: Path) -> dict[str, NDArray]:
    place = file.get(f"processing/ophys/summary_images_{index}/mean_image")
    return {} if place is None else {"mean_image": np.asarray(values(place, path), np.float32).T}


def _masks(
    table: h5py.Group, shape: tuple[int, int], path: Path
) -> tuple[NDArray, NDArray, NDArray]:
    ends = np.asarray(values(table["pixel_mask_index"], path), np.int64)
    pixels = values(table["pixel_mask"], path)
    x, y = (pixels[name].astype(np.int64) for name in ("x", "y"))
    ordered = len(ends) and ends[-1] == len(pixels) and (np.diff(ends) >= 0).all()
    inside = (
        len(pixels) and x.max() < shape[1] and y.max() < shape[0] and min(x.min(), y.min()) >= 0
    )
    if not ordered or not inside:
        raise DataError(
            "pixel masks are damaged", file=path, field=table.name, expected=f"pixels of {shape}"
        )
    start = np.concatenate([[0], ends])
    return start, (y * shape[1] + x).astype(np.int32), pixels["weight"].astype(np.float32)
