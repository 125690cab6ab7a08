"""Frames of a movie and the rig's list of frame times brought together, by what both say.

A rig notes a pulse for every frame, the microscope numbers its frames and stamps their time. Frames
that were dropped, pulses that are spurious or missing, a file that is not there and a tail that was
cut off are told apart by these numbers: every frame gets the time of its own pulse, and what is
left over is said. Without numbers only lists of equal length are free of doubt.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError, Finding
from pipeline.imaging.adapters import open_source

FRAME_SLACK = 2  # frames by which a rig's list of times may differ from a movie without numbers
_SHORT = 0.5  # share of the usual interval below which a pulse is one too many
_RATE = 0.02  # by which the rig's rate may differ from that of the microscope's stamps
_FILLED = 0.05  # share of frames that may lack a pulse
_MOST_RATIO = 1000  # pulses in one frame (volume)


@dataclass
class TimedScan:
    """A movie with a time for its frames.

    Attributes
    ----------
    scan : Scan or SourceScan
        At the rate of its frame times.
    time_s : array, shape (frames,)
        Start of the frames (s, clock of the rig's list); shorter than the movie by the last frames
        that have no time.
    findings : list of Finding
        Of the movie and of the pairing.
    """

    scan: Any
    time_s: NDArray[np.float64]
    findings: list[Finding] = field(default_factory=list)


def open_timed(
    files: str | os.PathLike | Sequence[str | os.PathLike],
    times: NDArray[np.float64],
    *,
    file: str | os.PathLike,
    um_per_px: tuple[float, float] | None = None,
) -> TimedScan:
    """Open a movie and pair its frames with the rig's times.

    Parameters
    ----------
    files : path or sequence of paths
        As of `open_source`.
    times : array, shape (pulses,)
        Rising times (s) of the rig's list.
    file : path
        Of that list, for messages.
    um_per_px : tuple (y, x), optional

    Raises
    ------
    DataError
        If the movie cannot be opened, or its frames cannot be told to the times.
    """
    times = np.asarray(times, np.float64)
    if len(times) < 2:
        raise DataError("too few frame times", file=file, field="time_s", found=len(times))
    usual = float(np.median(np.diff(times)))
    scan = open_source(files, fps=1 / usual, um_per_px=um_per_px)
    paired, findings = pair_frames(scan, times, file=file)
    steps = np.diff(paired) if len(paired) > 1 else np.array([usual])
    period = float(np.median(steps))
    if abs(period / usual - 1) > 1e-3 and hasattr(scan, "at_rate"):  # a pulse for every page
        scan = scan.at_rate(1 / period)
    return TimedScan(scan, paired, [*getattr(scan, "findings", []), *findings])


def pair_frames(
    scan: Any, times: NDArray[np.float64], *, file: str | os.PathLike
) -> tuple[NDArray[np.float64], list[Finding]]:
    """Return the time of every frame of a scan, and what did not fit.

    Parameters
    ----------
    scan : Scan or SourceScan
    times : array, shape (pulses,)
        Rising times (s).
    file : path
        Of the times, for messages.

    Returns
    -------
    array, shape (frames,)
        Shorter than the movie by the last frames that have no time.
    list of Finding
    """
    if getattr(scan, "numbered", False):
        return _by_numbers(scan, times, Path(file))
    return pair_by_count(scan.n_frames, times, file=file)


def pair_by_count(
    n: int, times: NDArray[np.float64], *, file: str | os.PathLike
) -> tuple[NDArray[np.float64], list[Finding]]:
    """Return times of `n` frames without numbers, shape (<= n,), and what did not fit.

    Spurious pulses and gaps may explain a difference; else it may be `FRAME_SLACK`, and is said.

    Raises
    ------
    DataError
        If it is more than that.
    """
    file = Path(file)
    if len(times) == n:
        return times, []
    usual = float(np.median(np.diff(times)))
    plain = _without_short(times, usual)
    where = f"{file.name}: {len(times)} times for {n} frames"
    if len(plain) == n:
        text = f"{where}; {len(times) - n} pulses close behind another are taken for spurious"
        return plain, [Finding("frame-times-spurious", text)]
    gaps = np.rint(np.diff(times) / usual).astype(int) - 1
    missing = int(gaps[gaps > 0].sum())
    if 0 < n - len(times) == missing:
        places = np.concatenate([[0], np.cumsum(1 + np.maximum(gaps, 0))])
        filled = np.interp(np.arange(n), places, times)
        text = f"{where}; {missing} pulses are missing in gaps and were filled in evenly"
        return filled, [Finding("frame-times-filled", text)]
    if abs(len(times) - n) > FRAME_SLACK:
        raise DataError(
            "frame times do not fit the frames",
            file=file,
            found=f"{len(times)} times",
            expected=f"{n} frames (volumes) in the movie",
            remedy="send one time per complete frame, or the movie with the microscope's numbers",
        )
    left = "times" if len(times) > n else "frames"
    text = f"{where}; the last {abs(len(times) - n)} {left} are left out, as nothing says that one "
    text += "in mid-scan is the cause. If frames were dropped, all later ones are this much early"
    return times[:n], [Finding("frame-times-uneven", text)]


def _without_short(times: NDArray, usual: float) -> NDArray:
    """Remove of every two pulses too close the one without which the others are more even."""
    kept = times.tolist()
    index = 1
    while index < len(kept):
        if kept[index] - kept[index - 1] >= _SHORT * usual:
            index += 1
            continue
        before = kept[index - 2] if index > 1 else None
        after = kept[index + 1] if index + 1 < len(kept) else None
        odd = []
        for one, other in ((kept[index - 1], kept[index]), (kept[index], kept[index - 1])):
            ends = [abs(other - e) / usual for e in (before, after) if e is not None]
            odd.append((sum(abs(v - round(v)) + (v < _SHORT) for v in ends), one))
        kept.remove(min(odd)[1])
    return np.array(kept)


def _by_numbers(scan: Any, times: NDArray, file: Path) -> tuple[NDArray, list[Finding]]:
    usual = float(np.median(np.diff(times)))
    seconds, period = _microscope_time(scan, usual)
    ratio = _pulses_per_frame(scan, period, usual, file)
    scaled = seconds * (usual * ratio / period)  # in seconds of the rig, about
    runs = np.flatnonzero(np.r_[True, np.diff(scan.frame_run) != 0])
    index = _placed(scaled, runs, times, usual, int(scan.frame_place[0]) * ratio, file, scan)
    findings = []
    where = f"{file.name}: {len(times)} times for {scan.n_frames} frames"
    lacking = int((index < 0).sum())
    if lacking > max(FRAME_SLACK, _FILLED * scan.n_frames):
        raise DataError(
            "frame times do not fit the frames",
            file=file,
            found=f"{len(times)} times, of which {scan.n_frames - lacking} meet a frame",
            expected=f"one for each of {scan.n_frames} frames (volumes) in the movie",
            remedy="send one time per frame of the same scan; name only its files",
        )
    paired = _filled(index, scaled, runs, times)
    if ratio > 1:
        text = f"{where}; {ratio} pulses come with every frame (volume), the first is taken"
        findings.append(Finding("frame-times-per-page", text))
    if lacking:
        text = f"{where}; {lacking} frames have no pulse, their times were filled in evenly"
        findings.append(Finding("frame-times-filled", text))
    if ratio == 1:
        findings += _left_over(index, times, usual, where)
    return paired, findings


def _left_over(index: NDArray, times: NDArray, usual: float, where: str) -> list[Finding]:
    """Say which pulses belong to no frame."""
    used = np.zeros(len(times), bool)
    used[index[index >= 0]] = True
    free = np.flatnonzero(~used)
    if not len(free):
        return []
    last, first = index.max(), index[index >= 0].min()
    near = np.full(len(times), np.inf)
    near[1:] = np.diff(times)
    near[:-1] = np.minimum(near[:-1], np.diff(times))
    spurious = int((near[free] < _SHORT * usual).sum())
    parts = []
    if spurious:
        parts.append(f"{spurious} are spurious")
    tail = int(((free > last) & (near[free] >= _SHORT * usual)).sum())
    head = int(((free < first) & (near[free] >= _SHORT * usual)).sum())
    middle = len(free) - spurious - tail - head
    if middle:
        parts.append(f"{middle} are of frames that are missing in mid-scan")
    if head:
        parts.append(f"{head} come before the first frame")
    if tail:
        parts.append(f"{tail} come after the last frame")
    return [Finding("frame-times-left-over", f"{where}; of the others {', '.join(parts)}")]


def _microscope_time(scan: Any, usual: float) -> tuple[NDArray, float]:
    """Return when frames began by the microscope (s, from the start of each run), and the period.

    Without time stamps the places of the frames are counted at the rate of the rig.
    """
    place = np.asarray(scan.frame_place, np.float64)
    seconds = scan.frame_seconds
    if seconds is not None and len(seconds) > 2:
        same = np.diff(scan.frame_run) == 0
        gaps, steps = np.diff(seconds)[same], np.diff(place)[same]
        if len(gaps) and (gaps > 0).all() and (steps > 0).all():
            return np.asarray(seconds, np.float64), float(np.median(gaps / steps))
    nominal = 1 / scan.own_fps
    return place * nominal, nominal


def _pulses_per_frame(scan: Any, period: float, usual: float, file: Path) -> int:
    """Return how many of the rig's intervals a frame (volume) takes: 1, or one for every page."""
    ratio = period / usual
    whole = max(1, round(ratio))
    pages = scan.pages_per_frame * scan.layout.average
    allowed = {1, scan.pages_per_frame, scan.layout.average, pages, scan.layout.n_slices}
    if abs(ratio / whole - 1) <= _RATE and whole in allowed and whole <= _MOST_RATIO:
        return whole
    if scan.frame_seconds is None and abs(ratio - 1) <= 0.5:  # a header may be rounded, or wrong
        return 1
    raise DataError(
        "frame times run at another rate than the frames",
        file=file,
        field="time_s",
        found=f"{1 / usual:.6g} Hz",
        expected=f"{1 / period:.6g} Hz by the microscope",
        remedy="send one time per frame (volume), in seconds",
    )


def _placed(
    seconds: NDArray,
    runs: NDArray,
    times: NDArray,
    usual: float,
    start: int,
    file: Path,
    scan: Any,
) -> NDArray[np.int64]:
    """Return the number of the pulse of every frame; -1 for none.

    Frames are followed one by one: the next pulse is looked for where the last one and the time
    between the two frames lead, so that drift and pauses do not add up. The first frame may have
    any of the pulses near number `start`; another one than that has to fit better.
    """
    best: NDArray[np.int64] | None = None
    most, least = -1, np.inf
    for shift in sorted(range(-FRAME_SLACK, FRAME_SLACK + 1), key=abs):
        if start + shift >= len(times):
            continue
        found = _followed(seconds, runs, times, usual, start + shift)
        known = np.flatnonzero(found >= 0)
        steps = np.diff(seconds[known])
        uneven = np.abs(np.diff(times[found[known]]) - steps)[steps > 0]
        worst = float(uneven.max(initial=0))
        if len(known) > most or (len(known) == most and worst < least - 0.2 * usual):
            best, most, least = found, len(known), worst
        if most == len(seconds) and least < 0.2 * usual:
            break
    if best is None:
        raise DataError(
            "frame times end before the first frame",
            file=file,
            found=f"{len(times)} times",
            expected=f"more than {start}, for the first frame of {scan.files[0].name} is number "
            f"{start + 1}",
        )
    if most < len(seconds) == len(times) and start == 0 and len(runs) == 1:
        late = times - times[0] - (seconds - seconds[0])
        tenth = max(3, len(late) // 10)
        off = abs(float(np.median(late[-tenth:]) - np.median(late[:tenth])))
        if off < _SHORT * usual + 2e-4 * (times[-1] - times[0]):  # uneven, but one for each
            return np.arange(len(times))
    return best


def _followed(
    seconds: NDArray, runs: NDArray, times: NDArray, usual: float, begin: int
) -> NDArray[np.int64]:
    """Follow the frames from pulse `begin` on (it may lie before the first)."""
    index = np.full(len(seconds), -1, np.int64)
    is_start = np.zeros(len(seconds), bool)
    is_start[runs] = True
    at = times[begin] if begin >= 0 else times[0] + begin * usual
    pointer, last = max(0, begin), len(times) - 1
    for frame in range(len(seconds)):
        if frame:
            step = seconds[frame] - seconds[frame - 1]
            if is_start[frame] and step <= 0:  # the stamps begin again: so does the rig, later
                pointer = _next_run(times, pointer, usual)
                at = times[pointer] if pointer <= last else at + usual
            else:
                at += step
        while pointer < last and abs(times[pointer + 1] - at) <= abs(times[pointer] - at):
            pointer += 1
        if pointer <= last and abs(times[pointer] - at) < _SHORT * usual:
            index[frame] = pointer
            at = times[pointer]
    repeated = np.flatnonzero(np.diff(index[index >= 0]) <= 0)
    if len(repeated):
        good = np.flatnonzero(index >= 0)
        index[good[repeated + 1]] = -1
    return index


def _next_run(times: NDArray, pointer: int, usual: float) -> int:
    """Return the first pulse after the next pause; the next pulse if there is no pause."""
    gaps = np.flatnonzero(np.diff(times[pointer:]) > 1.5 * usual)
    return pointer + int(gaps[0]) + 1 if len(gaps) else pointer + 1


def _filled(index: NDArray, seconds: NDArray, runs: NDArray, times: NDArray) -> NDArray:
    """Return a time for every frame: of its pulse, else by the microscope's own between them."""
    result = np.empty(len(index))
    ends = [*runs[1:], len(index)]
    for low, high in zip(runs, ends, strict=True):
        here, own = index[low:high], seconds[low:high]
        known = here >= 0
        if not known.any():
            raise DataError(
                "an acquisition meets no frame time",
                found=f"frames {low}-{high}",
                remedy="list only the files of the acquisition that the times are of",
            )
        offset = times[here[known]] - own[known]
        result[low:high] = own + np.interp(own, own[known], offset)
        result[low:high][known] = times[here[known]]
    return result
