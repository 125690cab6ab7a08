"""A stretch of one cell's trace and activity, and the images on the monitor meanwhile."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.errors import DataError
from workers.report.context import LoopPage
from workers.steering import trace as steering
from workers.web.queries.cells import unit_key

POINTS = 1500  # of a line, at most: more than a screen has columns
IMAGES = 200  # of a stretch, at most


def trace(page: LoopPage, unit_id: int, start_s: float, span_s: float) -> dict[str, Any]:
    """Return what a cell did in a stretch of its recording.

    Parameters
    ----------
    page : LoopPage
    unit_id : int
    start_s, span_s : float
        Where it begins, after the cell's first frame, and how long it is (s).

    Returns
    -------
    dict
        `start_s, span_s, duration_s`; `time` (s after the first frame), and as long as it
        `fluorescence`, `denoised`, `activity`; `unit`, of activity; `images`: `[on, off, hash]` of
        each, with `more` left out.

    Raises
    ------
    DataError
        If there are no traces or times yet.
    """
    if page.imaging is None:
        raise DataError("traces are not computed yet", field="unit", found=unit_id)
    found = steering.trace(unit_key(page, unit_id), imaging_hash=page.imaging["imaging_hash"])
    count, zero = len(found.time_s), float(found.time_s[0])
    duration = float(found.time_s[-1]) - zero
    span = float(np.clip(span_s, 1, max(duration, 1)))
    start = float(np.clip(start_s, 0, max(duration - span, 0)))
    first, last = np.searchsorted(found.time_s, [zero + start, zero + start + span])
    chosen = spread(int(first), int(min(last + 1, count)))
    shown = images(found.trials, zero, start, start + span)
    lines = {name: getattr(found, name) for name in ("fluorescence", "denoised", "activity")}
    return {
        "start_s": round(start, 2),
        "span_s": round(span, 2),
        "duration_s": round(duration, 2),
        "unit": found.activity_unit,
        "time": numbers(found.time_s[chosen] - zero),
        **{name: numbers(peaks(line, chosen, count)) for name, line in lines.items()},
        "images": shown[:IMAGES],
        "more": max(0, len(shown) - IMAGES),
    }


def spread(first: int, last: int) -> NDArray[np.int64]:
    """Return the frames of a stretch that are drawn: all, or evenly spread ones."""
    step = max(1, -(-(last - first) // POINTS))
    return np.arange(first, max(last, first + 1), step)


def peaks(line: NDArray, chosen: NDArray[np.int64], count: int) -> NDArray:
    """Return the largest value between each of some frames and the next: transients stay."""
    step = int(chosen[1] - chosen[0]) if len(chosen) > 1 else 1
    part = np.asarray(line[chosen[0] : min(chosen[-1] + step, count)])
    return np.maximum.reduceat(part, chosen - chosen[0]) if len(part) else part


def numbers(values: NDArray) -> list[float | None]:
    """Return numbers that JSON knows, of four digits."""
    return [float(f"{value:.5g}") if np.isfinite(value) else None for value in values.tolist()]


def images(trials: pd.DataFrame, zero: float, start: float, stop: float) -> list[list[Any]]:
    """Return when which image was on between two times (s after the first frame)."""
    on, off = trials["on_s"] - zero, trials["off_s"] - zero
    here = (off > start) & (on < stop)
    return [
        [round(float(begin), 2), round(float(end), 2), name]
        for begin, end, name in zip(on[here], off[here], trials["image_hash"][here], strict=True)
    ]
