"""Matching of fields that are not one place, and of crowded footprints that are.

False places: the second day mirrored, turned, displaced beyond the search, or of another animal,
in crowded apertures without images and in simulated fields with images; prints how many of them
got a pair. True places: crowded apertures and, with `--suite2p FOLDER`, the regions that suite2p
found in a real field, put on several simulated days; prints the share of made matches that are
right, of possible ones that are found, of mutual nearest units that are matched, and calibration
errors.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_closing
from scipy.spatial import cKDTree

from pipeline.closed_loop.matching import FieldView, MatchResult, match_methods
from pipeline.closed_loop.matching.base import outlines
from pipeline.imaging.importers.suite2p import suite2p
from pipeline.rng import generator
from pipeline.simulate.microscope.cortex import two_days
from pipeline.simulate.microscope.footprints import FootprintDay, crowded_days
from pipeline.simulate.score import calibration_error

match = match_methods[match_methods.default]
NEAREST_UM = 8.0  # mutual nearest units farther apart are not counted
APERTURES = {
    "aperture, jitter 0.8 um": {"jitter_um": 0.8},
    "aperture, jitter 1.3 um": {},
    "aperture, jitter 2 um": {"jitter_um": 2.0},
    "aperture, 85 % found": {"found": 0.85, "jitter_um": 1.0},
    "aperture, 7 um apart": {"apart_um": 7.0, "n_cells": 1300, "clustering": 0.9},
}
TURNS: dict[str, Callable[[NDArray], NDArray]] = {
    "mirrored left to right": lambda a: a[..., ::-1],
    "mirrored top to bottom": lambda a: a[..., ::-1, :],
    "turned by 180": lambda a: a[..., ::-1, ::-1],
    "turned by 90": lambda a: np.swapaxes(a, -1, -2)[..., ::-1, :],
}


def view(day) -> FieldView:
    images = [getattr(day, name, None) for name in ("mean_image", "correlation_image")]
    return FieldView(*images, day.masks, day.um_per_px)


def turned(field: FieldView, turn: Callable) -> FieldView:
    images = [
        None if im is None else turn(im) for im in (field.mean_image, field.correlation_image)
    ]
    return FieldView(*images, turn(field.masks), field.um_per_px)


def false_places(seed: int, images: bool) -> Iterator[tuple[str, FieldView, FieldView]]:
    """Yield pairs of fields that are not one place."""
    if images:
        one, two = two_days(seed, (170, 170), 1.5)[:2]
        other = two_days(seed + 1000, (170, 170), 1.5)[1]
        far = two_days(seed, (170, 170), 1.5, offset=0.0)[0]
        far = FieldView(far.mean_image, far.correlation_image, far.masks, far.um_per_px)
        far = _cropped(far, 60)
    else:
        one, two = crowded_days(seed, 2)
        other = crowded_days(seed + 1000, 2)[1]
        far = view(crowded_days(seed, 2, offset_um=(75.0, -60.0))[1])
    for name, turn in TURNS.items():
        yield name, turned(view(one), turn), view(two)
    yield "displaced", view(one) if not images else _cropped(view(one), -60), far
    yield "another animal", view(one), view(other)


def _cropped(field: FieldView, px: int) -> FieldView:
    """Leave the left (px < 0) or right part of a field, so that content is displaced."""
    part = np.s_[..., px:] if px > 0 else np.s_[..., :px]
    masks = field.masks[part]
    keep = masks.reshape(len(masks), -1).sum(1) > 8
    images = [np.ascontiguousarray(im[part]) for im in (field.mean_image, field.correlation_image)]
    return FieldView(*images, masks[keep], field.um_per_px)


def suite2p_days(folder: Path, seed: int, n_days: int = 5) -> list[FootprintDay]:
    """Put real regions on days: three quarters a day, displaced, resized, the field bent."""
    found = suite2p(folder, fps=10.0)  # of which nothing is used here
    size, um = 640, 1.2
    days = []
    for day in range(n_days):
        rng = generator(seed, "suite2p", day)
        angle = np.deg2rad(rng.uniform(-2, 2)) if day else 0.0
        moved = rng.uniform(-20, 20, 2) / um if day else np.zeros(2)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        masks, cells = [], []
        for cell, whole in enumerate(found.masks):
            if rng.random() > 0.75:
                continue
            yx = np.argwhere(whole).astype(float)
            middle = yx.mean(0)
            sd = (3.0 if rng.random() < 0.05 else 1.0) / um  # a twentieth is far off
            bend = 1.5 / um * np.sin(middle[::-1] / 90 + day) if day else 0.0
            place = (middle - size / 2) @ turn.T + size / 2 + moved + bend + rng.normal(0, sd, 2)
            drawn = np.round((yx - middle) * rng.lognormal(0, 0.06, 2) @ turn.T + place).astype(int)
            drawn = drawn[((drawn >= 0) & (drawn < size)).all(1)]
            if len(drawn) < 5:
                continue
            mask = np.zeros((size, size), bool)
            mask[tuple(drawn.T)] = True
            low, high = np.maximum(drawn.min(0) - 2, 0), drawn.max(0) + 3
            box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
            mask[box] |= binary_closing(mask[box])
            masks.append(mask)
            cells.append(cell)
        days.append(FootprintDay(np.array(masks), np.array(cells), um))
    return days


def mutual_nearest(result: MatchResult, target: FieldView) -> set[tuple[int, int]]:
    """Return the pairs of units that are each other's nearest after registration."""
    moved = np.column_stack([result.y_on_target, result.x_on_target]) * target.pixel_um
    there = outlines(target.masks).centroid * target.pixel_um
    distance, nearest = cKDTree(there).query(moved)
    back = cKDTree(moved).query(there)[1]
    own = np.arange(len(moved))
    keep = (back[nearest] == own) & (distance <= NEAREST_UM)
    return set(zip(own[keep].tolist(), nearest[keep].tolist(), strict=True))


