"""Matching of two scans of one field by their images: register, carry masks over, assign."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from pipeline.closed_loop.matching.assignment import Candidates, assign, odds, posterior, strangers
from pipeline.closed_loop.matching.base import (
    FieldView,
    MatchResult,
    Outlines,
    match_methods,
    outlines,
)
from pipeline.closed_loop.matching.place import chance_of_hits, same_field, why_nothing
from pipeline.closed_loop.matching.registration import Registration, align, apply

DISPLACED_UM = 20.0 * np.array([[0, 1], [1, 0], [0, -1], [-1, 0]])  # placements of strangers
ROUNDS = 3  # of matching and refitting


@match_methods.register("field_to_field", default=True, revision=3)
def field_to_field(
    source: FieldView,
    target: FieldView,
    *,
    max_distance_um: float = 10.0,
    min_probability: float = 0.5,
    max_shift_um: float = 50.0,
    max_rotation_deg: float = 6.0,
    smooth_um: float = 50.0,
) -> MatchResult:
    """Match the units of two scans of one field.

    The images are registered (rotation, shift, mild affine). Units that match without doubt then
    correct the affine and a smooth warp, each unit by the others only. Pairs are chosen one to
    one by a probability that weighs distance and overlap against the chance of a stranger
    there, and against the chance that this is another place altogether.

    Parameters
    ----------
    source, target : FieldView
    max_distance_um : float
        No pair is farther apart.
    min_probability : float
        Pairs below are not returned.
    max_shift_um, max_rotation_deg : float
        Range of the search.
    smooth_um : float
        Length over which tissue warps; 0: affine only.

    Returns
    -------
    MatchResult
        Without pairs if the fields are of two places; `finding` then says what was found instead.
    """
    found = align(source, target, max_shift_um=max_shift_um, max_rotation_deg=max_rotation_deg)
    result = match_registered(
        source,
        target,
        found,
        max_distance_um=max_distance_um,
        min_probability=min_probability,
        smooth_um=smooth_um,
    )
    if len(result.pairs):
        return result
    if not len(source.masks) or not len(target.masks):
        finding = f"no units: {len(source.masks)} in the source, {len(target.masks)} in the target"
    elif result.same_field > min_probability:
        finding = "the fields are one place, and no unit of one day lies on one of the other"
    else:
        finding = why_nothing(
            source, target, found, max_shift_um=max_shift_um, max_rotation_deg=max_rotation_deg
        )
    return replace(result, finding=finding)


def match_registered(
    source: FieldView,
    target: FieldView,
    found: Registration,
    *,
    max_distance_um: float,
    min_probability: float,
    smooth_um: float,
    hidden: NDArray[np.bool_] | None = None,
) -> MatchResult:
    """Match the units of two fields whose registration is known; parameters of `field_to_field`.

    Parameters
    ----------
    found : Registration
    hidden : array of bool, shape (source units,), optional
        Units that the target's plane cannot show.
    """
    left, right = outlines(source.masks), outlines(target.masks)
    transform = found.transform
    moved = apply(transform, left.centroid)
    unseen = np.zeros(len(source.masks), bool) if hidden is None else hidden
    density = len(target.masks) / float(np.prod(np.array(target.shape) * target.pixel_um))
    days_um = [o.centroid * v.pixel_um for o, v in ((left, source), (right, target))]
    radius = _radius_um(left, source, right, target)
    for turn in range(ROUNDS):
        candidates = _candidates(
            left,
            right,
            transform,
            np.where(unseen[:, None], np.nan, moved),
            target,
            max_distance_um,
        )
        visible = int((_inside(moved, target.shape) & ~unseen).sum())
        if turn == 0:  # before anything was fitted to the units
            seen = np.where(unseen[:, None], np.nan, moved) * target.pixel_um
            same = same_field(found, chance_of_hits(seen, days_um[1]))
            elsewhere = _displaced(left, right, transform, moved, target, max_distance_um)
        others = strangers(candidates.distance_um, days_um, density)
        ratio, _, sigma = odds(candidates, visible, others, elsewhere, radius_um=radius)
        probability = posterior(candidates, ratio)
        if turn == ROUNDS - 1:
            break
        sure = probability > 0.9
        s, t = candidates.source[sure], candidates.target[sure]
        transform = _refit(transform, left.centroid[s], right.centroid[t], target, found)
        moved = apply(transform, left.centroid)
        if smooth_um > 0:
            residual = (right.centroid[t] - moved[s]) * target.pixel_um
            moved = (
                moved
                + _warp(moved * target.pixel_um, s, residual, smooth_um, sigma) / target.pixel_um
            )
    probability = probability * same
    chosen, ambiguity = assign(candidates, probability, min_probability)
    return MatchResult(
        pairs=np.column_stack([candidates.source[chosen], candidates.target[chosen]]).astype(
            np.intp
        ),
        probability=probability[chosen],
        distance_um=candidates.distance_um[chosen],
        ambiguity=ambiguity,
        overlap=candidates.overlap[chosen],
        transform=transform,
        y_on_target=moved[:, 0],
        x_on_target=moved[:, 1],
        registration_score=found.score,
        same_field=same,
    )


def _radius_um(left: Outlines, source: FieldView, right: Outlines, target: FieldView) -> float:
    """Return the radius of a disc as large as the median unit."""
    areas = [
        len(pixels) * float(np.prod(view.pixel_um))
        for outline, view in ((left, source), (right, target))
        for pixels in outline.pixels
        if len(pixels)
    ]
    return float(np.clip(np.sqrt(np.median(areas) / np.pi), 3.0, 15.0)) if areas else 6.0


def _inside(yx: NDArray, shape: tuple[int, int]) -> NDArray[np.bool_]:
    with np.errstate(invalid="ignore"):  # an empty mask has no place
        return np.all((yx >= -0.5) & (yx <= np.array(shape) - 0.5), axis=1)


def _candidates(
    left: Outlines,
    right: Outlines,
    transform: NDArray,
    moved: NDArray,
    target: FieldView,
    max_distance_um: float,
) -> Candidates:
    """Return all pairs within the distance, with the overlap of the carried-over masks."""
    a, b = moved * target.pixel_um, right.centroid * target.pixel_um
    known = [np.flatnonzero(np.isfinite(x).all(1)) for x in (a, b)]
    pairs = np.empty((0, 2), np.intp)
    if len(known[0]) and len(known[1]):
        near = cKDTree(a[known[0]]).query_ball_tree(cKDTree(b[known[1]]), max_distance_um)
        listed = [(known[0][i], known[1][j]) for i, js in enumerate(near) for j in sorted(js)]
        pairs = np.array(listed, np.intp).reshape(-1, 2)
    s, t = pairs.T
    distance = np.linalg.norm(a[s] - b[t], axis=1)
    overlap = np.array(
        [_overlap(left.pixels[i], right.pixels[j], transform, moved[i]) for i, j in pairs]
    )
    return Candidates(s, t, distance, overlap.reshape(-1))


def _displaced(
    left: Outlines, right: Outlines, transform: NDArray, moved: NDArray, target: FieldView, reach
) -> Candidates:
    parts = [
        _candidates(left, right, transform, moved + step / target.pixel_um, target, reach)
        for step in DISPLACED_UM
    ]
    return Candidates(
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("source", "target", "distance_um", "overlap")
        )
    )


def _overlap(source: NDArray, target: NDArray, transform: NDArray, moved: NDArray) -> float:
    """Intersection over union of two masks, the first drawn on the target's pixels."""
    low = target.min(0) - 1
    size = (target.max(0) - low + 2).astype(int)
    mask = np.zeros(size, bool)
    mask[tuple((target - low).astype(int).T)] = True
    linear = transform[:, :2]
    # every target pixel of the frame and of the moved source, read back in the source's pixels
    reach = np.abs(linear @ (source - source.mean(0)).T).max(1) + 1
    first = np.floor(np.minimum(low, moved - reach)).astype(int)
    last = np.ceil(np.maximum(low + size, moved + reach)).astype(int)
    grid = np.moveaxis(np.mgrid[first[0] : last[0] + 1, first[1] : last[1] + 1], 0, -1).reshape(
        -1, 2
    )
    back = np.round((grid - moved) @ np.linalg.inv(linear).T + source.mean(0)).astype(int)
    origin = source.min(0).astype(int)
    box = np.zeros((source.max(0) - origin + 1).astype(int), bool)
    box[tuple((source - origin).astype(int).T)] = True
    place = back - origin
    valid = ((place >= 0) & (place < box.shape)).all(1)
    a = np.zeros(len(grid), bool)
    a[valid] = box[tuple(place[valid].T)]
    there = grid - low.astype(int)
    valid = ((there >= 0) & (there < mask.shape)).all(1)
    b = np.zeros(len(grid), bool)
    b[valid] = mask[tuple(there[valid].T)]
    union = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / union if union else 0.0


