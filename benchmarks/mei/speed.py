"""Speed of synthesis for many neurons at once, against one neuron at a time as published.

Untrained ensembles suffice: the arithmetic is that of trained ones. The published loop ascends one
image at a time; every step passes the whole frame twice through every member as it was trained
(batch norm, readouts of all units, weights that ask for gradients), and goes back through both
passes, as its step is the sum of two evaluations of which one is multiplied by 0. `lean` is the
same loop done well: one pass forwards and one back, for the image only. Ours reads each image by
its own unit, from the exact receptive-field crop where there is one. All are timed in turns in one
run, on a few neurons and steps, per neuron and step. Prints medians of ratios, in CPU time of one
thread.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from pipeline import model as models
from pipeline.dataset import Dataset
from pipeline.mei import synthesize
from pipeline.mei.controls import ControlContext, control_kinds
from pipeline.mei.gabor import draw

SHAPE = (36, 64)
NORM = 12.0
SESSION = 1000  # units of the data set, of which the published model computes every one


class OneByOne(nn.Module):
    """The ensemble as one would write it: every member in full, the mean of all units."""

    def __init__(self, encoders: list[nn.Module]) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(encoders)
        self.eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return all units' responses."""
        rates = [encoder(images) * encoder.response_scale for encoder in self.encoders]
        return torch.stack(rates).mean(0)

    def ascend(self, unit: int, steps: int, *, published: bool) -> torch.Tensor:
        """Climb from noise on the sphere of the norm, by one published step after the other."""
        self.requires_grad_(published)
        image = torch.randn(1, 1, *SHAPE)
        for _ in range(steps):
            image.requires_grad_(True)
            value = self(image)[0, unit]
            if published:
                value = value + 0 * self(image)[0, unit]
            value.backward()
            with torch.no_grad():
                gradient = image.grad
                image = image + 0.1 * NORM * gradient / gradient.norm().clamp_min(1e-12)
                image = image - image.mean()
                image = image * (NORM / image.norm())
        return image


