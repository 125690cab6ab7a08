"""Numbers and times that a microscope writes into every page, and the frames that they make.

ScanImage numbers its frames and says when each began and to which acquisition it belongs. Pages are
put into frames and volumes by these numbers, never by counting: a dropped frame, an aborted volume
and a file that is not there leave their own place empty and shift nothing.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError, Finding

NUMBER, ACQUISITION, WITHIN, SECONDS = range(4)
NO_STAMP = (-1.0, -1.0, -1.0, -1.0)
NO_PLACE = (-1.0, -1.0, -1.0, -1.0)
_NAMES = (
    r"(?:frameNumbers?|Frame Number)",
    r"acquisitionNumbers?",
    r"frameNumberAcquisition",
    r"(?:frameTimestamps?_sec|Frame Timestamp\(s\))",
)
_VALUE = r'"?[ \t]{0,8}[=:][ \t]{0,8}\[?(-?\d{1,18}(?:\.\d{0,18})?(?:[eE][-+]?\d{1,3})?)'
_STAMPS = [re.compile(r'(?:^|[\n\r{,"])[ \t"]{0,8}' + name + _VALUE) for name in _NAMES]


def page_stamp(text: str) -> tuple[float, float, float, float]:
    """Return number, acquisition, number within it and time (s) of a page; -1 where not said."""
    if "rame" not in text:
        return NO_STAMP
    found = (pattern.search(text) for pattern in _STAMPS)
    values = tuple(float(match[1]) if match else -1.0 for match in found)
    return values if values[NUMBER] >= 0 else NO_STAMP


def page_place(text: str) -> tuple[float, float, float, float]:
    """Return channel, slice, frame and elapsed time (ms) of a page of Micro-Manager."""
    try:
        said = json.loads(text)
        names = (
            ("ChannelIndex", "Channel"),
            ("SliceIndex", "Slice"),
            ("FrameIndex", "Frame"),
            ("ElapsedTime-ms", ""),
        )
        values = []
        for name, other in names:
            value = said.get(name, said.get(other, -1))
            values.append(float(value) if isinstance(value, (int, float)) else -1.0)
    except (ValueError, TypeError, AttributeError, RecursionError, OverflowError):
        return NO_PLACE
    return tuple(values) if all(map(math.isfinite, values)) and min(values[:3]) >= 0 else NO_PLACE


@dataclass
class Arrangement:
    """Which page is which frame, slice and channel.

    Attributes
    ----------
    table : array of int64, shape (frames, slices, channels)
        Number of the page, counted over all files.
    place : array of int64, shape (frames,)
        Place of each frame (volume) in its acquisition, from 0; one that is missing is left out.
    run : array of int64, shape (frames,)
        Acquisition that the frame belongs to, from 0.
    acquisitions : list of int
        Number of each run as the microscope wrote it.
    seconds : array, shape (frames,), or None
        Time stamp of the first page of each frame (s); None if none was written.
    findings : list of Finding
    """

    table: NDArray[np.int64]
    place: NDArray[np.int64]
    run: NDArray[np.int64]
    acquisitions: list[int] = field(default_factory=lambda: [1])
    seconds: NDArray[np.float64] | None = None
    findings: list[Finding] = field(default_factory=list)


def counted(n_pages: int, channels: int, slices: int, written: int) -> Arrangement:
    """Arrange pages that run through channels, then slices (and flyback), then time."""
    frames = n_pages // (channels * written)
    whole = np.arange(frames * written * channels, dtype=np.int64)
    table = whole.reshape(frames, written, channels)[:, :slices]
    return Arrangement(table, np.arange(frames), np.zeros(frames, np.int64))


def numbered(
    stamps: NDArray[np.float64],
    file_of_page: NDArray[np.int64],
    *,
    channels: int,
    slices: int,
    written: int,
    average: int,
    files: list,
) -> Arrangement:
    """Arrange pages by the numbers that ScanImage wrote into them.

    Parameters
    ----------
    stamps : array, shape (pages, 4)
        Of all files in order, as of `page_stamp`.
    file_of_page : array, shape (pages,)
    channels, slices, written : int
        Saved channels; slices of a volume that are data, and that are written.
    average : int
        Frames that were averaged into one page.
    files : list of Path
        For messages.

    Raises
    ------
    DataError
        If the numbers contradict the header.
    """
    number, acquisition, within, seconds = stamps.T
    if channels > 1 and len(number) > 1 and (np.diff(number) == 1).all():
        return counted(len(number), channels, slices, written)  # a program that counts pages
    starts, run = _frames(number, acquisition, channels)
    first = np.flatnonzero(starts)
    size = np.diff(np.append(first, len(number)))
    findings: list[Finding] = []
    if channels == 1 and len(first) < len(number):
        raise DataError(
            "pages come in groups of one frame number, but the header names one channel",
            file=files[file_of_page[0]],
            field="frameNumbers",
            found=f"{number[:4].astype(int).tolist()}",
            remedy="the header is not of these pages: export the scan again",
        )
    run = run[first]
    index = within[first] if (within >= 1).all() else None
    place = np.empty(len(first), np.int64)
    for which in range(int(run[-1]) + 1):
        here = np.flatnonzero(run == which)
        count = number[first][here] if index is None else index[here]
        zero = 1.0 if index is not None else count[0] - (count[0] - 1) % average
        place[here] = np.floor((count - zero) / _step(count, average)).astype(np.int64)
        if which == 0 and index is None and written > 1:  # a scan counts from 1
            whole = int(count[0] - 1) // average
            place[here] += whole if len(set(run)) == 1 else 0
    volume, slot = place // written, place % written
    return _table(
        first, size, run, volume, slot, seconds, acquisition, slices, channels, written, findings
    )


def _frames(number, acquisition, channels) -> tuple[NDArray, NDArray]:
    """Return where a frame begins, and the run of each page."""
    changed = np.ones(len(number), bool)
    changed[1:] = (np.diff(number) != 0) | (np.diff(acquisition) != 0)
    begin = np.zeros(len(number), bool)
    begin[0] = True
    begin[1:] = (np.diff(number) < 0) | (np.diff(acquisition) != 0)
    last = np.maximum.accumulate(np.where(changed, np.arange(len(number)), 0))
    more = (np.arange(len(number)) - last) % channels == 0
    again = more & ~changed  # the same number once more: another acquisition of one frame each
    if channels > 1:
        begin |= again
        changed |= again
    return changed, np.cumsum(begin) - 1


def _step(count: NDArray, average: int) -> float:
    """Return by how much the number of a page grows: 1, or as many as were averaged."""
    if len(count) < 3:
        return float(average)
    usual = float(np.median(np.diff(count)))
    return usual if usual >= 1 else 1.0


def _table(
    first, size, run, volume, slot, seconds, acquisition, slices, channels, written, findings
) -> Arrangement:
    key = run * (int(volume.max()) + 2) + volume
    order, row = np.unique(key, return_inverse=True)
    table = np.full((len(order), slices, channels), -1, np.int64)
    whole = (size == channels) & (slot < slices)
    for channel in range(channels):
        table[row[whole], slot[whole], channel] = first[whole] + channel
    kept = (table >= 0).all(axis=(1, 2))
    runs = order // (int(volume.max()) + 2)
    places = order % (int(volume.max()) + 2)
    last = np.r_[runs[1:] != runs[:-1], True]
    lost = int((~kept & ~last).sum())
    if lost:
        word = "volumes" if written > 1 else "frames"
        text = f"{lost} {word} in mid-scan lack a page and are left out"
        findings.append(Finding("frames-missing", text))
    runs, places, table = runs[kept], places[kept], table[kept]
    numbers = [int(acquisition[first[run == which][0]]) for which in range(int(run[-1]) + 1)]
    stamp = seconds[table[:, 0, 0]] if len(table) and (seconds >= 0).all() else None
    return Arrangement(table, places, runs, numbers, stamp, findings)


def page_rate(found: Arrangement) -> float | None:
    """Return frames (volumes) per second by the time stamps (Hz); None if they do not say."""
    if found.seconds is None or len(found.seconds) < 3:
        return None
    same = np.diff(found.run) == 0
    steps = np.diff(found.place)[same]
    gaps = np.diff(found.seconds)[same]
    if not len(gaps) or (gaps <= 0).any() or (steps <= 0).any():
        return None
    period = float(np.median(gaps / steps))
    return 1 / period if period > 0 else None
