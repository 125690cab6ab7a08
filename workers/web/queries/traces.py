"""A stretch of one cell's trace and activity, and the images on the monitor meanwhile."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError
from schemas import behavior, imaging, stimulus
from workers.report.context import LoopPage
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
        Where it begins, after the first frame, and how long it is (s).

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
    key = unit_key(page, unit_id)
    segmentation = {name: key[name] for name in imaging.Segmentation.primary_key}
    recipe = imaging.ImagingRecipe & page.imaging
    rows = (imaging.Activity & segmentation & recipe).to_dicts()
    times = (behavior.Sync & page.scan).to_dicts()
    if not rows or not times:
        raise DataError("traces are not computed yet", field="unit", found=unit_id)
    row = imaging.Segmentation.fetch_units(segmentation).index(unit_id)
    frame_times = times[0]["frame_times"].load(mmap_mode="r")
    corrected = (imaging.Fluorescence & segmentation & recipe).fetch1("corrected")
    lines = {
        "fluorescence": corrected.load(mmap_mode="r")[row],
        "denoised": rows[0]["denoised"].load(mmap_mode="r")[row],
        "activity": rows[0]["activity"].load(mmap_mode="r")[row],
    }
    count = min(len(frame_times), *(len(line) for line in lines.values()))
    zero = float(frame_times[0])
    duration = float(frame_times[count - 1]) - zero
    span = float(np.clip(span_s, 1, max(duration, 1)))
    start = float(np.clip(start_s, 0, max(duration - span, 0)))
    first, last = np.searchsorted(frame_times[:count], [zero + start, zero + start + span])
    chosen = spread(int(first), int(min(last + 1, count)))
    shown = images(page, times[0], zero, start, start + span)
    return {
        "start_s": round(start, 2),
        "span_s": round(span, 2),
        "duration_s": round(duration, 2),
        "unit": rows[0]["activity_unit"],
        "time": numbers(np.asarray(frame_times)[chosen] - zero),
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


def images(
    page: LoopPage, sync: dict[str, Any], zero: float, start: float, stop: float
) -> list[list[Any]]:
    """Return when which image was on between two times (s after the first frame)."""
    times = sync["trial_times"].load()
    index = (stimulus.Trial & page.scan).to_arrays("trial_idx", order_by="trial_idx")
    on, off = times[:, 0] - zero, times[:, 1] - zero
    rows = np.flatnonzero((off > start) & (on < stop))
    if not len(rows):
        return []
    wanted = [int(index[row]) for row in rows]
    between = f"trial_idx >= {min(wanted)} AND trial_idx <= {max(wanted)}"
    names = {
        row["trial_idx"]: row["image_hash"]
        for row in (stimulus.Trial & page.scan & between).to_dicts()
    }
    return [
        [round(float(on[row]), 2), round(float(off[row]), 2), names[number]]
        for row, number in zip(rows, wanted, strict=True)
    ]
