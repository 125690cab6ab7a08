"""A `Session` into an NWB file (extra `nwb`)."""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pynwb
from hdmf.common import DynamicTable, VectorData

from pipeline.errors import DataError
from pipeline.files import written_whole
from pipeline.imaging.adapters.nwb_tables import FIELDS
from pipeline.recording.nwb import session as names
from pipeline.recording.nwb.session import Column, Session, Table, flat
from pipeline.recording.nwb.timing import exact_times
from pipeline.recording.nwb.write_behavior import add_behavior
from pipeline.recording.nwb.write_imaging import add_imaging, plain
from pipeline.recording.nwb.write_stimuli import add_stimuli

FILE_SAID = (
    "session_description",
    "experiment_description",
    "experimenter",
    "institution",
    "lab",
    "keywords",
    "related_publications",
    "protocol",
    "notes",
    "surgery",
    "virus",
    "pharmacology",
)
SUBJECT_SAID = ("sex", "species", "strain", "genotype", "age", "date_of_birth", "weight")
OPTICS_SAID = ("excitation_nm", "emission_nm", "location", "microscope", "manufacturer")
SAID = (*FILE_SAID, *SUBJECT_SAID, *OPTICS_SAID, "time_zone_hours")
"""What no row knows and a person may say; lists for experimenter, keywords and publications."""


def write_session(session: Session, path: str | os.PathLike) -> Path:
    """Write an NWB file, whole or not at all.

    Parameters
    ----------
    session : Session
        Movies are streamed; of each kind of trace one array at a time is in memory.
    path : path
        Ends in `.nwb`. An older file is replaced.

    Raises
    ------
    DataError
        If the name has another ending, or `said` has entries that are none of `SAID`.
    """
    path = Path(path)
    if path.suffix != ".nwb":
        raise DataError("is no name of an NWB file", file=path, expected="a name that ends in .nwb")
    check_said(session.said)
    file = pynwb.NWBFile(
        identifier=identifier(session),
        session_start_time=_start(session),
        session_id=_session_id(session),
        source_script="inception export",
        source_script_file_name="workers/commands/results.py",
        **_file_facts(session),
    )
    file.subject = pynwb.file.Subject(**_subject(session))
    misc = file.create_processing_module(
        name="misc", description="Tables of the inception pipeline: how the session came about."
    )
    own = (_entries_table(session), _fields_table(session), _monitor_table(session))
    for table in (*own, *_times(session), *session.tables):
        if len(table):
            misc.add(dynamic_table(table))
    with written_whole(path) as partial:
        add_imaging(file, session, path.parent)
        add_stimuli(file, session)
        add_behavior(file, session, path.parent)
        with pynwb.NWBHDF5IO(str(partial), "w") as io:
            io.write(file)
    return path


def check_said(said: Mapping[str, Any]) -> None:
    """Raise DataError for an entry that is none of `SAID`."""
    unknown = sorted(set(said) - set(SAID))
    if unknown:
        raise DataError(
            "unknown entry", field=unknown[0], found=said[unknown[0]], expected=f"one of {SAID}"
        )


def missing_facts(session: Session) -> list[str]:
    """Return entries of `SAID` that archives ask for, and that neither rows nor a person say."""
    asked = ["sex", "age", "experimenter", "institution", "excitation_nm", "emission_nm"]
    if session.entries.get("brain_area", "unknown") == "unknown":
        asked.append("location")
    known = {*session.said, *(["age"] if _subject(session).get("age") else [])}
    return [name for name in asked if name not in known]


def identifier(session: Session) -> str:
    """Return what names this scan: the same for every export of it."""
    entries = session.entries
    scan = "-".join(str(entries[name]) for name in ("animal_id", "session", "scan_idx"))
    return f"inception-{scan}-{session.start:%Y%m%dT%H%M%S}"


def _session_id(session: Session) -> str:
    return f"{session.entries['session']}-{session.entries['scan_idx']}"


def _start(session: Session) -> datetime.datetime:
    """Return the start with a zone: the one that was said, else UTC, which the file then notes."""
    hours = float(session.said.get("time_zone_hours", 0.0))
    zone = datetime.timezone(datetime.timedelta(hours=hours))
    return session.start.replace(tzinfo=zone)


