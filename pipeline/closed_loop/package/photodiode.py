"""The square in the corner of the monitor: what a photodiode should see, and whether it did."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from pipeline.errors import DataError

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
    """

    seen: NDArray[np.bool_]
    delay_s: NDArray[np.float64]
    n_unexplained: int


def check_flips(
    time_s: ArrayLike,
    level: ArrayLike,
    trial_idx: ArrayLike,
    onset_s: ArrayLike,
    *,
    tolerance_s: float = 0.05,
) -> Flips:
    """Find every trial's flip in a photodiode's log.

    Parameters
    ----------
    time_s : array, shape (flips,)
        When the signal changed (rig clock).
    level : array, shape (flips,)
        What it changed to, in any unit in which black is the smallest and white the largest.
    trial_idx : array of int, shape (trials,)
        Number of each shown trial in the plan; -1 for one that nobody planned (any level will do).
    onset_s : array, shape (trials,)
        Its logged onset (rig clock).
    tolerance_s : float
        Largest distance of a flip from the onset.

    Raises
    ------
    DataError
        If the log is empty, has one level only, or times do not increase.
    """
    time, value = np.asarray(time_s, float), np.asarray(level, float)
    if not len(time) or not np.ptp(value) > 0:
        raise DataError(
            "no flips",
            file="photodiode.csv",
            found=f"{len(time)} rows of one level",
            expected="time_s,level of every change",
        )
    if (back := np.flatnonzero(np.diff(time) <= 0)).size:
        raise DataError("times do not increase", file="photodiode.csv", field=f"row {back[0] + 1}")
    share = (value - value.min()) / np.ptp(value)
    flips = np.flatnonzero(share > DARK)
    white = share[flips] >= BRIGHT
    onset, number = np.asarray(onset_s, float), np.asarray(trial_idx, np.int64)
    seen, delay = np.zeros(len(onset), bool), np.full(len(onset), np.nan)
    taken = np.zeros(len(flips), bool)
    for row, start in enumerate(onset):
        near = np.flatnonzero((np.abs(time[flips] - start) <= tolerance_s) & ~taken)
        if number[row] >= 0:
            near = near[white[near] == (number[row] % 2 == 0)]
        if len(near):
            best = near[np.argmin(np.abs(time[flips][near] - start))]
            taken[best], seen[row], delay[row] = True, True, time[flips][best] - start
    return Flips(seen, delay, int((~taken).sum()))
