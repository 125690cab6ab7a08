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
_MOST = 10**10
_SLOWEST_HZ, _FASTEST_HZ = 1e-3, 1e5
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
    number, acquisition, within, time_s = (float(m[1]) if m else -1.0 for m in found)
    return (number, acquisition, within, time_s) if number >= 0 else NO_STAMP


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
    if not all(map(math.isfinite, values)) or min(values[:3]) < 0:
        return NO_PLACE
    channel, plane, frame, elapsed_ms = values
    return channel, plane, frame, elapsed_ms


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
    if stamps[:, :SECONDS].max() > _MOST or (number < 0).any():
        raise DataError(
            "numbers of the frames are impossible",
            file=files[0],
            field="frameNumbers",
            found=f"{number.min():.0f} to {stamps[:, :SECONDS].max():.0f}",
            expected=f"0 to {_MOST}",
        )
    rising = len(seconds) > 1 and (seconds >= 0).all() and (np.diff(seconds) > 0).all()
    if channels > 1 and not rising and (np.diff(number) == 1).all():
        return counted(len(number), channels, slices, written)  # a program that counts pages
    starts, run = _frames(number, acquisition)
    first = np.flatnonzero(starts)
    size = np.diff(np.append(first, len(number)))
    if size.max() > channels or np.median(size) != channels:
        raise DataError(
            "frame numbers contradict the saved channels of the header",
            file=files[file_of_page[0]],
            field="frameNumbers",
            found=f"{number[: 2 * channels + 2].astype(int).tolist()}",
            expected=f"{channels} pages of every number",
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
        if index is None and run[-1] == 0:  # a scan counts from 1
            place[here] += max(0, int((count[0] - 1) / _step(count, average)))
    volume, slot = place // written, place % written
    if average > 1 and written > 1 and _step(number[first], average) == 1:
        volume = volume // average  # whole volumes were averaged
    return _table(first, size, run, volume, slot, seconds, acquisition, slices, channels)


def _frames(number, acquisition) -> tuple[NDArray, NDArray]:
    """Return where a frame begins, and the run of each page."""
    changed = np.ones(len(number), bool)
    changed[1:] = (np.diff(number) != 0) | (np.diff(acquisition) != 0)
    begin = np.zeros(len(number), bool)
    begin[1:] = (np.diff(number) < 0) | (np.diff(acquisition) != 0)
    return changed, np.cumsum(begin)


def _step(count: NDArray, average: int) -> float:
    """Return by how much the number of a page grows: 1, or as many as were averaged."""
    if len(count) < 3:
        return float(average)
    usual = float(np.median(np.diff(count)))
    return usual if usual >= 1 else 1.0


def _table(first, size, run, volume, slot, seconds, acquisition, slices, channels) -> Arrangement:
    key = run * (int(volume.max()) + 2) + volume
    order, row = np.unique(key, return_inverse=True)
    table = np.full((len(order), slices, channels), -1, np.int64)
    whole = (size == channels) & (slot < slices)
    for channel in range(channels):
        table[row[whole], slot[whole], channel] = first[whole] + channel
    kept = (table >= 0).all(axis=(1, 2))
    runs = order // (int(volume.max()) + 2)
    places = order % (int(volume.max()) + 2)
    runs, places, table = runs[kept], places[kept], table[kept]
    if not len(table):
        return Arrangement(table, places, runs)
    numbers = [int(acquisition[first[run == which][0]]) for which in range(int(run[-1]) + 1)]
    stamp = seconds[table[:, 0, 0]] if (seconds >= 0).all() else None
    found = Arrangement(table, places, runs, numbers, stamp)
    if page_rate(found) is None:
        found.seconds = None
    found.place = _timed(found)
    found.findings = _missing(runs, found.place)
    return found


def _timed(found: Arrangement) -> NDArray[np.int64]:
    """Return the places of the frames, further apart where only their time stamps jump."""
    rate = page_rate(found)
    if rate is None or found.seconds is None:
        return found.place
    same = np.diff(found.run) == 0
    extra = np.diff(found.seconds) * rate - np.diff(found.place)
    if not (np.abs(extra) < _MOST).all():
        return found.place
    extra = np.where(same & (extra > 0.5), np.rint(extra), 0).astype(np.int64)
    later = np.concatenate([[0], np.cumsum(extra)])
    return found.place + later - later[np.searchsorted(found.run, found.run)]


def _missing(runs: NDArray, places: NDArray) -> list[Finding]:
    """Say how many frames are missing before the last one of every acquisition."""
    same = np.diff(runs) == 0
    gaps = np.where(same, np.diff(places) - 1, 0)
    first = int(places[0]) if runs[0] == 0 else 0
    lost = int(gaps.sum()) + first
    if not lost:
        return []
    at = "at the start" if first else f"first after frame {int(np.flatnonzero(gaps)[0])}"
    text = f"{lost} of {lost + len(places)} frames are missing by the numbers of the others, {at}; "
    return [Finding("frames-missing", text + "their places in time stay empty")]


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
    return 1 / period if _SLOWEST_HZ <= 1 / max(period, 1e-12) <= _FASTEST_HZ else None