def build_members(config: dict, n_units: int, members: int) -> list[nn.Module]:
    """Return untrained encoders of noise data, features of both signs as training makes them."""
    rng = np.random.default_rng(0)
    n = 60
    data = Dataset(
        images=rng.integers(0, 256, (n, *SHAPE)).astype(np.uint8),
        image_index=np.arange(n),
        image_id=np.arange(n),
        responses=rng.gamma(2.0, 1.0, (n, n_units)).astype(np.float32),
        tiers=np.repeat(["train", "validation", "test"], n // 3),
        behavior=rng.normal(size=(n, 3)).astype(np.float32),
        pupil_center=rng.normal(size=(n, 2)).astype(np.float32),
    )
    encoders = []
    for seed in range(members):
        encoder = models.build_encoder(config, data, seed=seed).eval()
        torch.manual_seed(seed)
        with torch.no_grad():
            encoder.readout.features.normal_(0, 0.3)
        encoders.append(encoder)
    return encoders


def cpu_seconds(work: Callable[[], object]) -> float:
    """Return the CPU time of one call."""
    start = time.process_time()
    work()
    return time.process_time() - start


class Comparison:
    """One kind of network, all ways."""

    def __init__(self, config: dict, members: int, steps: int, steps_at_once: int) -> None:
        encoders = build_members(config, SESSION, members)
        self.one_by_one = OneByOne(encoders)
        self.frozen = models.Ensemble(encoders).frozen()
        self.scene = {"mean": self.frozen.image_mean, "sd": self.frozen.image_sd, "norm": NORM}
        self.steps, self.steps_at_once = steps, steps_at_once
        self.error = 0.0

    def one_at_a_time(self, units: range, published: bool) -> float:
        """Return CPU seconds per neuron and step."""
        seconds = cpu_seconds(
            lambda: [self.one_by_one.ascend(u, self.steps, published=published) for u in units]
        )
        return seconds / len(units) / self.steps

    def all_at_once(self, units: range) -> float:
        """Return CPU seconds per neuron and step; checks activations by the whole model."""
        # one start, not searched for, as the published way has it
        params = {"steps": self.steps_at_once, "scouts": 1, "candidates": 1, "priors": "none"}
        start = time.process_time()
        made = synthesize(self.frozen, units, params=params, **self.scene)
        seconds = time.process_time() - start
        few = slice(0, 8)
        z = (made.images[few] - self.scene["mean"]) / self.scene["sd"]
        with torch.no_grad():
            answer = self.one_by_one(torch.as_tensor(z, dtype=torch.float32))
        own = answer.numpy()[np.arange(len(z)), np.asarray(units)[few]]
        error = np.abs(own / made.activations[few] - 1).max()
        self.error = max(self.error, float(error))
        return seconds / len(units) / self.steps_at_once

    def run(self, rounds: int, n_one: int, n_many: int) -> dict[str, float]:
        """Return the medians over rounds in which all ways take turns."""
        rows = []
        for i in range(rounds):
            some = range(i * n_one, (i + 1) * n_one)
            published = self.one_at_a_time(some, True)
            many = self.all_at_once(range(n_many))
            rows.append((published, self.one_at_a_time(some, False), many))
        return {
            "published_ms_per_step": 1e3 * statistics.median(row[0] for row in rows),
            "lean_ms_per_step": 1e3 * statistics.median(row[1] for row in rows),
            "all_at_once_ms_per_step": 1e3 * statistics.median(row[2] for row in rows),
            "times_faster": statistics.median(row[0] / row[2] for row in rows),
            "times_faster_than_lean": statistics.median(row[1] / row[2] for row in rows),
            "largest_relative_error": self.error,
        }


def search_context(frozen: nn.Module, n_natural: int) -> ControlContext:
    """Return noise instead of natural images to search for every unit, and instead of MEIs."""
    rng = np.random.default_rng(0)
    natural = rng.integers(0, 256, (n_natural, *SHAPE)).astype(np.uint8)
    return ControlContext(
        cnn=frozen,
        ln=frozen,
        units=np.arange(SESSION),
        mei_images=rng.normal(frozen.image_mean, 20, (SESSION, *SHAPE)).astype(np.float32),
        mei_masks=None,
        image_mean=frozen.image_mean,
        image_sd=frozen.image_sd,
        natural=natural,
        norm=NORM,
        seed=0,
    )


def search_throughput(frozen: nn.Module, rounds: int) -> dict[str, float]:
    """Return speed of Gabor bank and natural-image search as shares of the bare forward pass."""
    context = search_context(frozen, 1024)
    # a sixth of the published places: with less, what is done once for the whole bank shows
    bank = {"n_dy": 3, "n_dx": 5, "shortlist": None, "refine": 0}
    n_bank = 4 * 5 * 8 * 5 * 3 * 5

    @torch.no_grad()
    def bare(n: int) -> float:
        images = torch.randn(256, 1, *SHAPE)
        return cpu_seconds(lambda: [frozen(images) for _ in range(8)]) / 2048 * n

    shares = {"gabor_bank": [], "natural_search": []}
    for _ in range(rounds):
        full = cpu_seconds(lambda: control_kinds["fni"](context, top_k=5))
        shares["natural_search"].append(bare(len(context.natural)) / full)
        full = cpu_seconds(lambda: control_kinds["gabor"](context, **bank))
        shares["gabor_bank"].append(bare(n_bank) / full)
    return {f"{name}_of_bare_forward": statistics.median(v) for name, v in shares.items()}


def gabor_ms() -> float:
    """Return milliseconds to draw one Gabor."""
    rows = torch.rand(4096, 6) * 5 + 3
    return min(cpu_seconds(lambda: draw(rows, SHAPE, NORM)) for _ in range(3)) / len(rows) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--units", type=int, default=150, help="neurons at once")
    parser.add_argument("--members", type=int, default=4)
    parser.add_argument("--steps", type=int, default=10, help="one at a time")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    point = Comparison(models.default_config(), arguments.members, arguments.steps, 100)
    result = {"point_readout": point.run(arguments.rounds, 2, arguments.units)}
    # 32 images are enough to fill a batch of whole frames
    pyramid = Comparison(models.paper_config(), arguments.members, 3, 10)
    result["pyramid_readout"] = pyramid.run(max(1, arguments.rounds - 1), 1, 32)
    result["search"] = search_throughput(point.frozen, max(1, arguments.rounds - 1))
    result["gabor_ms"] = gabor_ms()
    result["settings"] = {k: v for k, v in vars(arguments).items() if k != "json"}
    if arguments.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        for row in value.items() if isinstance(value, dict) else [("", value)]:
            print(f"{name + ' ' + row[0]:50s} {row[1]:.4g}")


if __name__ == "__main__":
    main()
