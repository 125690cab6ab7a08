"""Which pairs of units are one cell: a mixture model of distances and shapes, and assignment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree

TAIL_WIDTH = 2.5  # sd of matches whose masks are far off, in the sd of the others
TAIL_PRIOR = (1.0, 19.0)  # beta prior of the share of such matches
CORE_UM = 9.0  # two cells of one plane are hardly ever closer
CORE_FLOOR = 0.15  # ... unless one is false, or lies above the other
NEIGHBOR_UM = 1.0  # half width of the distances over which neighbors are counted
NEIGHBORS = 4.0  # so many expected pairs weigh as much as those counted
SIGMA_UM = (0.7, 4.0)  # believable sd of the distance along an axis
PARTNER_OVERLAP = (0.1, 0.75, 0.15)  # mean at closeness 0 and 1, standard deviation
STRANGER_OVERLAP = (0.05, 0.65, 0.15)
OVERLAPS = 20.0  # pairs that these weigh
SHAPE_TEMPER = 0.7  # overlaps are no beta distribution: believe them less
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


def strangers(
    distance_um: NDArray, fields: Sequence[NDArray], density_per_um2: float
) -> NDArray[np.float64]:
    """Return the density (per um2) of other cells at a distance from a cell.

    Two different cells of two days lie apart as two cells of one day do: counted are the pairs of
    units within each day. Where these are few, cells of `density_per_um2` are assumed that keep
    apart by a cell's diameter.

    Parameters
    ----------
    distance_um : array, shape (candidates,)
    fields : sequence of arrays, shape (units, 2)
        Centers of the units of each day (um).
    density_per_um2 : float
        Units per area around the candidates' targets.
    """
    d = np.asarray(distance_um, np.float64)
    assumed = density_per_um2 * (CORE_FLOOR + (1 - CORE_FLOOR) * -np.expm1(-((d / CORE_UM) ** 4)))
    inner, outer = np.maximum(d - NEIGHBOR_UM, 0), d + NEIGHBOR_UM
    seen, area = np.zeros(len(d)), np.zeros(len(d))
    for centers in fields:
        known = centers[np.isfinite(centers).all(1)]
        if not len(known) or not len(d):
            continue
        pairs = cKDTree(known).query_pairs(float(outer.max()), output_type="ndarray")
        apart = np.sort(np.linalg.norm(known[pairs[:, 0]] - known[pairs[:, 1]], axis=1))
        seen += 2 * (np.searchsorted(apart, outer) - np.searchsorted(apart, inner))
        area += len(known) * np.pi * (outer**2 - inner**2)
    return (seen + NEIGHBORS) / (area + NEIGHBORS / assumed)


def odds(
    candidates: Candidates,
    n_visible: int,
    stranger_density: NDArray,
    displaced: Candidates,
    *,
    radius_um: float = 6.0,
    iterations: int = 50,
) -> tuple[NDArray[np.float64], float, float]:
    """Return each candidate's odds of being one cell against the source having no partner.

    The distances are a mixture: partners scatter about zero (two Gaussians, the second for masks
    that are far off), strangers come with the density of neighbors. The overlaps of partners
    follow a beta distribution, those of strangers a broad one. Width of the scatter, share of
    masks that are far off, overlaps and share of units with a partner are fitted by expectation
    maximization on this pair of fields.

    Parameters
    ----------
    n_visible : int
        Source units that lie inside of the target field.
    stranger_density : array, shape (candidates,)
        Density of other cells at each candidate's distance (per um2), see `strangers`.
    displaced : Candidates
        Pairs where the fields are laid upon each other elsewhere: how strangers overlap.
    radius_um : float
        Radius of a unit of median size.

    Returns
    -------
    odds : array, shape (candidates,)
    share : float
        Share of visible source units with a partner.
    sigma_um : float
        Standard deviation of partners' distance along each axis.
    """
    d, overlap = candidates.distance_um, np.clip(candidates.overlap, 0.02, 0.98)
    sigma, share, tail = 2.0, 0.5, TAIL_PRIOR[0] / sum(TAIL_PRIOR)
    if not len(d):
        return np.zeros(0), PRIOR[0] / (sum(PRIOR) + n_visible), sigma
    closeness = _discs(d, radius_um)
    unlike = _overlap_density(
        STRANGER_OVERLAP,
        np.clip(displaced.overlap, 0.02, 0.98),
        _discs(displaced.distance_um, radius_um),
        np.ones(len(displaced.overlap)),
    )(overlap, closeness)
    weight = np.zeros(len(d))
    for _ in range(iterations):
        near = (1 - tail) * _scatter(d, sigma)
        far = tail * _scatter(d, TAIL_WIDTH * sigma)
        alike = _overlap_density(PARTNER_OVERLAP, overlap, closeness, weight)
        shape = (alike(overlap, closeness) / unlike) ** SHAPE_TEMPER
        likely = share * (near + far) / stranger_density * shape
        weight = likely / (1 + likely)  # among all pairs at this distance: no competition yet
        total = weight.sum()
        before = sigma, share, tail
        share = (total + PRIOR[0]) / (n_visible + sum(PRIOR))
        share = float(np.clip(share, 1e-4, 0.98))
        core = weight * near / (near + far)  # the tail must not widen the core
        tail = float((total - core.sum() + TAIL_PRIOR[0]) / (total + sum(TAIL_PRIOR)))
        if core.sum() > 1:
            # two pseudo-observations at the prior width steady small fields
            sigma = np.sqrt((core @ d**2 / 2 + 2 * 1.5**2) / (core.sum() + 2))
            sigma = float(np.clip(sigma, *SIGMA_UM))
        if np.allclose(before, (sigma, share, tail), rtol=1e-4):
            break
    return likely / (1 - share), share, sigma


def posterior(
    candidates: Candidates, ratio: NDArray, *, iterations: int = 60
) -> NDArray[np.float64]:
    """Return the probability of each candidate, given that both its units have one partner.

    A pair competes with the other pairs of either unit, and with there being none. A rival that
    has a better partner itself competes less: marginals of all one-to-one assignments, by belief
    propagation.

    References
    ----------
    Williams and Lau (2014), doi:10.1109/TAES.2014.120568
    """
    source, target = candidates.source, candidates.target
    if not len(ratio):
        return np.zeros(0)
    free = np.ones(len(ratio))  # how free the target is for this source
    for _ in range(iterations):
        wanted = ratio * free
        others = np.maximum(np.bincount(source, wanted)[source] - wanted, 0)
        offer = ratio / (1 + others)
        others = np.maximum(np.bincount(target, offer)[target] - offer, 0)
        before, free = free, 1 / (1 + others)
        if np.allclose(before, free, rtol=1e-6, atol=1e-9):
            break
    wanted = ratio * free
    return wanted / (1 + np.bincount(source, wanted)[source])


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


def _discs(distance_um: NDArray, radius_um: float) -> NDArray[np.float64]:
    """Intersection over union of two discs of this radius at a distance."""
    half = np.clip(distance_um / (2 * radius_um), 0, 1)
    lens = 2 / np.pi * (np.arccos(half) - half * np.sqrt(1 - half**2))
    return lens / (2 - lens)


def _overlap_density(
    prior: tuple[float, float, float], overlap: NDArray, closeness: NDArray, weight: NDArray
) -> Callable[[NDArray, NDArray], NDArray[np.float64]]:
    """Fit the density of the overlap given the distance: a beta whose mean follows closeness.

    Closeness is that of `_discs`. A line through `prior` (mean of
    the overlap at closeness 0 and 1, standard deviation) weighs as much as `OVERLAPS` pairs.
    """
    design = np.column_stack([1 - closeness, closeness])
    mean = np.array(prior[:2])
    normal = (design * weight[:, None]).T @ design + OVERLAPS / 2 * np.eye(2)
    mean = np.linalg.solve(normal, design.T @ (weight * overlap) + OVERLAPS / 2 * mean)
    residual = weight @ (overlap - design @ mean) ** 2
    spread = (residual + OVERLAPS * prior[2] ** 2) / (weight.sum() + OVERLAPS)

    def density(overlap: NDArray, closeness: NDArray) -> NDArray[np.float64]:
        center = np.clip(np.column_stack([1 - closeness, closeness]) @ mean, 0.04, 0.96)
        strength = np.maximum(center * (1 - center) / spread - 1, 2.0)
        return stats.beta.pdf(overlap, center * strength, (1 - center) * strength) + 0.05

    return density
