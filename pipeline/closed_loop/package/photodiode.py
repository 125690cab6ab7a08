"""The square in the corner of the monitor: what a photodiode should see, and whether it did."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from pipeline.closed_loop.package.flips import find_steps, is_trace, lags, nearest
from pipeline.csvfile import read_columns
from pipeline.errors import DataError, Finding

LEVELS = {"blank": 0, "image_of_even_trial": 255, "image_of_odd_trial": 128}
BRIGHT = 0.75  # of the range: above is white; a gamma of 2.2 puts gray 128 at 0.22
DARK = 0.08


def expected_pattern(trials: pd.DataFrame) -> pd.DataFrame:
    """Return what the square shows, one row a trial: `trial_idx, pixel_value`.

    Black between the trials, so that every image begins and ends with a flip.
    """
    odd = trials["trial_idx"].to_numpy(np.int64) % 2 == 1
    levels = np.where(odd, LEVELS["image_of_odd_trial"], LEVELS["image_of_even_trial"])
    return pd.DataFrame({"trial_idx": trials["trial_idx"].to_numpy(), "pixel_value": levels})


@dataclass(frozen=True)
class Flips:
    """What the photodiode says of every shown trial; arrays of shape (trials,).

    Attributes
    ----------
    seen : array of bool
        A flip to the trial's level near its onset.
    delay_s : array
        Flip minus logged onset; NaN where none was seen.
    n_unexplained : int
        Flips to an image's level that belong to no trial.
    lag_s : float
        By how much the flips are later than the logged onsets, all of them together.
    findings : list of Finding
        What was found beside that: a diode of the other polarity, another clock.
    """

    seen: NDArray[np.bool_]
    delay_s: NDArray[np.float64]
    n_unexplained: int
    lag_s: float = 0.0
    findings: list[Finding] = field(default_factory=list)

    @property
    def middle_s(self) -> float:
        """Median of the delays; 0 if no flip was seen."""
        return float(np.nanmedian(self.delay_s)) if self.seen.any() else 0.0


def read_flips(path: str | Path) -> pd.DataFrame:
    """Read photodiode.csv: `time_s, level` of every change, or a sampled trace.

    Raises
    ------
    DataError
        If a column is missing, a value is no number, or times do not increase.
    """
    return pd.DataFrame(read_columns(path, ["time_s", "level"], rising="time_s"))


def check_flips(
    time_s: ArrayLike,
    level: ArrayLike,
    trial_idx: ArrayLike,
    onset_s: ArrayLike,
    *,
    tolerance_s: float = 0.05,
) -> Flips:
    """Find every trial's flip in a photodiode's log, or in its sampled trace.

    The three levels are medians over flips, so that one flash of light costs nothing. A lag that
    all trials share is estimated first. If it explains less than half of the trials, the other
    polarity and a clock that is off by any constant, and drifts, are tried before all is lost.

    Parameters
    ----------
    time_s : array, shape (flips,)
        When the signal changed (rig clock), or the times of evenly spaced samples.
    level : array, shape (flips,)
        What it changed to, or the signal, in any unit.
    trial_idx : array of int, shape (trials,)
        Number of each shown trial in the plan; -1 for one that nobody planned (any level will do).
    onset_s : array, shape (trials,)
        Its logged onset (rig clock).
    tolerance_s : float
        Largest distance of a flip from the onset and the common lag.

    Raises
    ------
    DataError
        If the log is empty, has one level only, or times do not increase.
    """
    time, value = _numbers(time_s, "time_s"), _numbers(level, "level")
    if not len(time) or len(time) != len(value) or not np.ptp(value) > 0:
        raise DataError(
            "no flips",
            file="photodiode.csv",
            found=f"{len(time)} rows of one level",
            expected="time_s,level of every change",
        )
    if (back := np.flatnonzero(np.diff(time) <= 0)).size:
        raise DataError("times do not increase", file="photodiode.csv", field=f"row {back[0] + 1}")
    onset, number = np.asarray(onset_s, float), np.asarray(trial_idx, np.int64)
    logs, trace = [(time, value, "")], is_trace(time, len(onset))
    if trace:
        at, size = find_steps(time, value, len(onset))
        turned = "the diode's signal falls when the square lights up"
        logs = [(at, np.maximum(sign * size, 0), note) for sign, note in ((1, ""), (-1, turned))]
    known = np.isfinite(onset)
    enough = 0.5 * max(known.sum(), 1)
    best: Flips | None = None
    for wide in (False, True):
        for at, height, note in logs:
            tried = [0.0, *(lags(at, onset[known], tolerance_s, wide=wide) if len(at) else ())]
            found = [
                _match(at, height, number, onset, lag, tolerance_s, wide, trace) for lag in tried
            ]
            most = max(one.seen.sum() for one in found)
            first = next(one for one in found if one.seen.sum() == most)
            if note and most:
                first.findings.append(Finding("photodiode-inverted", note))
            best = first if best is None else best
            rivals = (one for one in found if one.seen.sum() == most)
            apart = any(abs(one.middle_s - first.middle_s) > 2 * tolerance_s for one in rivals)
            if wide and most <= _by_chance(at[height > height.min()], onset[known], tolerance_s):
                continue
            if wide and most >= enough and apart:
                text = "the photodiode fits the trials at several offsets of its clock"
                best.findings.append(Finding("photodiode-ambiguous", text))
            elif most >= enough:
                return first
            elif not wide and most > best.seen.sum():
                best = first
    return first if best is None else best


def _by_chance(flips: NDArray, onset: NDArray, tolerance_s: float) -> float:
    """Return how many trials some offset of a clock may explain though it is the wrong one."""
    if len(flips) < 2:
        return np.inf
    share = min(1.0, 2 * tolerance_s * len(flips) / float(np.ptp(flips)))
    return len(onset) * share + 5 * np.sqrt(len(onset) * share * (1 - share)) + 3


def _numbers(values: ArrayLike, name: str) -> NDArray[np.float64]:
    try:
        numbers = np.asarray(values, np.float64).ravel()
    except (TypeError, ValueError) as error:
        raise DataError(
            "is no number", file="photodiode.csv", field=name, found=str(error)[:100]
        ) from error
    if not np.isfinite(numbers).all():
        raise DataError("is no number", file="photodiode.csv", field=name, found="NaN or inf")
    return numbers


def _match(
    time: NDArray,
    value: NDArray,
    number: NDArray,
    onset: NDArray,
    lag: float,
    tolerance_s: float,
    wide: bool,
    trace: bool,
) -> Flips:
    """Give every trial the flip to its level that is nearest to its onset and a lag."""
    none = Flips(np.zeros(len(onset), bool), np.full(len(onset), np.nan), 0, lag)
    if not len(time):
        return none
    expected = onset + lag
    if wide:  # two clocks may drift apart
        for _ in range(4):
            row = nearest(time, np.nan_to_num(expected))
            close = np.abs(time[row] - expected) <= 2 * tolerance_s
            if close.sum() < 10 or np.ptp(onset[close]) <= 0:
                break
            middle = float(onset[close].mean())
            slope, start = np.polyfit(onset[close] - middle, (time[row] - onset)[close], 1)
            expected = onset + start + slope * (onset - middle)
    row = nearest(time, np.nan_to_num(expected))
    close = np.abs(time[row] - expected) <= tolerance_s
    kind, findings = _levels(value, row, close, number, trace)
    image, white = kind > 0, kind == 2
    flips = np.flatnonzero(image)
    seen, delay = none.seen, none.delay_s
    taken = np.zeros(len(flips), bool)
    at = time[flips]
    first = np.searchsorted(at, np.nan_to_num(expected) - tolerance_s)
    last = np.searchsorted(at, np.nan_to_num(expected) + tolerance_s, side="right")
    for trial in np.flatnonzero(np.isfinite(expected)):
        near = np.arange(first[trial], last[trial])
        near = near[~taken[near]]
        if number[trial] >= 0 and white.any():
            near = near[white[flips[near]] == (number[trial] % 2 == 0)]
        if len(near):
            one = near[np.argmin(np.abs(at[near] - expected[trial]))]
            taken[one], seen[trial], delay[trial] = True, True, at[one] - onset[trial]
    if wide and seen.any():
        text = f"the photodiode's clock is {np.nanmedian(delay):+.3f} s off that of the trials"
        findings.append(Finding("photodiode-clock", text))
    return Flips(seen, delay, int((~taken).sum()), lag, findings)


def _levels(
    value: NDArray, row: NDArray, close: NDArray, number: NDArray, trace: bool
) -> tuple[NDArray[np.int64], list[Finding]]:
    """Return what every flip went to, 0 black, 1 gray or 2 white, and what is odd about it.

    Gray and white are the medians at the onsets of odd and even trials, black that of all other
    flips. Where these do not lie apart, as with trials of one parity, levels are shares of the
    whole range; in a sampled trace, every step up then is gray and none is white.
    """
    other = np.ones(len(value), bool)
    other[row[close]] = False
    parts = (
        value[other],
        value[row[close & (number >= 0) & (number % 2 == 1)]],
        value[row[close & (number >= 0) & (number % 2 == 0)]],
    )
    if all(len(part) >= 2 for part in parts):
        black, gray, white = (float(np.median(part)) for part in parts)
        share = (gray - black) / (white - black) if white != black else np.nan
        if DARK < share < BRIGHT:
            place = (value - black) / (white - black)
            kind = np.digitize(place, [share / 2, (1 + share) / 2])
            text = "white is the smallest level of the photodiode"
            return kind, [Finding("photodiode-inverted", text)] if white < black else []
    if trace:
        text = "the square has one level: trials are not told apart"
        return (value > 0).astype(np.int64), [Finding("photodiode-one-level", text)]
    share = (value - value.min()) / np.ptp(value)
    return np.digitize(share, [DARK, BRIGHT]), []
