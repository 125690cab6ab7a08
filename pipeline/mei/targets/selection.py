"""Units that pass the limits of a rule, thinned out so that no two are neighbors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.dataset.names import unit_name

from .data import ByHand, TargetData, TargetResult


class Selection:
    """Units that are still in, and why the others are not."""

    def __init__(self, data: TargetData) -> None:
        self.data, self.n = data, len(data.oracle)
        self.reason = [""] * self.n
        self.alive = np.ones(self.n, bool)
        self.included = np.zeros(self.n, bool)
        for unit, decision in (data.by_hand or {}).items():
            self.included[unit] = decision.included
            self.alive[unit] = decision.included
            self.reason[unit] = reason_of(decision)

    def require(self, good: NDArray, reason: str) -> None:
        """Drop living units that are not `good`; those included by hand get no reason."""
        for unit in np.flatnonzero(self.alive & ~good & ~self.included):
            self.reason[unit] = reason
        self.alive &= good

    def require_above(self, values: NDArray, limit: float, name: str) -> None:
        """Drop living units whose value is not known, or not above a limit."""
        values = np.asarray(values, float)
        self.require(np.isfinite(values), f"{name} is not known")
        self.require(values > limit, f"{name} is not above {limit:.3g}")  # NaN is gone already

    def inside(self, edge_um: float) -> None:
        """Drop units nearer than `edge_um` to the edge of their field, where edges are known."""
        data = self.data
        if data.field_size_px is None:
            return
        size = np.broadcast_to(np.asarray(data.field_size_px, float), (self.n, 2))
        scale = _um_per_px(data, self.n)
        place = np.column_stack([data.y_px, data.x_px]).astype(float)
        with np.errstate(invalid="ignore"):
            near = np.minimum(place, size - 1 - place) * scale <= edge_um
        self.require(~near.any(1), f"centroid within {edge_um:g} um of the field's edge")

    def thin_out(self, score: NDArray, n_targets: int, distance_um: float) -> TargetResult:
        """Take units by score, none nearer than `distance_um` to a better one.

        Those included by hand come first, all of them.
        """
        place, field = _places(self.data, self.n)
        # equal scores: the order of the units decides, whatever the sort
        by_score = np.lexsort((np.arange(self.n), -np.nan_to_num(score, nan=-np.inf)))
        kept: list[int] = [int(unit) for unit in by_score if self.included[unit]]
        for unit in by_score:
            if not self.alive[unit] or self.included[unit]:
                continue
            if len(kept) >= n_targets:
                self.reason[unit] = f"not among the best {n_targets}"
                continue
            with np.errstate(invalid="ignore"):
                apart = np.sqrt(((place[kept] - place[unit]) ** 2).sum(1))
                near = (apart < distance_um) & (field[kept] == field[unit])
            if near.any():
                best = kept[int(np.flatnonzero(near)[0])]
                names = self.data.names
                name = unit_name(None, output=best) if names is None else names[best]
                self.reason[unit] = f"within {distance_um:g} um of better {name}"
            else:
                kept.append(int(unit))
        rank = np.full(self.n, -1, np.int64)
        rank[kept] = np.arange(len(kept))
        return TargetResult(rank >= 0, rank, self.reason, np.asarray(score, float))


def reason_of(decision: ByHand) -> str:
    """Return what a decision by hand says of a unit."""
    return f"kept: {decision}" if decision.included else str(decision)


def _um_per_px(data: TargetData, n: int) -> NDArray[np.float64]:
    scale = 1.0 if data.um_per_px is None else data.um_per_px
    return np.broadcast_to(np.asarray(scale, float), (n, 2))


def _places(data: TargetData, n: int) -> tuple[NDArray, NDArray]:
    """Return places in um and the group within which distances count."""
    if data.um_xyz is not None:
        return np.asarray(data.um_xyz, float), np.zeros(n, int)
    place = np.column_stack([data.y_px, data.x_px]).astype(float) * _um_per_px(data, n)
    return place, np.asarray(data.field)


def percentile(values: NDArray, percent: float) -> float:
    """Return a percentile of what is known; infinite if nothing is."""
    finite = np.asarray(values, float)
    finite = finite[np.isfinite(finite)]
    return float(np.percentile(finite, percent)) if len(finite) else np.inf
