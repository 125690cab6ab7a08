"""Matching of cells across days where simulated cells stop being kind.

Real footprints are irregular, overlap, differ between days in number, size and shape; images
differ in brightness and sharpness, tissue warps. Every variation below is put on simulated days
whose cells are known; prints, for each, the share of made matches that are right, of possible
ones that are found, the calibration error, and matches made between two animals. A smaller part
of a cell that was cut in two has no partner by these figures; `same_cell` and its calibration
error count it as its cell, whose activity it shows.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from pipeline.closed_loop.matching import FieldView, match_methods
from pipeline.rng import generator
from pipeline.simulate.microscope.cortex import Cortex, Day, two_days
from pipeline.simulate.score import calibration_error

Change = Callable[[Day, np.random.Generator], Day]


def part_of(cell: NDArray | int) -> NDArray | int:
    """Return the label of a part of a cell, below -1, and of a part its cell."""
    return -2 - cell


def irregular(day: Day, rng: np.random.Generator) -> Day:
    """Make footprints ragged and of other sizes, cut a tenth in two, let a tenth grow together."""
    masks = []
    for mask in day.masks:
        noise = gaussian_filter(rng.normal(size=mask.shape), 1.5)
        field = gaussian_filter(mask.astype(float), 1.0) + 0.9 * noise
        level = np.quantile(field[mask], rng.uniform(0.05, 0.6)) if mask.any() else 1.0
        near = cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        grown = near & (field >= level)
        masks.append(grown if grown.sum() >= 6 else mask)
    masks, cell = np.array(masks), day.cell.copy()
    drop = np.zeros(len(masks), bool)
    halves, owners = [], []
    centers = np.array([np.argwhere(m).mean(0) for m in masks])
    for k in np.flatnonzero(rng.random(len(masks)) < 0.1):  # the larger part keeps its cell
        side = (np.indices(masks[k].shape)[1] > centers[k, 1] + rng.uniform(-1, 2)) & masks[k]
        if 4 < side.sum() < masks[k].sum() - 4:
            halves.append(side)
            owners.append(part_of(cell[k]))
            masks[k] &= ~side
    for k in np.flatnonzero(rng.random(len(masks)) < 0.1):
        apart = np.hypot(*(centers - centers[k]).T)
        apart[[k, *np.flatnonzero(drop)]] = np.inf
        other = int(np.argmin(apart))
        if not drop[k] and apart[other] * day.um_per_px < 16:
            masks[k] |= masks[other]
            drop[other] = True
    keep = ~drop
    extra = np.array(halves, bool).reshape(-1, *masks.shape[1:])
    return replace(
        day,
        masks=np.concatenate([masks[keep], extra]),
        cell=np.concatenate([cell[keep], np.array(owners, cell.dtype)]),
    )


def noisy(day: Day, rng: np.random.Generator) -> Day:
    """Add noise of three times the detail of the images."""
    noise = [
        3 * np.std(im - gaussian_filter(im, 2)) * rng.normal(size=im.shape)
        for im in (day.mean_image, day.correlation_image)
    ]
    return replace(
        day,
        mean_image=(day.mean_image + noise[0]).astype(np.float32),
        correlation_image=(day.correlation_image + noise[1]).astype(np.float32),
    )


def bad_mean(day: Day, rng: np.random.Generator) -> Day:
    """Blur the mean image under a bright edge, and take the correlation image away."""
    y, x = np.indices(day.mean_image.shape) / max(day.mean_image.shape)
    blurred = gaussian_filter(day.mean_image, 6 / day.um_per_px) * (0.2 + 3 * x**2 + y)
    blurred = blurred + 0.05 * blurred.std() * rng.normal(size=blurred.shape)
    return replace(day, mean_image=blurred.astype(np.float32), correlation_image=None)


def unlike(day: Day, rng: np.random.Generator) -> Day:
    """Replace the mean image by one that shows nothing of the tissue."""
    noise = gaussian_filter(rng.normal(size=day.mean_image.shape), 2)
    return replace(day, mean_image=noise.astype(np.float32))


def warped(day: Day, rng: np.random.Generator) -> Day:
    """Bend the tissue smoothly by 3 to 5 px at most, over about 60 px."""
    h, w = day.mean_image.shape
    bend = np.array([gaussian_filter(rng.normal(size=(h, w)), 40) for _ in range(2)])
    bend *= rng.uniform(3, 5) / np.hypot(*bend).max()
    y, x = (axis.astype(np.float32) for axis in np.indices((h, w)))
    maps = (x + bend[1].astype(np.float32), y + bend[0].astype(np.float32))

    def move(image: NDArray) -> NDArray[np.float32]:
        return cv2.remap(
            image.astype(np.float32), *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
        )

    masks = np.array([move(mask) > 0.5 for mask in day.masks])
    keep = masks.sum((1, 2)) > 4
    correlation = day.correlation_image
    return replace(
        day,
        mean_image=move(day.mean_image),
        correlation_image=None if correlation is None else move(correlation),
        masks=masks[keep],
        cell=day.cell[keep],
    )


STRESSES: dict[str, tuple[dict, list[Change], list[Change]]] = {
    # name: parameters of two_days, changes of day 1, changes of day 2
    "as simulated": ({}, [], []),
    "irregular footprints": ({}, [irregular], [irregular]),
    "low SNR": ({}, [], [noisy]),
    "turnover of 40 %": ({"lost": 0.4}, [], []),
    "warp of 3-5 px": ({}, [], [warped]),
    "bad mean image": ({}, [], [bad_mean]),
    "mean image of nothing": ({}, [], [unlike]),
    "dense field": ({"dense": True}, [], []),
    "all but density": ({"lost": 0.3}, [irregular], [irregular, warped, noisy]),
}


def days_of(seed: int, settings: dict, size: int, um_per_px: float) -> tuple[Day, Day]:
    settings = dict(settings)
    if not settings.pop("dense", False):
        return two_days(seed, (size, size), um_per_px, **settings)[:2]
    cortex = Cortex(seed, (size * um_per_px / 2,) * 2, per_mm3=190_000)
    draw = generator(seed, "dense").permutation(len(cortex.zyx))
    lost = round(0.15 * len(draw))
    view = {"shift": (18.0, -15.0), "rotation": 2.0, "z": 3.0}
    return (
        cortex.view((size, size), um_per_px, (seed, 2), missing=draw[:lost]),
        cortex.view((size, size), um_per_px, (seed, 3), missing=draw[lost : 2 * lost], **view),
    )


def stress(name: str, seeds: range, size: int, um_per_px: float) -> dict[str, float]:
    settings, *changes = STRESSES[name]
    match = match_methods[match_methods.default]
    days = []
    for seed in seeds:
        pair = list(days_of(seed, settings, size, um_per_px))
        for place in (0, 1):
            for k, change in enumerate(changes[place]):
                pair[place] = change(pair[place], generator(seed, "stress", place, k))
        days.append(pair)

    def view(day: Day) -> FieldView:
        return FieldView(day.mean_image, day.correlation_image, day.masks, day.um_per_px)

    probability, right, same, possible, false, units = [], [], [], 0, 0, 0
    for k, (one, two) in enumerate(days):
        found = match(view(one), view(two))
        source, target = one.cell[found.pairs[:, 0]], two.cell[found.pairs[:, 1]]
        probability.extend(found.probability)
        right.extend((source == target) & (source >= 0))
        whole = [np.where(cell < -1, part_of(cell), cell) for cell in (source, target)]
        same.extend((whole[0] == whole[1]) & (whole[0] >= 0))
        possible += sum(cell >= 0 for cell in set(one.cell) & set(two.cell))
        other = days[(k + 1) % len(days)][1]
        false += len(match(view(one), view(other)).pairs)
        units += min(len(one.masks), len(other.masks))
    return {
        "units": float(np.mean([len(day.masks) for pair in days for day in pair])),
        "precision": float(np.mean(right)) if right else float("nan"),
        "recall": float(np.sum(right) / possible),
        "calibration_error": _calibration_error(probability, right),
        "same_cell": float(np.mean(same)) if same else float("nan"),
        "same_cell_calibration_error": _calibration_error(probability, same),
        "false_field": false / units,
    }


def _calibration_error(probability: list[float], right: list[bool]) -> float:
    return calibration_error(np.array(probability), np.array(right)) if right else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--animals", type=int, default=4)
    parser.add_argument("--first-seed", type=int, default=100)
    parser.add_argument("--size-px", type=int, default=200)
    parser.add_argument("--um-per-px", type=float, default=1.5)
    parser.add_argument("--only", choices=STRESSES, nargs="+", default=list(STRESSES))
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    seeds = range(given.first_seed, given.first_seed + given.animals)
    result = {}
    for name in given.only:
        result[name] = stress(name, seeds, given.size_px, given.um_per_px)
        if not given.json:
            numbers = "  ".join(f"{k} {v:.3f}" for k, v in result[name].items())
            print(f"{name:24s} {numbers}", flush=True)
    if given.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
