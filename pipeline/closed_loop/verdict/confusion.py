"""Whether the neuron whose image is shown responds most, and most to its own."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Confusion:
    """Responses of all neurons to all images of one kind.

    Attributes
    ----------
    matrix : array, shape (neurons, neurons)
        Row: the image's neuron; column: the responding neuron. Mean responses, NaN if not shown.
    scaled : array, shape (neurons, neurons)
        The same with each row divided by its maximum; NaN where the maximum is not positive.
    row_rank, column_rank : arrays, shape (neurons,)
        Share of the others that the own entry exceeds: of the other neurons' responses to the
        image, and of the neuron's responses to the others' images (specificity). Chance 0.5.
    dominance, mean_row_rank, mean_column_rank : float
        Share of rows with their maximum on the diagonal, and the means of the ranks.
    """

    matrix: NDArray[np.float64]
    scaled: NDArray[np.float64]
    row_rank: NDArray[np.float64]
    column_rank: NDArray[np.float64]
    dominance: float
    mean_row_rank: float
    mean_column_rank: float


def confusion(matrix: ArrayLike) -> Confusion:
    """Score a matrix of mean responses.

    Parameters
    ----------
    matrix : array, shape (neurons, neurons)
        Mean response of the column's neuron to the row's image, normalized so that neurons can be
        compared (divided by the sd over the scan, as published).
    """
    matrix = np.asarray(matrix, np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"a confusion matrix is square, got {matrix.shape}")
    finite = np.where(np.isfinite(matrix), matrix, -np.inf)
    largest = finite.max(1, initial=-np.inf)[:, None]
    scaled = np.divide(
        matrix,
        largest,
        out=np.full(matrix.shape, np.nan),
        where=np.isfinite(largest) & (largest > 0),
    )
    own = np.diag(matrix)
    row_rank, column_rank = (_rank(own, m) for m in (matrix, matrix.T))
    known = np.isfinite(own)
    others = finite.copy()
    np.fill_diagonal(others, -np.inf)
    first = own[known] > others.max(1, initial=-np.inf)[known]
    return Confusion(
        matrix=matrix,
        scaled=scaled,
        row_rank=row_rank,
        column_rank=column_rank,
        dominance=_mean(first.astype(float)),
        mean_row_rank=_mean(row_rank),
        mean_column_rank=_mean(column_rank),
    )


def pool_matrices(
    matrices: Sequence[ArrayLike],
    neurons: Sequence[Sequence[Hashable]],
    repeats: Sequence[ArrayLike],
) -> tuple[list[Hashable], NDArray[np.float64]]:
    """Average the matrices of several days of the same neurons, each by its repeats.

    Parameters
    ----------
    matrices : sequence of arrays, shape (neurons, neurons), one a day
        As `Confusion.matrix`; days need not have the same neurons.
    neurons : sequence of lists, one a day
        Which neurons the rows and columns are.
    repeats : sequence of arrays, shape (neurons,), one a day
        How often the image of each neuron was shown.

    Returns
    -------
    list, array
        Neurons of any day, in the order in which they come, and their matrix; NaN where no day
        has both.

    Raises
    ------
    ValueError
        If shapes disagree.
    """
    every = list(dict.fromkeys(name for day in neurons for name in day))
    total, count = np.zeros((2, len(every), len(every)))
    for matrix, names, shown in zip(matrices, neurons, repeats, strict=True):
        matrix, shown = np.asarray(matrix, np.float64), np.asarray(shown, np.float64)
        n = len(names)
        if matrix.shape != (n, n) or shown.shape != (n,):
            raise ValueError(f"{n} neurons, a matrix {matrix.shape}, repeats {shown.shape}")
        rows = np.array([every.index(name) for name in names], int)
        weight = np.where(np.isfinite(matrix), shown[:, None], 0.0)
        place = np.ix_(rows, rows)
        total[place] += weight * np.where(weight > 0, matrix, 0.0)
        count[place] += weight
    pooled = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    return every, pooled


def _rank(own: NDArray, matrix: NDArray) -> NDArray[np.float64]:
    """Share of the other entries of each row below the own one; ties count half."""
    other = ~np.eye(len(own), dtype=bool) & np.isfinite(matrix)
    below = ((matrix < own[:, None]) + 0.5 * (matrix == own[:, None])) * other
    count = other.sum(1)
    rank = np.divide(below.sum(1), count, out=np.full(len(own), np.nan), where=count > 0)
    return np.where(np.isfinite(own), rank, np.nan)


def _mean(values: NDArray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")
