"""How near synthesis comes to the best image of simulated cells, asked of the cells themselves.

No network is trained: the model is the truth, so that what is missing is the ascent's fault. Drive
is the cell's response over that to the best image of the same norm (found from the cell's own
filters); similarity is the correlation with that image, which has no one answer for cells that
do not care for phase. The published recipe has no norm: its images are scaled to the same one.
"""

from __future__ import annotations

import argparse
import json

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.mei import synthesize
from pipeline.simulate import Population

NORM = 12.0


def truth(population: Population, method: str, seed: int = 1) -> tuple[NDArray, NDArray, NDArray]:
    """Return relative drive and similarity (cells,), and which cells were silent."""
    units = np.arange(population.n_cells)
    best_images, best = population.optimal_images(NORM)
    made = synthesize(
        population.torch_module(),
        units,
        mean=population.image_mean,
        sd=population.image_sd,
        norm=NORM,
        method=method,
        seed=seed,
    )
    z = population.zscore(made.images[:, 0])
    z = z - z.mean((1, 2), keepdims=True)
    z *= NORM / np.sqrt((z**2).sum((1, 2), keepdims=True)).clip(1e-9)
    with torch.no_grad():
        rates = population.module.forward_units(torch.as_tensor(z), torch.as_tensor(units)).numpy()
    pairs = zip(z, best_images, strict=True)
    similar = np.array([np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in pairs])
    return rates / best, similar, made.silent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=100)
    parser.add_argument("--seeds", type=int, nargs="+", default=[101, 102])
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    result = {}
    populations = [Population(seed, arguments.cells) for seed in arguments.seeds]
    kinds = np.concatenate([population.cells.kind for population in populations])
    for method in ("constrained", "walker2019"):
        parts = [truth(population, method) for population in populations]
        drive, similar, silent = (np.concatenate(values) for values in zip(*parts, strict=True))
        for kind in ["all", *np.unique(kinds)]:
            of_kind = (kinds == kind) | (kind == "all")
            result[f"{method}_{kind}"] = {
                "cells": int(of_kind.sum()),
                "silent": int(silent[of_kind].sum()),
                "drive_median": float(np.median(drive[of_kind])),
                "drive_lowest": float(drive[of_kind].min()),
                "similarity_median": float(np.median(similar[of_kind])),
                "similarity_lowest": float(similar[of_kind].min()),
            }
    if arguments.json:
        print(json.dumps(result))
        return
    for name, row in result.items():
        print(f"{name:24s} " + " ".join(f"{key} {value:.4g}" for key, value in row.items()))


if __name__ == "__main__":
    main()
