"""Matching of cells through a structural stack of a brain that is not rigid, on simulated animals.

Two days of one field, each registered to a stack: offset up to 30 um, rotation up to 3 degrees,
depth off by up to 5 um, 15 % of the cells lost and as many new. The tissue of the stack and of day
2 is bent, each in its own way, smoothly by at most 3 to 5 um. Prints the share of made matches that
are right, of possible ones that are found, and the calibration error of the probabilities, with and
without the non-rigid step, of the route through the stack, of the direct one, and of both combined.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from pipeline.closed_loop.matching import FieldView, MatchResult, match_methods
from pipeline.closed_loop.matching.combine import combine
from pipeline.closed_loop.matching.stack import StackView, match_through_stack, register_to_stack
from pipeline.rng import generator
from pipeline.simulate.microscope.cortex import Cortex, Day
from pipeline.simulate.score import calibration_error

LENGTH_UM = 60.0  # sd of the Gaussian that smooths the displacement of the tissue
TOP_UM, STEP_UM, VOXEL_UM = 40.0, 4.0, 2.0


def bent(
    images: NDArray, um_per_px: float, most_um: tuple[float, float], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Displace all images (n, H, W) by one smooth field of vectors, `most_um` at its largest."""
    shape = images.shape[1:]
    bend = np.array(
        [gaussian_filter(rng.normal(size=shape), LENGTH_UM / um_per_px) for _ in range(2)]
    )
    bend *= rng.uniform(*most_um) / um_per_px / np.hypot(*bend).max()
    y, x = (axis.astype(np.float32) for axis in np.indices(shape))
    maps = (x + bend[1].astype(np.float32), y + bend[0].astype(np.float32))
    border = cv2.BORDER_REFLECT
    return np.array(
        [
            cv2.remap(i.astype(np.float32), *maps, cv2.INTER_LINEAR, borderMode=border)
            for i in images
        ]
    )


def animal(
    seed: int, size_px: int, um_per_px: float, bend_um: tuple[float, float]
) -> tuple[StackView, Day, Day]:
    """Return a stack and two days of the same field."""
    rng = generator(seed, "stack days")
    half = size_px * um_per_px / 2
    cortex = Cortex(seed, (half, half), depth_um=TOP_UM + 10)
    stack = cortex.stack(
        np.arange(-TOP_UM, TOP_UM + 1, STEP_UM),
        VOXEL_UM,
        (seed, 9),
        shift=rng.uniform(-15, 15, 2),
        rotation=rng.uniform(-2, 2),
    )
    draw = rng.permutation(len(cortex.zyx))
    k = round(0.15 * len(draw))
    angle, length = rng.uniform(0, 2 * np.pi), 30 * np.sqrt(rng.uniform(0.2, 1))
    one = cortex.view((size_px, size_px), um_per_px, (seed, 1), missing=draw[:k])
    two = cortex.view(
        (size_px, size_px),
        um_per_px,
        (seed, 2),
        missing=draw[k : 2 * k],
        shift=length * np.array([np.sin(angle), np.cos(angle)]),
        rotation=rng.uniform(-3, 3),
        z=rng.uniform(-5, 5),
    )
    volume = stack.volume
    if max(bend_um) > 0:
        volume = bent(volume, VOXEL_UM, bend_um, rng)
        shown = bent(
            np.concatenate([[two.mean_image, two.correlation_image], two.masks]),
            um_per_px,
            bend_um,
            rng,
        )
        masks = shown[2:] > 0.5
        keep = masks.sum((1, 2)) > 4
        two = replace(
            two,
            mean_image=shown[0],
            correlation_image=shown[1],
            masks=masks[keep],
            cell=two.cell[keep],
        )
    return StackView(volume, stack.um_per_voxel), one, two


def view(day: Day) -> FieldView:
    return FieldView(day.mean_image, day.correlation_image, day.masks, day.um_per_px)


def measure(
    seeds: range, size_px: int, um_per_px: float, bend_um: tuple[float, float]
) -> dict[str, dict[str, float]]:
    """Match every animal on every route."""
    made: dict[str, list[tuple[NDArray, NDArray]]] = {}
    possible, seconds = 0, []
    for seed in seeds:
        stack, one, two = animal(seed, size_px, um_per_px, bend_um)
        possible += len((set(one.cell) & set(two.cell)) - {-1})
        fields = view(one), view(two)
        start = time.process_time()
        placed = tuple(register_to_stack(field, stack) for field in fields)
        seconds.append(time.process_time() - start)
        for name, smooth in (("non-rigid", 50.0), ("affine", 0.0)):
            through = match_through_stack(*fields, placed, smooth_um=smooth)
            direct = match_methods[match_methods.default](*fields, smooth_um=smooth)
            both = combine([(r.pairs, r.probability) for r in (direct, through)])
            for route, found in (("stack", through), ("direct", direct), ("both", both)):
                right = right_pairs(found, one, two)
                made.setdefault(f"{route}, {name}", []).append((found.probability, right))
    result = {}
    for route, days in made.items():
        probability, right = (np.concatenate(values) for values in zip(*days, strict=True))
        result[route] = {
            "precision": float(right.mean()),
            "recall": float(right.sum() / possible),
            "calibration_error": calibration_error(probability, right),
        }
    result["all"] = {"possible": possible, "seconds": float(np.median(seconds))}
    return result


def right_pairs(found: MatchResult, one: Day, two: Day) -> NDArray[np.bool_]:
    pairs = np.asarray(found.pairs, int).reshape(-1, 2)
    source, target = one.cell[pairs[:, 0]], two.cell[pairs[:, 1]]
    return (source == target) & (source >= 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--animals", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--size-px", type=int, default=256)
    parser.add_argument("--um-per-px", type=float, default=1.5)
    parser.add_argument("--bend-um", type=float, nargs=2, default=[3.0, 5.0])
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    seeds = range(given.first_seed, given.first_seed + given.animals)
    result = measure(seeds, given.size_px, given.um_per_px, tuple(given.bend_um))
    if given.json:
        print(json.dumps(result))
        return
    for route, row in result.items():
        print(f"{route:20s}", "  ".join(f"{name} {value:.3g}" for name, value in row.items()))


if __name__ == "__main__":
    main()