def _refit(
    transform: NDArray, source: NDArray, target: NDArray, view: FieldView, found: Registration
) -> NDArray[np.float64]:
    """Fit the affine to sure pairs, held at the images' registration by a few pseudo-pairs."""
    if len(source) < 6:
        return transform
    h, w = view.shape[0] - 1.0, view.shape[1] - 1.0
    anchor_t = np.array([[0, 0], [0, w], [h, 0], [h, w], [h / 2, w / 2]])
    linear, offset = found.transform[:, :2], found.transform[:, 2]
    anchor_s = (anchor_t - offset) @ np.linalg.inv(linear).T
    weight = np.concatenate([np.ones(len(source)), np.full(len(anchor_s), 1.0)])[:, None]
    design = np.column_stack([np.concatenate([source, anchor_s]), np.ones(len(weight))])
    goal = np.concatenate([target, anchor_t])
    fit, *_ = np.linalg.lstsq(design * weight, goal * weight, rcond=None)
    return fit.T


def _warp(
    moved_um: NDArray, pairs: NDArray, residual: NDArray, length_um: float, sigma: float
) -> NDArray[np.float64]:
    """Predict every unit's residual displacement (um) from the other sure pairs'.

    A Gaussian process of this length whose variance is that of the residuals beyond `sigma`; a
    unit never explains its own residual. Zero if the residuals have no common part.
    """
    n = len(pairs)
    result = np.zeros_like(moved_um)
    if n < 8:
        return result
    where = moved_um[pairs]
    kernel = np.exp(-0.5 * _squared(where, where) / length_um**2)
    off = ~np.eye(n, dtype=bool)
    # neighbors' residuals agree only if the tissue warps
    common = float((kernel * off * (residual @ residual.T)).sum() / (2 * (kernel**2 * off).sum()))
    if common <= 0.02:
        return result
    inverse = np.linalg.inv(kernel + sigma**2 / common * np.eye(n))
    weights = inverse @ residual
    loo = residual - weights / np.diag(inverse)[:, None]
    if ((loo - residual) ** 2).sum() >= (residual**2).sum():
        return result
    finite = np.isfinite(moved_um).all(1)
    across = np.exp(-0.5 * _squared(moved_um[finite], where) / length_um**2)
    result[finite] = across @ weights
    result[pairs] = loo
    return result


def _squared(a: NDArray, b: NDArray) -> NDArray[np.float64]:
    return ((a[:, None] - b[None]) ** 2).sum(-1)
