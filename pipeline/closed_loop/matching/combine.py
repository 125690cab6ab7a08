"""Several routes to the same cells: directly, through one stack, through another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.closed_loop.matching.assignment import Candidates, assign


@dataclass(frozen=True)
class Combined:
    """Pairs that several routes agree on; arrays of shape (pairs,) unless said otherwise.

    Attributes
    ----------
    pairs : array of int, shape (pairs, 2)
        Names of source and target unit; each at most once.
    probability : array
        Mean over routes of the probability of the pair, 0 where a route did not make it.
    n_routes : array of int
        Routes that made the pair.
    """

    pairs: NDArray[np.int64]
    probability: NDArray[np.float64]
    n_routes: NDArray[np.int64]


def combine(
    routes: Sequence[tuple[ArrayLike, ArrayLike]], *, min_probability: float = 0.5
) -> Combined:
    """Join the pairs of several routes, one to one.

    Routes see the same cells and err together, so that their probabilities are averaged and not
    multiplied; the result depends on which routes there are, which is why it says how many.

    Parameters
    ----------
    routes : sequence of (pairs (n, 2), probability (n,))
        Names of the units and the probability of every pair of each route, among them pairs that
        other routes do not have.
    min_probability : float
        Pairs below are not returned.
    """
    total: dict[tuple[int, int], list[float]] = {}
    for pairs, probability in routes:
        rows = np.asarray(pairs, np.int64).reshape(-1, 2)
        for (a, b), p in zip(rows.tolist(), np.asarray(probability, float), strict=True):
            total.setdefault((a, b), []).append(float(p))
    if not total:
        return Combined(np.zeros((0, 2), np.int64), np.zeros(0), np.zeros(0, np.int64))
    names = np.array(sorted(total), np.int64)
    mean = np.array([sum(total[a, b]) / len(routes) for a, b in names.tolist()])
    count = np.array([len(total[a, b]) for a, b in names.tolist()])
    source, target = (np.unique(side, return_inverse=True)[1] for side in names.T)
    candidates = Candidates(source, target, np.zeros(len(names)), np.zeros(len(names)))
    chosen, _ = assign(candidates, mean, min_probability)
    return Combined(names[chosen], mean[chosen], count[chosen])