def true_places(days: list[list[FootprintDay]]) -> dict[str, float]:
    """Match the first day of every animal with its others."""
    probability, right, near, possible, mutual, kept = [], [], [], 0, 0, 0
    for one, *others in days:
        for two in others:
            result = match(view(one), view(two))
            pairs = set(map(tuple, result.pairs.tolist()))
            nearest = mutual_nearest(result, view(two))
            probability.extend(result.probability)
            right.extend(one.cell[result.pairs[:, 0]] == two.cell[result.pairs[:, 1]])
            near.extend(pair in nearest for pair in map(tuple, result.pairs.tolist()))
            possible += len(set(one.cell) & set(two.cell))
            mutual, kept = mutual + len(nearest), kept + len(nearest & pairs)
    p = np.array(probability)
    return {
        "pairs": len(p),
        "precision": float(np.mean(right)),
        "recall": float(np.sum(right) / possible),
        "calibration": calibration_error(p, np.array(right)),
        "mutual_nearest": kept / mutual,
        "calibration_nearest": calibration_error(p, np.array(near)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--animals", type=int, default=3)
    parser.add_argument("--days", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=400)
    parser.add_argument("--suite2p", type=Path, help="plane folder of suite2p")
    parser.add_argument("--only", choices=["false", "true"])
    given = parser.parse_args()
    seeds = range(given.first_seed, given.first_seed + given.animals)
    for images in (False, True) if given.only != "true" else ():
        counts: dict[str, list[MatchResult]] = {}
        for seed in seeds:
            for name, one, two in false_places(seed, images):
                counts.setdefault(name, []).append(match(one, two))
        where = "fields with images" if images else "apertures"
        for name, results in counts.items():
            with_pairs = sum(len(r.pairs) > 0 for r in results)
            same = max(r.same_field for r in results)
            print(f"{where}, {name}: {with_pairs} of {len(results)} with pairs, same <= {same:.2g}")
            print(f"    {results[0].finding}", flush=True)
    sets = {
        name: [crowded_days(seed, given.days, **how) for seed in seeds]
        for name, how in (APERTURES.items() if given.only != "false" else ())
    }
    if given.suite2p and given.only != "false":
        sets["suite2p's regions"] = [suite2p_days(given.suite2p, s, given.days) for s in seeds]
    for name, days in sets.items():
        numbers = "  ".join(f"{k} {v:.3f}" for k, v in true_places(days).items())
        print(f"{name:26s} {numbers}", flush=True)


if __name__ == "__main__":
    main()
