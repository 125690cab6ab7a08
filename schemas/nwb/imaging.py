"""Fields of a scan: movie, motion, masks, traces, quality."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import DataError
from pipeline.imaging.tiff.walker import read_pages
from pipeline.recording.nwb.session import Column, Plane, Table, Trace
from schemas import dataset, imaging

UNIT_MEANINGS = {
    "unit_id": "Number of the unit in the scan",
    "y_px": "Center in the corrected mean image, down (px)",
    "x_px": "Center in the corrected mean image, right (px)",
    "area_px": "Pixels of the mask",
    "score": "Size of transients over noise (1)",
    "soma_probability": "That it is a cell body (1)",
    "coefficient": "Share of the neuropil that was in the raw trace (1)",
    "snr": "Size of transients over noise in the trace (1)",
    "noise": "Frame-to-frame noise (units of the trace)",
    "rise_s": "Time constant of the rise (s)",
    "decay_s": "Time constant of the decay (s)",
}
TRACE_MEANINGS = {
    "corrected": "Fluorescence without neuropil, not smoothed.",
    "raw": "Weighted mean of the pixels of the mask.",
    "neuropil": "Fluorescence of the surroundings.",
    "denoised": "Trace without its noise, as the deconvolver found it.",
    "activity": "Deconvolved activity.",
}
IMAGES = ("mean_image", "correlation_image", "max_image")


def chosen_recipe(key: Mapping[str, int], imaging_hash: str | None) -> dict[str, Any]:
    """Return the row of the imaging recipe of a scan.

    Raises
    ------
    DataError
        If the scan was not processed, or by several and none of them is named.
    """
    rows = (imaging.ImagingRecipe & (imaging.ImagingTask & key)).to_dicts(order_by="imaging_hash")
    known = [row["imaging_hash"] for row in rows]
    named = [row for row in rows if imaging_hash in (None, row["imaging_hash"])]
    if len(named) != 1:
        raise DataError(
            "not exactly one recipe of imaging",
            field="--imaging",
            found=imaging_hash or " and ".join(known) or "none",
            expected=f"one of {known}" if known else "a scan that is processed",
            remedy="name one with --imaging" if known else "run `inception loop SCAN`",
        )
    return named[0]


def fetch_planes(key: Mapping[str, int], recipe: Mapping[str, Any], movie: str) -> list[Plane]:
    """Return the fields of a scan with what its recipe has made of them so far.

    Parameters
    ----------
    key, recipe : mapping
        Of the scan, and a row of `imaging.ImagingRecipe`.
    movie : str
        `raw`, `link` or `none`; a scan that came as traces has no movie.
    """
    info = (imaging.ScanInfo & key).to_dicts()
    if not info:
        raise DataError(
            "files of the scan are not read yet",
            field="imaging.ScanInfo",
            remedy="run `inception worker --exit-when-idle`",
        )
    files = imaging.recording_files(dict(key))
    planes = []
    for field in (imaging.ScanInfo.Field & key).to_dicts(order_by="field"):
        size = (field["um_per_px_y"], field["um_per_px_x"])
        plane = Plane(
            index=field["field"],
            shape=(field["height_px"], field["width_px"]),
            um_per_px=None if None in size else size,
            center_um=(field["x_um"], field["y_um"], field["z_um"]),
            delay_s=field["delay_s"],
            line_period_s=field["line_period_s"],
            bidirectional=bool(info[0]["bidirectional"]),
        )
        if files["tiff"] and movie == "raw":
            plane.movie = imaging.field_movie(files, plane.index)
        elif files["tiff"] and movie == "link":
            plane.linked = _links([Path(path) for path, *_ in files["tiff"]], info[0]["n_frames"])
        of_field = {**{name: key[name] for name in key}, "field": plane.index}
        steps = {name: recipe[name] for name in recipe if name.endswith("_hash")}
        _fill(plane, {**of_field, **steps}, extracted=not files["tiff"])
        planes.append(plane)
    return planes


def _links(paths: list[Path], frames: int) -> list[tuple[Path, int]]:
    """Return files with the frame (volume) in which each begins."""
    if len(paths) == 1:
        return [(paths[0], 0)]
    first = np.concatenate([[0], np.cumsum([len(read_pages(path)) for path in paths])])
    return [(path, int(n * frames // first[-1])) for path, n in zip(paths, first[:-1], strict=True)]


def _fill(plane: Plane, key: dict[str, Any], *, extracted: bool) -> None:
    """Add what is computed of a field, as far as it is."""
    if not extracted:
        for row in (imaging.Motion * imaging.RasterPhase & key).to_dicts():
            plane.motion, plane.raster_px = row["shifts"].load(), row["raster_px"]
            if row["block_y_px"]:
                centers = row["block_y_px"], row["block_x_px"]
                plane.blocks = (row["block_shifts"].load(), *centers)
    for row in (imaging.SummaryImages & key).to_dicts():
        shown = IMAGES[:1] if extracted else IMAGES
        plane.images = {name: np.asarray(row[name].load()) for name in shown}
    for row in (imaging.Segmentation & key).to_dicts():
        parts = ("mask_start", "mask_pixel", "mask_weight")
        plane.masks = tuple(np.asarray(row[name].load()) for name in parts)
        plane.units = _units(key)
    for row in (imaging.Fluorescence & key).to_dicts():
        for name in ("corrected", "raw", "neuropil"):
            plane.traces[name] = _trace(name, row[name], "gray levels")
    for row in (imaging.Activity & key).to_dicts():
        plane.traces["denoised"] = _trace("denoised", row["denoised"], "gray levels")
        plane.traces["activity"] = _trace("activity", row["activity"], row["activity_unit"])


def _trace(name: str, reference: Any, unit: str) -> Trace:
    load = functools.partial(reference.load, mmap_mode="r")
    return Trace(load, unit, TRACE_MEANINGS[name])


def _units(key: dict[str, Any]) -> Table:
    """Return a row a unit: quality, and whether it is one of the responses."""
    rows = {row["unit_id"]: row for row in (imaging.Segmentation.Unit & key).to_dicts()}
    for part in (imaging.Fluorescence.Unit, imaging.Activity.Unit):
        for row in (part & key).to_dicts():
            rows[row["unit_id"]].update(row)
    ordered = [rows[unit] for unit in sorted(rows)]
    names = set().union(*(row for row in ordered)) if ordered else set(UNIT_MEANINGS)
    meanings = {name: text for name, text in UNIT_MEANINGS.items() if name in names}
    table = Table.of_rows("units", "", ordered, meanings)
    scan = {name: key[name] for name in (*imaging.ScanInfo.primary_key, "imaging_hash")}
    columns = dict(table.columns)
    for index, row in enumerate((dataset.Responses & scan).keys(order_by="response_hash")):
        kept = set((dataset.Responses.Unit & row).to_arrays("unit_id").tolist())
        limits = (dataset.ResponseTask & row).fetch1("min_soma_probability", "min_snr")
        name = "keep" if index == 0 else f"keep_{row['response_hash']}"
        columns[name] = Column(
            "It is one of the responses: probability of a soma at least "
            f"{limits[0]:g} and snr at least {limits[1]:g}, responses {row['response_hash']}",
            [unit in kept for unit in sorted(rows)],
        )
    return Table("units", "", columns)


def imaging_tables(key: Mapping[str, int], recipe: Mapping[str, Any]) -> list[Table]:
    """Return the methods of a recipe, and the quality of every field."""
    return [_methods(recipe), _quality(key, recipe), _findings(key, recipe), _motion(key, recipe)]


def _methods(recipe: Mapping[str, Any]) -> Table:
    rows = []
    for step, table in imaging.ImagingRecipe.steps.items():
        chosen = {f"{step}_hash": recipe[f"{step}_hash"]}
        method, params = table.stored_method(chosen)  # also one that is computed no more
        common = {"step": step, "method": method, "hash": recipe[f"{step}_hash"]}
        rows += [{**common, "parameter": n, "value": repr(v)} for n, v in sorted(params.items())]
        rows += [] if params else [common]
    meanings = {
        "step": "Step from frames to activity",
        "method": "Name of the method",
        "hash": "Hash of method and parameters",
        "parameter": "Name of a parameter",
        "value": "Its value",
    }
    text = f"Methods of the imaging recipe {recipe['imaging_hash']}."
    return Table.of_rows("imaging_methods", text, rows, meanings)


def _quality(key: Mapping[str, int], recipe: Mapping[str, Any]) -> Table:
    rows = (imaging.Quality & key & _steps(recipe)).to_dicts(order_by=("field", "quality_hash"))
    meanings = {
        "field": "Number of the field, from 0",
        "quality_hash": "Hash of the check and its limits",
        "fit": "Nothing is out of its limits",
        "mean_intensity": "Mean over pixels and frames (gray levels)",
        "contrast": "99th - 1st percentile, mean over frames (gray levels)",
        "intensity_drift": "Change over the scan, as a share of the mean (1)",
        "photon_gain": "Quantal size (gray levels per photon)",
        "zero_level": "Level without light (gray levels)",
        "photons": "Mean light (photons per pixel and frame)",
        "saturated": "Share of pixels at the ceiling (1)",
        "epileptiform_per_min": "Brief events of the whole field (1/min)",
    }
    return Table.of_rows("quality", "Whether the fields are fit for use.", rows, meanings)


def _findings(key: Mapping[str, int], recipe: Mapping[str, Any]) -> Table:
    found = imaging.Quality.Finding & key & _steps(recipe)
    meanings = {
        "field": "Number of the field, from 0",
        "finding": "Name of what is out of its limits",
        "value": "What was found",
        "allowed": "The limit",
        "meaning": "What it means, and what can be done",
    }
    rows = found.to_dicts(order_by=("field", "finding"))
    return Table.of_rows("quality_findings", "What was out of its limits.", rows, meanings)


def _motion(key: Mapping[str, int], recipe: Mapping[str, Any]) -> Table:
    rows = (imaging.Motion & key & _steps(recipe)).to_dicts(order_by="field")
    meanings = {
        "field": "Number of the field, from 0",
        "correlation_before": "Frames with the template, uncorrected (1)",
        "correlation_after": "Frames with the template, corrected (1)",
        "motion_rms_px": "Root mean square displacement (px)",
        "outlier_fraction": "Share of frames whose shift was not believed (1)",
        "worse_fraction": "Share of frames less like the others after correction (1)",
        "z_drift": "1 - lowest likeness to the first stretch over time (1)",
    }
    measured = [row for row in rows if row["motion_rms_px"] is not None]
    return Table.of_rows("motion_quality", "How the fields moved.", measured, meanings)


def _steps(recipe: Mapping[str, Any]) -> dict[str, str]:
    return {name: recipe[name] for name in ("raster_hash", "motion_hash")}