def _file_facts(session: Session) -> dict[str, Any]:
    entries = session.entries
    scan = "/".join(str(entries[name]) for name in ("animal_id", "session", "scan_idx"))
    notes = "Times are seconds on the rig's clock, taken to be 0 at session_start_time."
    if "time_zone_hours" not in session.said:
        notes += " session_start_time is the rig's local time; its zone is unknown, UTC is written."
    facts: dict[str, Any] = {
        "session_description": f"Two-photon scan {scan} during images on a monitor.",
        "experiment_description": "Inception loop: responses of neurons to natural images train "
        "a model, images synthesized by it are shown to the same neurons (Walker et al. 2019).",
        "keywords": ["two-photon calcium imaging", "visual cortex", "most exciting inputs"],
    }
    facts |= {name: session.said[name] for name in FILE_SAID if name in session.said}
    facts["notes"] = " ".join([notes, *([facts["notes"]] if "notes" in facts else [])])
    return facts


def _subject(session: Session) -> dict[str, Any]:
    """Return what is known of the animal; its sex is said to be unknown, its age left out."""
    known = {
        "subject_id": str(session.entries["animal_id"]),
        "species": "Mus musculus",
        "sex": "U",
        **{name: session.entries.get(name) for name in ("genotype", "date_of_birth")},
        **{name: session.said[name] for name in SUBJECT_SAID if name in session.said},
    }
    born = known["date_of_birth"]
    if born is not None:
        day = datetime.date.fromisoformat(str(born)[:10])
        start = _start(session)
        known["date_of_birth"] = datetime.datetime.combine(day, datetime.time(), start.tzinfo)
        known.setdefault("age", f"P{(start.date() - day).days}D")
    return {name: value for name, value in known.items() if value not in (None, "")}


def _entries_table(session: Session) -> Table:
    own = {k: v for k, v in session.entries.items() if k not in ("genotype", "date_of_birth")}
    entries = {"format": "inception-recording/1", **flat(own)}
    return Table(
        names.RECORDING,
        "Entries of the recording, as recording.json of docs/formats.md has them.",
        {
            "entry": Column("Name of the entry", list(entries)),
            "value": Column("Its value, as JSON", [text_of(value) for value in entries.values()]),
        },
    )


def _times(session: Session) -> list[Table]:
    streams = {"frames": session.frame_times}
    for name in ("pupil", "counts", "speed"):
        samples = getattr(session, name)
        if samples is not None and len(samples):
            streams[name] = samples[:, 0]
    return [exact_times(name, times) for name, times in streams.items()]


def _fields_table(session: Session) -> Table:
    planes = session.planes
    sizes = [plane.um_per_px or (None, None) for plane in planes]
    columns = {
        "field": Column("Number of the field, from 0", [p.index for p in planes]),
        "height_px": Column("Rows (px)", [p.shape[0] for p in planes]),
        "width_px": Column("Columns (px)", [p.shape[1] for p in planes]),
        "um_per_px_y": Column("Height of a pixel (um)", [size[0] for size in sizes]),
        "um_per_px_x": Column("Width of a pixel (um)", [size[1] for size in sizes]),
        "x_um": Column("Center, right positive (um)", [p.center_um[0] for p in planes]),
        "y_um": Column("Center, down positive (um)", [p.center_um[1] for p in planes]),
        "z_um": Column("Depth (um)", [p.center_um[2] for p in planes]),
        "delay_s": Column(
            "Middle line after the start of the frame (s)", [p.delay_s for p in planes]
        ),
        "line_period_s": Column("From a line to the next (s)", [p.line_period_s for p in planes]),
        "bidirectional": Column("Rows alternate in direction", [p.bidirectional for p in planes]),
    }
    return Table(FIELDS, "What the fields are, in the coordinates of the scan.", columns)


def _monitor_table(session: Session) -> Table:
    none = np.zeros(0)
    gray, luminance = (none, none) if session.monitor is None else session.monitor
    columns = {
        "pixel_value": Column("Gray level, 0 to 255", gray),
        "luminance_cd_m2": Column("Measured luminance (cd/m2)", luminance),
    }
    return Table(names.MONITOR, "The measured curve of the monitor.", columns)


def text_of(value: Any) -> str:
    """Return a number, a text or a list of them as JSON."""
    return json.dumps(value, default=str)


def dynamic_table(table: Table) -> DynamicTable:
    """Return a table as pynwb has it, without columns of which nothing is known.

    None is NaN in a column of numbers, and "" in one of text.
    """
    return DynamicTable(
        name=table.name,
        description=table.meaning,
        columns=[
            VectorData(name=name, description=column.meaning, data=plain(column.values))
            for name, column in table.known().items()
        ],
    )
