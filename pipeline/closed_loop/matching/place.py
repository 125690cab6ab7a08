"""Whether two fields show one place at all, and a line that says why not."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.special import expit
from scipy.stats import nbinom, poisson

from pipeline.closed_loop.matching.base import FieldView
from pipeline.closed_loop.matching.registration import (
    MIRRORED,
    Registration,
    Search,
)

# Fields of one place exceed their rival by 7 standard errors and more, fields of two places by 2 at
# most: simulated fields and crowded apertures (benchmarks/closed_loop/matching_places.py)
MARGIN_MIDDLE, MARGIN_WIDTH = 4.5, 0.4
VETO_MIDDLE, VETO_WIDTH = 2.8, 0.2  # images that fit elsewhere as well speak against units
CONVINCING = 0.55  # of the correlation at a better place, where nothing matched
HIT_UM = 3.0  # centroids this close coincide
PLACEMENTS = 1e5  # shifts x angles x affines that the search may choose from, generously
RINGS_UM = (12.0, 18.0, 25.0, 33.0)  # displacements at which strangers are counted
DIRECTIONS = 24
WIDE_DEG = 25.0  # rotations that are looked at for the reason why nothing matches
TURNED = {
    "turned by 90 degrees": lambda image: image.T[:, ::-1],
    "turned by 270 degrees": lambda image: image.T[::-1],
    "mirrored along a diagonal": lambda image: image.T,
    "mirrored along the other diagonal": lambda image: image.T[::-1, ::-1],
}


def same_field(found: Registration, coincidences: float) -> float:
    """Return the probability that a registration found the place, and not a chance likeness.

    Either evidence will do: images that fit here and nowhere else, or units that coincide. Images
    that fit as well at another place, or mirrored, veto.

    Parameters
    ----------
    coincidences : float
        Probability of as many coincident units in fields of two places (`chance_of_hits`).
    """
    if found.score <= 0:
        return 0.0
    image = float(expit((found.margin - MARGIN_MIDDLE) / MARGIN_WIDTH))
    veto = float(expit((VETO_MIDDLE - found.margin) / VETO_WIDTH))
    return (1 - (1 - image) * coincidences) * (1 - veto)


def chance_of_hits(moved_um: NDArray, target_um: NDArray) -> float:
    """Return the probability that strangers coincide as often at the best of all placements.

    How often strangers coincide is counted with the units displaced by one to three cells in all
    directions, where crowds still lie upon crowds. Counts scatter at least as a Poisson variable.

    Parameters
    ----------
    moved_um, target_um : arrays, shape (units, 2)
        Centers of the source's units after registration and of the target's (um); NaN: none.
    """
    a, b = (x[np.isfinite(x).all(1)] for x in (moved_um, target_um))
    if not len(a) or not len(b):
        return 1.0
    tree = cKDTree(b)

    def hits(displaced: NDArray) -> int:
        nearest = tree.query(displaced, distance_upper_bound=HIT_UM)[1]
        return len(np.unique(nearest[nearest < len(b)]))

    angle = np.arange(DIRECTIONS) * 2 * np.pi / DIRECTIONS
    ring = np.column_stack([np.sin(angle), np.cos(angle)])
    counts = np.array([hits(a + r * step) for r in RINGS_UM for step in ring])
    mean, variance = counts.mean() + 1 / len(counts), counts.var()
    if variance > 1.02 * mean:
        tail = nbinom.sf(hits(a) - 1, mean**2 / (variance - mean), mean / variance)
    else:
        tail = poisson.sf(hits(a) - 1, mean)
    return float(min(1.0, PLACEMENTS * tail))


def why_nothing(
    source: FieldView,
    target: FieldView,
    found: Registration,
    *,
    max_shift_um: float,
    max_rotation_deg: float,
) -> str:
    """Return a line that says why two fields are not one place.

    Looks farther than the match did: at larger offsets and rotations, mirrored and turned.

    Parameters
    ----------
    found : Registration
        What the match did find.
    max_shift_um, max_rotation_deg : float
        Range of the match.
    """
    look = Search(source, target)
    least = found.score / CONVINCING  # what convinces beside what was found
    for name, flip in {**MIRRORED, **TURNED}.items():
        score = look.places(max_shift_um, max_rotation_deg, 1, flip)[0][1]
        if score > least:
            return (
                f"the fields fit {name} (images correlate {score:.2f}, as they are "
                f"{found.score:.2f}): turn one day's images back"
            )
    reach = 0.7 * max(max(f.shape) for f in look.fine) * look.grid_um
    wide = look.places(reach, max(WIDE_DEG, max_rotation_deg), 5)
    warp, score = wide[0]
    offset = look.offset_um(warp)
    turn = float(np.rad2deg(np.arctan2(warp[1, 0] - warp[0, 1], warp[0, 0] + warp[1, 1])))
    if score > 0 and max([0.0, *look.rivals(wide)]) < CONVINCING * score:
        place = f"y {offset[0]:.0f} um, x {offset[1]:.0f} um, {turn:.1f} degrees"
        if np.hypot(*offset) > max_shift_um:
            return (
                f"the fields fit at an offset of {place}: beyond max_shift_um "
                f"{max_shift_um:g}; raise it, or find the field again"
            )
        if abs(turn) > max_rotation_deg:
            return (
                f"the fields fit at {place}: beyond max_rotation_deg {max_rotation_deg:g}; raise it"
            )
    return (
        f"no placement within {max_shift_um:g} um and {max_rotation_deg:g} degrees fits better "
        "than chance: the days show two places, or too few of the same cells"
    )
