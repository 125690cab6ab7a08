"""An NWB file, of this program or of others, as a `Session`; h5py alone is needed."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import DataError
from pipeline.imaging.adapters.hdf5 import of_type, spacing_of, text
from pipeline.imaging.adapters.nwb_tables import check_claim, find_table
from pipeline.recording.nwb import session as names
from pipeline.recording.nwb.read_behavior import read_counts, read_pupil, read_speed
from pipeline.recording.nwb.read_rois import read_rois
from pipeline.recording.nwb.read_stimuli import read_stimuli
from pipeline.recording.nwb.session import Plane, Session, flat, nested
from pipeline.recording.nwb.timing import exact, series_times

if TYPE_CHECKING:
    import h5py

CHOICES = ("plane", "series", "rows_first", "images_rows_first", "intervals", "duration_s", "rois")
"""What a person may have to choose in a file of others: `nwb` of the entries."""


def read_session(file: h5py.File, path: Path, entries: Mapping[str, Any]) -> Session:
    """Understand an NWB file, or say in one line why not.

    Parameters
    ----------
    file : h5py.File
        Of `pipeline.imaging.adapters.hdf5.open_hdf5`, which refuses data outside of the file.
    path : path
        For messages.
    entries : mapping
        What a person says, as recording.json has it; it goes before what the file says. `nwb`
        holds choices: see `CHOICES`.

    Raises
    ------
    DataError
        File, field, what was found and expected, what to do.
    """
    choices = dict(entries.get("nwb", {}))
    unknown = sorted(set(choices) - set(CHOICES))
    if unknown:
        raise DataError("unknown choice", file=path, field=f"nwb.{unknown[0]}", expected=CHOICES)
    if "nwb_version" not in file.attrs:
        raise DataError("is no NWB file", file=path, field="nwb_version", expected="NWB 2")
    own = find_table(file, names.RECORDING, path)
    given = nested({**(_own(own, path) if own else _foreign(file)), **flat(entries)})
    given.pop("nwb", None)
    size = given.get("monitor", {})
    monitor = (size.get("height_px"), size.get("width_px"))
    planes, times = _imaging(file, path, choices, own=own is not None)
    images, trials = read_stimuli(file, path, choices, None if None in monitor else monitor)
    curve = find_table(file, names.MONITOR, path)
    return Session(
        entries=given,
        start=_start(file, path),
        frame_times=times,
        planes=planes,
        images=images,
        trials=trials,
        pupil=read_pupil(file, path),
        counts=read_counts(file, path),
        speed=read_speed(file, path),
        monitor=None if curve is None else (curve["pixel_value"], curve["luminance_cd_m2"]),
    )


def _own(table: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return the entries of recording.json that a file of this program holds, flat."""
    where: dict[str, Any] = {"file": path, "field": f"processing/misc/{names.RECORDING}"}
    if not {"entry", "value"} <= set(table):
        raise DataError(
            "columns are missing", **where, found=sorted(table), expected="entry, value"
        )
    try:
        return {
            name: json.loads(value)
            for name, value in zip(table["entry"], table["value"], strict=True)
        }
    except ValueError as error:
        raise DataError("is no JSON", **where, found=str(error)[:100]) from error


def _foreign(file: h5py.File) -> dict[str, Any]:
    """Return what the standard's own places say, flat; what they do not is left out."""
    found: dict[str, Any] = {}
    subject = text(_value(file, "general/subject/subject_id"))
    if re.fullmatch(r"\d{1,9}", subject):
        found["animal_id"] = int(subject)
    numbers = re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", text(_value(file, "general/session_id")))
    if numbers:
        found["session"] = int(numbers[1])
        found |= {"scan_idx": int(numbers[2])} if numbers[2] else {}
    planes = of_type(file, "ImagingPlane")
    if planes:
        first = planes[0]
        for entry, name in (("brain_area", "location"), ("indicator", "indicator")):
            if value := text(_value(first, name))[:32]:
                found[entry] = value
        if (size := spacing_of(first)) is not None:
            found["imaging.um_per_px"] = list(size)
    devices = sorted(file.get("general/devices", {}))
    if len(devices) == 1:
        found["rig"] = re.sub(r"[^\w .:/+()-]", "_", devices[0])[:64]
    return found


def _value(group: h5py.Group, name: str) -> Any:
    item = group.get(name)
    return item[()] if item is not None and getattr(item, "shape", None) == () else None


def _start(file: h5py.File, path: Path) -> datetime.datetime:
    """Return the local start of the session, without its zone as a recording has it."""
    said = text(_value(file, "session_start_time"))
    try:
        return datetime.datetime.fromisoformat(said).replace(tzinfo=None)
    except ValueError as error:
        raise DataError(
            "is no time",
            file=path,
            field="session_start_time",
            found=repr(said[:40]),
            expected="an ISO time",
        ) from error


def _imaging(
    file: h5py.File, path: Path, choices: Mapping[str, Any], *, own: bool
) -> tuple[list[Plane], np.ndarray]:
    """Return the movies that lie in the file, else the units of one field; and frame times (s)."""
    inside: list[h5py.Group] = []
    outside: list[h5py.Group] = []
    for series in of_type(file, "TwoPhotonSeries"):
        empty = "data" not in series or not series["data"].size
        (outside if empty or "external_file" in series else inside).append(series)
    if inside and not choices.get("rois"):
        return _movies(inside, path, choices)
    if not of_type(file, "RoiResponseSeries"):
        linked = [text(name) for s in outside for name in s.get("external_file", [])]
        raise DataError(
            "holds neither a movie nor responses of units",
            file=path,
            field="TwoPhotonSeries, RoiResponseSeries",
            found=f"links to {linked[:3]}, which are not followed" if linked else "none",
            expected="frames or traces in the file itself",
            remedy="copy the frames into the file, or `inception ingest` the linked recording",
        )
    return read_rois(file, path, choices, own=own)


def _movies(
    series: list[h5py.Group], path: Path, choices: Mapping[str, Any]
) -> tuple[list[Plane], np.ndarray]:
    for choice in ("series", "plane", "rows_first"):
        if choice in choices:
            raise DataError(
                "choice is for units, not for a movie",
                file=path,
                field=f"nwb.{choice}",
                found=choices[choice],
                remedy='add "rois": true to take the units, or leave it out',
            )
    planes: list[Plane] = []
    times = np.zeros(0)
    for index, item in enumerate(series):
        check_claim(item["data"], path)
        frames, x, y = item["data"].shape[:3]
        own = series_times(item, frames, path)
        if planes and (len(own) != len(times) or not np.allclose(own, times)):
            raise DataError(
                "series differ in their times",
                file=path,
                field=item.name,
                found=f"{len(own)} frames from {own[0]:g} s",
                expected=f"{len(times)} frames from {times[0]:g} s as {series[0].name}",
                remedy="ingest one file a scan",
            )
        times = times if planes else own
        planes.append(Plane(index, (y, x), movie=item["data"]))
    return planes, exact(series[0].file, "frames", times, path)
