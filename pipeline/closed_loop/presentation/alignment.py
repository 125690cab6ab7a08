"""Align two sequences of images, when some were dropped, inserted or replaced."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

GAP = 1.0  # one trial missing or too many
REPLACED = 1.2  # another image in a trial's place: cheaper than a gap on either side
HINT = 0.3  # bonus for two trials of one number


def align(
    planned: NDArray[np.integer],
    shown: NDArray[np.integer],
    planned_idx: NDArray[np.integer],
    shown_idx: NDArray[np.integer],
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return rows of the planned and the shown sequence that belong together; -1 for a gap.

    The cheapest global alignment (Needleman and Wunsch 1970) by what was shown; trial numbers
    only decide between equally good ones, so that a log that counts anew still aligns.

    Parameters
    ----------
    planned, shown : arrays of int, shape (trials,), (shown trials,)
        Number of the image.
    planned_idx, shown_idx : arrays of int, same shapes
        Trial numbers, as a hint.

    Returns
    -------
    planned_row, shown_row : arrays of int, shape (aligned,)
    """
    same = min(len(planned), len(shown))
    equal = (planned[:same] == shown[:same]) & (planned_idx[:same] == shown_idx[:same])
    head = same if equal.all() else int(np.argmin(equal))
    tail = 0
    while (
        tail < same - head
        and planned[-1 - tail] == shown[-1 - tail]
        and planned_idx[-1 - tail] == shown_idx[-1 - tail]
    ):
        tail += 1
    n, m = len(planned) - tail, len(shown) - tail
    middle = _align_middle(planned[head:n], shown[head:m], planned_idx[head:n], shown_idx[head:m])
    left = [np.arange(head), middle[0] + head * (middle[0] >= 0), np.arange(n, n + tail)]
    right = [np.arange(head), middle[1] + head * (middle[1] >= 0), np.arange(m, m + tail)]
    return np.concatenate(left).astype(np.intp), np.concatenate(right).astype(np.intp)


def _align_middle(
    planned: NDArray, shown: NDArray, planned_idx: NDArray, shown_idx: NDArray
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    n, m = len(planned), len(shown)
    columns = np.arange(m + 1) * GAP
    cost = columns.copy()
    step = np.empty((n + 1, m + 1), np.int8)  # 0 pair, 1 planned only, 2 shown only
    step[0], step[:, 0] = 2, 1
    for i in range(n):
        pair = np.where(shown == planned[i], 0.0, REPLACED) - HINT * (shown_idx == planned_idx[i])
        diagonal = cost[:-1] + pair
        above = cost[1:] + GAP
        best = np.concatenate([[cost[0] + GAP], np.minimum(diagonal, above)])
        # a run of shown-only trials: prefix minimum along the row
        row = np.minimum.accumulate(best - columns) + columns
        # on a tie the later of two equal presentations is the one too many
        extra = row[:-1] + GAP <= best[1:] + 1e-9
        step[i + 1, 1:] = np.where(extra, 2, np.where(diagonal <= above, 0, 1))
        cost = row
    left, right = [], []
    i, j = n, m
    while i or j:
        move = step[i, j]
        take_planned, take_shown = move != 2, move != 1
        i, j = i - take_planned, j - take_shown
        left.append(i if take_planned else -1)
        right.append(j if take_shown else -1)
    return np.array(left[::-1], np.intp), np.array(right[::-1], np.intp)
