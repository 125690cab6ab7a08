"""Files that microscopes write beside their TIFFs: Bruker's Prairie View, and ThorImage."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.errors import DataError, Finding
from pipeline.imaging.tiff.described import Description, in_um
from pipeline.imaging.tiff.ome import read_xml
from pipeline.imaging.tiff.pages import TiffPages

_PRAIRIE = re.compile(
    r"(.{1,200})_Cycle(\d{1,9})_(?:.{0,40}_)?Ch(\d{1,3})_(\d{1,9})\.(?:ome\.)?tiff?$"
)
_MOST_BYTES = 1 << 28


def is_prairie(pages: Sequence[TiffPages]) -> bool:
    """Return whether the files have the names of Prairie View."""
    return all(_PRAIRIE.match(page.path.name) for page in pages)


def _read(path: Path, most: int = _MOST_BYTES):
    if path.stat().st_size > most:
        raise DataError("file is too large", file=path, expected=f"at most {most} bytes")
    try:
        return read_xml(path.read_text(encoding="utf-8-sig", errors="replace"), path)
    except OSError as error:
        raise DataError("cannot be read", file=path, found=error.strerror) from error


def describe_prairie(pages: Sequence[TiffPages]) -> Description:
    """Return what Prairie View's XML, or else the names, say of the pages.

    A sequence of planes is one volume; a sequence of time points is a movie of one plane.

    Raises
    ------
    DataError
        If the XML is damaged, or the files do not make whole volumes.
    """
    named = [_PRAIRIE.match(page.path.name) for page in pages]
    stems = {match[1] for match in named if match}
    first = pages[0].path
    if len(stems) != 1:
        raise DataError(
            "files are of several Prairie View recordings",
            file=first,
            found=sorted(stems)[:3],
            expected="one",
            remedy="list the files of one",
        )
    start = np.concatenate([[0], np.cumsum([len(page) for page in pages])])
    number = {page.path.name: int(start[i]) for i, page in enumerate(pages)}
    beside = first.with_name(f"{stems.pop()}.xml")
    if beside.is_file():
        return _by_xml(_read(beside), beside, pages, number)
    return _by_name(pages, named, start)


def _by_name(pages: Sequence[TiffPages], named, start) -> Description:
    """Place single-page files by cycle, channel and index."""
    if any(len(page) != 1 for page in pages):
        raise DataError(
            "Prairie View's XML is missing",
            file=pages[0].path,
            remedy="copy the .xml beside the TIFFs",
        )
    keys = [(int(m[2]), int(m[4]), int(m[3])) for m in named]
    cycles, planes, channels = (sorted({key[i] for key in keys}) for i in range(3))
    if len(cycles) == 1:  # one sequence: its index is time
        keys = [(index, 1, channel) for _, index, channel in keys]
        cycles, planes = planes, [1]
    where = [{value: i for i, value in enumerate(axis)} for axis in (planes, channels)]
    low = cycles[0]
    if (cycles[-1] - low + 1) * len(planes) * len(channels) > 4 * len(pages) + 64:
        raise DataError("most files are missing", file=pages[0].path, found=f"{len(pages)} files")
    table = np.full((cycles[-1] - low + 1, len(planes), len(channels)), -1, np.int64)
    for page, (cycle, plane, channel) in enumerate(keys):
        table[cycle - low, where[0][plane], where[1][channel]] = start[page]
    return Description(table, channels=channels, findings=_gaps(table, pages[0].path))


def _gaps(table, file: Path) -> list[Finding]:
    missing = int((table < 0).any(axis=(1, 2)).sum())
    if not missing:
        return []
    return [Finding("frames-missing", f"{file.name}: {missing} of {len(table)} frames lack a file")]


def _by_xml(root, beside: Path, pages: Sequence[TiffPages], number: dict[str, int]) -> Description:
    rows: list[dict[tuple[int, int], int]] = []
    times: list[float] = []
    depths: dict[int, float] = {}
    volumes = 0
    for sequence in root.iter("Sequence"):
        frames = list(sequence.iter("Frame"))
        volumetric = "ZSeries" in sequence.get("type", "") and len(frames) > 1
        volumes += volumetric
        row: dict[tuple[int, int], int] = {}
        for plane, frame in enumerate(frames):
            if not volumetric:
                row = {}
                plane = 0
            if plane == 0:
                times.append(_number(frame.get("relativeTime")))
                rows.append(row)
            for file in frame.iter("File"):
                name = Path(file.get("filename", "").replace("\\", "/")).name
                page = _number(file.get("page")) if file.get("page") else 1
                channel = _number(file.get("channel"))
                if name in number and page >= 1 and channel >= 0:
                    row[(plane, int(channel))] = number[name] + int(page) - 1
            depth = _depth(frame)
            if depth is not None:
                depths.setdefault(plane, depth)
    total = sum(len(page) for page in pages)
    placed = {page for row in rows for page in row.values()}
    if len(placed) != total or max(placed, default=0) >= total:
        raise DataError(
            "Prairie View's XML does not fit the files",
            file=beside,
            found=f"{len(placed)} of {total} pages are named in it",
            remedy="copy the .xml of this recording beside the TIFFs",
        )
    used = [i for i, row in enumerate(rows) if row]
    rows, times = rows[used[0] : used[-1] + 1], times[used[0] : used[-1] + 1]
    planes = 1 + max(plane for row in rows for plane, _ in row)
    channels = sorted({channel for row in rows for _, channel in row})
    table = np.full((len(rows), planes, len(channels)), -1, np.int64)
    for index, row in enumerate(rows):
        for (plane, channel), page in row.items():
            table[index, plane, channels.index(channel)] = page
    state = {v.get("key"): v for v in root.iterfind("PVStateShard/PVStateValue")}
    axes = {v.get("index"): v.get("value") for v in state.get("micronsPerPixel", ())}
    across, down = (in_um(axes.get(f"{axis}Axis"), "um") for axis in "XY")
    shards = [v for frame in root.iter("Frame") for v in frame.iter("PVStateValue")][:64]
    own = {v.get("key"): v.get("value") for v in shards}

    def said(name: str) -> str | None:
        general = state.get(name)
        return own.get(name) or (None if general is None else general.get("value"))

    return Description(
        table,
        fps=_rate(times),
        um_per_px=(down, across) if across and down else None,
        channels=channels,
        depths_um=[depths.get(i, 0.0) for i in range(planes)] if depths else None,
        line_period_s=_positive(said("scanLinePeriod")),
        frame_period_s=_positive(said("framePeriod")),
        bidirectional=said("activeMode") != "Galvo",
        is_stack=volumes > 0 and len(rows) == 1,
        findings=_gaps(table, beside),
    )


def _number(text: str | None) -> float:
    try:
        value = float(text or "")
    except ValueError:
        return -1.0
    return value if abs(value) < 1e12 else -1.0


def _positive(text: str | None) -> float | None:
    value = _number(text)
    return value if value > 0 else None


def _rate(times: list[float]) -> float | None:
    """Return volumes per second by the times of the first planes (Hz)."""
    gaps = np.diff(times)
    gaps = gaps[gaps > 0]
    return 1 / float(np.median(gaps)) if len(gaps) else None


def _depth(frame) -> float | None:
    """Return the depth of the device that moves last (um)."""
    for value in frame.iter("SubindexedValues"):
        if value.get("index") == "ZAxis":
            found = list(value)
            try:
                return float(found[-1].get("value")) if found else None
            except (TypeError, ValueError):
                return None
    return None


def thor_rate(pages: Sequence[TiffPages], slices: int) -> float | None:
    """Return volumes per second by ThorImage's Experiment.xml beside the files (Hz)."""
    beside = pages[0].path.with_name("Experiment.xml")
    if not beside.is_file():
        return None
    root = _read(beside)
    if root.tag != "ThorImageExperiment":
        return None
    lsm, streaming = root.find("LSM"), root.find("Streaming")
    rate = _positive(lsm.get("frameRate")) if lsm is not None else None
    if rate is None:
        return None
    if lsm.get("averageMode") == "1":
        rate /= max(1.0, _number(lsm.get("averageNum")))
    if slices > 1:
        back = _number(streaming.get("flybackFrames")) if streaming is not None else 0.0
        rate /= slices + max(0.0, back)
    return rate
