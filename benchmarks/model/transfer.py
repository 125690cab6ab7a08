"""A new scan with few images: readouts on a core trained elsewhere against training from scratch.

    python benchmarks/model/transfer.py --json          # about 10 minutes on one core

A core is trained on one simulated animal, then readouts of another animal's cells are fitted to
few images, beside the whole model trained from scratch on the same images in at least the same
CPU time. The figures are single-trial correlations on the test images over the true rate's.
"""

from __future__ import annotations

import argparse
import json
import math
import time

import numpy as np

from pipeline import model
from pipeline.dataset import Dataset
from pipeline.dataset.moments import correlate
from pipeline.simulate import Population, simulate_dataset


def scan(seed: int, cells: int, images: int) -> tuple[Dataset, float]:
    """Return a simulated scan and the true rate's mean single-trial correlation on its test."""
    simulated = simulate_dataset(
        Population(seed=seed, n_cells=cells), images, test_images=40, repeats=8, seed=seed
    )
    data = Dataset(**simulated.arguments())
    test = data.trials("test")
    return data, float(np.nanmean(correlate(data.responses[test], simulated.rates[test])))


def score(encoder: model.Encoder, data: Dataset, ceiling: float) -> float:
    found = model.evaluate(model.Ensemble([encoder]), data).per_scan["single_trial"]
    return round(found / ceiling, 4)


def timed(train, *arguments, **options) -> tuple[float, int]:
    """Return CPU seconds and epochs of a training."""
    start = time.process_time()
    epochs = train(*arguments, **options).epochs
    return round(time.process_time() - start, 1), epochs


def compare(source: model.Encoder, seed: int, cells: int, images: int, config: dict) -> dict:
    """Return scores and CPU seconds of both ways on one new scan."""
    data, ceiling = scan(seed, cells, images)
    transferred = model.transfer_core(source, data, seed)
    seconds, _ = timed(model.train_readout, transferred, data, seed=seed)
    scratch = model.build_encoder(config, data, seed)
    scratch_seconds, epochs = timed(model.train, scratch, data, seed=seed)
    short = model.build_encoder(config, data, seed)
    same = max(1, math.ceil(epochs * seconds / scratch_seconds))  # the schedule ends with it
    short_seconds, _ = timed(model.train, short, data, seed=seed, max_epochs=same)
    return {
        "images": images,
        "cells": cells,
        "transfer": score(transferred, data, ceiling),
        "transfer_cpu_s": seconds,
        "scratch_same_time": score(short, data, ceiling),
        "scratch_same_time_cpu_s": short_seconds,
        "scratch_whole": score(scratch, data, ceiling),
        "scratch_whole_cpu_s": scratch_seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--source-images", type=int, default=2000)
    parser.add_argument("--source-cells", type=int, default=150)
    parser.add_argument("--cells", type=int, default=60)
    parser.add_argument("--images", type=int, nargs="+", default=[250, 500, 1000])
    parser.add_argument("--config", type=json.loads, default={}, help="what differs from default")
    options = parser.parse_args()
    config = model.complete_config(options.config)
    data, ceiling = scan(1, options.source_cells, options.source_images)
    source = model.build_encoder(config, data, 1)
    seconds, _ = timed(model.train, source, data, seed=1)
    result = {
        "source": {"score": score(source, data, ceiling), "cpu_s": seconds},
        "scans": [
            compare(source, 100 + index, options.cells, images, config)
            for index, images in enumerate(options.images)
        ],
    }
    if options.json:
        print(json.dumps(result))
        return
    print(f"source: {result['source']['score']:.3f} of the ceiling in {seconds:.0f} CPU s")
    for row in result["scans"]:
        print("  ".join(f"{name} {value}" for name, value in row.items()))


if __name__ == "__main__":
    main()
