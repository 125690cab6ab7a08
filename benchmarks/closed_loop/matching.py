"""Matching of cells across days, on simulated animals whose cells are known.

Every animal is imaged twice: offset up to 30 um, rotation up to 3 degrees, magnification off by
1 %, depth off by up to 5 um, 15 % of the cells lost and as many new. Prints the share of made
matches that are right, of possible ones that are found, the calibration error of the
probabilities, matches made between two animals (a false field), and seconds per pair of fields.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import numpy as np

from pipeline.closed_loop.matching import FieldView, MatchResult, match_methods
from pipeline.simulate.microscope.cortex import Day, two_days
from pipeline.simulate.score import calibration_error


def view(day: Day) -> FieldView:
    return FieldView(day.mean_image, day.correlation_image, day.masks, day.um_per_px)


def one_to_one(result: MatchResult) -> bool:
    return all(len(set(column)) == len(column) for column in result.pairs.T)


def measure(
    method: str, seeds: range, shape: tuple[int, int], um_per_px: float
) -> dict[str, float]:
    """Match every animal with itself and with the next one."""
    match = match_methods[method]
    days = [two_days(seed, shape, um_per_px)[:2] for seed in seeds]
    probability, right, possible, unique, seconds = [], [], 0, True, []
    for one, two in days:
        start = time.process_time()
        result = match(view(one), view(two))
        seconds.append(time.process_time() - start)
        source, target = one.cell[result.pairs[:, 0]], two.cell[result.pairs[:, 1]]
        probability.extend(result.probability)
        right.extend((source == target) & (source >= 0))
        possible += len((set(one.cell) & set(two.cell)) - {-1})
        unique &= one_to_one(result)
    false = units = 0
    for k, (one, _) in enumerate(days):
        other = days[(k + 1) % len(days)][1]
        false += len(match(view(one), view(other)).pairs)
        units += min(len(one.masks), len(other.masks))
    return {
        "animals": len(days),
        "precision": float(np.mean(right)),
        "recall": float(np.sum(right) / possible),
        "possible": possible,
        "one_to_one": unique,
        "calibration_error": calibration_error(np.array(probability), np.array(right)),
        "false_field": false / units,
        "seconds": statistics.median(seconds),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--method", default=match_methods.default)
    parser.add_argument("--animals", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--size-px", type=int, default=256)
    parser.add_argument("--um-per-px", type=float, default=1.5)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    seeds = range(given.first_seed, given.first_seed + given.animals)
    result = measure(given.method, seeds, (given.size_px, given.size_px), given.um_per_px)
    if given.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name:20s} {value:.4g}")


if __name__ == "__main__":
    main()
