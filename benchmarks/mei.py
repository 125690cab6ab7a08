"""Stimulus synthesis: all neurons at once against one neuron at a time.

Both ways ascend the same objective under an untrained ensemble of the default encoder, alternating
in one run: the published way passes the whole image and all units of one neuron's image through
every member; ours reads each image by its own unit from the exact crop. Prints ratios and medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import numpy as np
import torch

from pipeline import model as models
from pipeline.dataset import Dataset
from pipeline.mei import synthesize
from pipeline.mei.gabor import draw


class OneByOne(torch.nn.Module):
    """The ensemble as a plain module: no crop, no reading of one unit."""

    def __init__(self, frozen: torch.nn.Module) -> None:
        super().__init__()
        self.frozen = frozen

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return all units' responses."""
        return self.frozen(images)


def ensemble(n_units: int, members: int) -> torch.nn.Module:
    rng = np.random.default_rng(0)
    n = 60
    data = Dataset(
        images=rng.integers(0, 256, (n, 36, 64)).astype(np.uint8),
        image_index=np.arange(n),
        image_id=np.arange(n),
        responses=rng.gamma(2.0, 1.0, (n, n_units)).astype(np.float32),
        tiers=np.repeat(["train", "validation", "test"], n // 3),
    )
    config = models.default_config()
    encoders = [models.build_encoder(config, data, seed=seed) for seed in range(members)]
    return models.Ensemble(encoders).frozen()


def seconds_per_mei(frozen, units, steps: int) -> float:
    params = {"steps": steps, "scouts": 1, "candidates": 1, "priors": "none"}
    start = time.process_time()
    synthesize(
        frozen,
        units,
        mean=frozen.frozen.image_mean if isinstance(frozen, OneByOne) else frozen.image_mean,
        sd=frozen.frozen.image_sd if isinstance(frozen, OneByOne) else frozen.image_sd,
        norm=12.0,
        params=params,
    )
    return (time.process_time() - start) / len(units)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--units", type=int, default=150)
    parser.add_argument("--members", type=int, default=4)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    frozen = ensemble(arguments.units, arguments.members)
    single = OneByOne(frozen)
    one, many, gabors = [], [], []
    for round_ in range(arguments.rounds):
        one.append(seconds_per_mei(single, [round_], arguments.steps))
        many.append(seconds_per_mei(frozen, range(arguments.units), arguments.steps))
        rows = torch.rand(4096, 6) * 5 + 3
        start = time.process_time()
        draw(rows, (36, 64), 12.0)
        gabors.append((time.process_time() - start) / len(rows))
    scale = 1000 / arguments.steps
    result = {
        "one_at_a_time_s_per_mei_1000_steps": statistics.median(one) * scale,
        "all_at_once_s_per_mei_1000_steps": statistics.median(many) * scale,
        "times_faster": statistics.median(a / b for a, b in zip(one, many, strict=True)),
        "gabor_ms": statistics.median(gabors) * 1e3,
        "units": arguments.units,
        "members": arguments.members,
        "steps": arguments.steps,
    }
    if arguments.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name:40s} {value:.4g}")


if __name__ == "__main__":
    main()
