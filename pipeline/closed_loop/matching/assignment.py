"""Which pairs of units are one cell: a mixture model of distances and shapes, and assignment."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.optimize import linear_sum_assignment

TAIL_SHARE, TAIL_WIDTH = 0.05, 3.0  # matches whose masks are far off: share, and their sd in sd
CORE_UM = 9.0  # two cells of one plane are hardly ever closer
CORE_FLOOR = 0.15  # ... unless one is false, or lies above the other
SIGMA_UM = (0.7, 4.0)  # believable sd of the distance along an axis
SHAPE_TEMPER = 0.5  # distance tells part of what overlap tells: count the latter half
PRIOR = (2.0, 2.0)  # beta prior of the share of units with a partner


@dataclass(frozen=True)
class Candidates:
    """Pairs close enough to be one cell; arrays of shape (candidates,).

    Attributes
    ----------
    source, target : arrays of int
        Rows of the masks.
    distance_um : array
        Distance of the centroids after registration.
    overlap : array
        Intersection over union of the masks after registration.
    """

    source: NDArray[np.intp]
    target: NDArray[np.intp]
    distance_um: NDArray[np.float64]
    overlap: NDArray[np.float64]


def odds(
    candidates: Candidates, n_visible: int, density_per_um2: float, *, iterations: int = 50
) -> tuple[NDArray[np.float64], float, float]:
    """Return each candidate's odds of being one cell against the source having no partner.

    The distances are a mixture: partners scatter about zero (two Gaussians, the second for masks
    that are far off), strangers come with the target's density, fewer within a cell's diameter.
    The overlaps of partners follow a beta distribution, those of strangers a broad one. Width of
    the scatter, overlaps and share of units with a partner are fitted by expectation
    maximization on this pair of fields.

    Parameters
    ----------
    n_visible : int
        Source units that lie inside of the target field.
    density_per_um2 : float
        Target units per area.

    Returns
    -------
    odds : array, shape (candidates,)
    share : float
        Share of visible source units with a partner.
    sigma_um : float
        Standard deviation of partners' distance along each axis.
    """
    d, overlap = candidates.distance_um, candidates.overlap
    sigma, share = 2.0, 0.5
    match_beta = (6.0, 3.5)
    if not len(d):
        return np.zeros(0), PRIOR[0] / (sum(PRIOR) + n_visible), sigma
    strangers = density_per_um2 * (CORE_FLOOR + (1 - CORE_FLOOR) * -np.expm1(-((d / CORE_UM) ** 4)))
    clipped = np.clip(overlap, 0.02, 0.98)
    for _ in range(iterations):
        partners = (1 - TAIL_SHARE) * _scatter(d, sigma) + TAIL_SHARE * _scatter(
            d, TAIL_WIDTH * sigma
        )
        shape = (stats.beta.pdf(clipped, *match_beta) / _stranger_overlap(clipped, d)) ** (
            SHAPE_TEMPER
        )
        ratio = share / (1 - share) * partners / strangers * shape
        weight = posterior(candidates, ratio)
        total = weight.sum()
        before = sigma, share
        share = (total + PRIOR[0]) / (n_visible + sum(PRIOR))
        share = float(np.clip(share, 1e-4, 0.98))
        core = weight * (d < 3 * sigma)  # the tail must not widen the core
        if core.sum() > 1:
            # two pseudo-observations at the prior width steady small fields
            sigma = np.sqrt((core @ d**2 / 2 + 2 * 1.5**2) / (core.sum() + 2))
            sigma = float(np.clip(sigma, *SIGMA_UM))
        if total > 8:
            mean = float(weight @ clipped / total)
            spread = max(float(weight @ (clipped - mean) ** 2 / total), 0.008)
            strength = max(mean * (1 - mean) / spread - 1, 2.0)
            match_beta = (mean * strength, (1 - mean) * strength)
        if np.allclose(before, (sigma, share), rtol=1e-4):
            break
    return ratio, share, sigma


def posterior(candidates: Candidates, ratio: NDArray) -> NDArray[np.float64]:
    """Return the probability of each candidate, given that both its units have one partner.

    A pair competes with every other pair of either unit, and with there being none.
    """
    rows, columns = (
        np.bincount(side, ratio, minlength=side.max(initial=-1) + 1)[side]
        for side in (candidates.source, candidates.target)
    )
    return ratio / (1 + rows + columns - ratio)


def assign(
    candidates: Candidates, probability: NDArray, least: float
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Choose pairs one to one, with the largest sum of log odds.

    Returns
    -------
    chosen : array of int, shape (pairs,)
        Rows of `candidates`, by source.
    ambiguity : array, shape (pairs,)
        Probability of the best rival over that of the pair, at most 1.
    """
    usable = np.flatnonzero(probability >= least)
    if not len(usable):
        return np.zeros(0, np.intp), np.zeros(0)
    source, s = np.unique(candidates.source[usable], return_inverse=True)
    target, t = np.unique(candidates.target[usable], return_inverse=True)
    gain = np.zeros((len(source), len(target)))
    p = np.clip(probability[usable], 1e-9, 1 - 1e-9)
    gain[s, t] = np.log(p / (1 - p)) - np.log(least / (1 - least)) + 1e-6
    index = np.full(gain.shape, -1)
    index[s, t] = usable
    left, right = linear_sum_assignment(gain, maximize=True)
    chosen = index[left, right]
    chosen = np.sort(chosen[chosen >= 0])
    chosen = chosen[np.argsort(candidates.source[chosen], kind="stable")]
    return chosen, _ambiguity(candidates, probability, chosen)


def _ambiguity(candidates: Candidates, probability: NDArray, chosen: NDArray) -> NDArray:
    result = np.zeros(len(chosen))
    for place, k in enumerate(chosen):
        rival = (candidates.source == candidates.source[k]) | (
            candidates.target == candidates.target[k]
        )
        rival[k] = False
        if rival.any():
            result[place] = min(1.0, probability[rival].max() / max(probability[k], 1e-12))
    return result


def _scatter(distance: NDArray, sigma: float) -> NDArray[np.float64]:
    """Density (per um2) at this distance from zero of an isotropic Gaussian."""
    return np.exp(-0.5 * (distance / sigma) ** 2) / (2 * np.pi * sigma**2)


def _stranger_overlap(overlap: NDArray, distance: NDArray) -> NDArray[np.float64]:
    """Density of the overlap of two different cells that happen to lie this close."""
    mean = 0.05 + 0.5 * np.exp(-((distance / 6.0) ** 2))
    return stats.beta.pdf(overlap, 6 * mean, 6 * (1 - mean)) + 0.05
