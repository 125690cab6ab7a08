"""Score what the pipeline found against what the simulator knows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist


def motion_rms(estimated: tuple[NDArray, NDArray], true: tuple[NDArray, NDArray]) -> float:
    """Return the root-mean-square length (px) of the motion error.

    A constant offset is the choice of a template, not an error: the median difference of each
    axis is removed.

    Parameters
    ----------
    estimated, true : (y, x), arrays of shape (frames,)
        Displacements of the content (px).
    """
    errors = [
        np.asarray(a, float) - np.asarray(b, float) for a, b in zip(estimated, true, strict=True)
    ]
    return float(np.sqrt(sum(np.mean((e - np.median(e)) ** 2) for e in errors)))


@dataclass(frozen=True)
class CellScore:
    """Cells found against cells there.

    Attributes
    ----------
    precision, recall : float
        Share of found units that are active cells (silent cells count neither way), and share of
        active cells that were found.
    true_index : array of int, shape (found,)
        True cell of every found unit, -1 where there is none.
    """

    precision: float
    recall: float
    true_index: NDArray[np.intp]


def cell_score(
    found_yx: NDArray, true_yx: NDArray, active: NDArray[np.bool_], *, radius_px: float
) -> CellScore:
    """Assign found to true centroids one to one within a radius, and count.

    Parameters
    ----------
    found_yx : array, shape (found, 2)
    true_yx : array, shape (cells, 2)
        Centroids (px).
    active : array of bool, shape (cells,)
        Whether the cell ever fired. A unit on a silent cell is neither right nor wrong.
    radius_px : float
        Largest distance of a hit.
    """
    true_index = np.full(len(found_yx), -1)
    if len(found_yx) and len(true_yx):
        distance = cdist(found_yx, true_yx)
        cost = np.where(distance <= radius_px, distance, 1e6)
        rows, columns = linear_sum_assignment(cost)
        hit = cost[rows, columns] <= radius_px
        true_index[rows[hit]] = columns[hit]
    on_cell = true_index >= 0
    hits = int(active[true_index[on_cell]].sum())
    wrong = int((~on_cell).sum())
    return CellScore(
        precision=hits / max(hits + wrong, 1),
        recall=hits / max(int(active.sum()), 1),
        true_index=true_index,
    )


def trace_correlations(found: NDArray, true: NDArray, true_index: NDArray[np.intp]) -> NDArray:
    """Return Pearson's r of every found trace with its cell's true trace; NaN without a cell.

    Parameters
    ----------
    found : array, shape (found, frames)
    true : array, shape (cells, frames)
    true_index : array of int, shape (found,)
    """
    result = np.full(len(found), np.nan)
    for unit in np.flatnonzero(true_index >= 0):
        x, y = found[unit] - np.mean(found[unit]), true[true_index[unit]]
        y = y - y.mean()
        scale = np.sqrt((x @ x) * (y @ y))
        if scale > 0:
            result[unit] = x @ y / scale
    return result


def match_score(
    pairs: NDArray[np.integer], source_cell: NDArray[np.integer], target_cell: NDArray[np.integer]
) -> tuple[float, float]:
    """Return precision and recall of matches between two days.

    Parameters
    ----------
    pairs : array of int, shape (pairs, 2)
        Rows of the source and of the target units that were matched.
    source_cell, target_cell : arrays of int, shape (units,)
        True identity of every unit, -1 for none.

    Returns
    -------
    precision, recall
        Share of the made matches that join one cell; share of the cells found on both days that
        were joined.
    """
    possible = set(source_cell[source_cell >= 0]) & set(target_cell[target_cell >= 0])
    left, right = (source_cell[pairs[:, 0]], target_cell[pairs[:, 1]]) if len(pairs) else ([], [])
    right_ones = int(np.sum((np.asarray(left) == np.asarray(right)) & (np.asarray(left) >= 0)))
    return right_ones / max(len(pairs), 1), right_ones / max(len(possible), 1)


def calibration_error(probability: NDArray, right: NDArray, *, n_bins: int = 10) -> float:
    """Return the expected calibration error of stated probabilities.

    The mean over equal bins of probability, weighted by how many fall into each, of the distance
    between the mean probability and the share that was right (Naeini et al. 2015,
    doi:10.1609/aaai.v29i1.9602).

    Parameters
    ----------
    probability : array, shape (n,)
    right : array of bool, shape (n,)
    """
    probability, right = np.asarray(probability, float), np.asarray(right, float)
    place = np.minimum((probability * n_bins).astype(int), n_bins - 1)
    gaps = [
        (place == k).sum() * abs(probability[place == k].mean() - right[place == k].mean())
        for k in np.unique(place)
    ]
    return float(sum(gaps) / max(len(probability), 1))
