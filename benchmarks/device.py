"""How long training and synthesis take on the device at hand, a GPU where there is one.

    python benchmarks/device.py                            # some minutes on a GPU
    python benchmarks/device.py --night                    # and four members, trained to the end
    python benchmarks/device.py --device cpu --units 1000  # about ten minutes

Wall time. Images and responses are noise, and the places of the neurons spread over the field: the
arithmetic is that of a recording, which is not at hand. Every line is printed when it is known.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from pipeline import model as models
from pipeline.device import pick_device
from pipeline.mei import synthesize
from pipeline.mei.controls import control_kinds

sys.path += [str(Path(__file__).resolve().with_name(stage)) for stage in ("mei", "model")]

from speed import NORM, SESSION, SHAPE, build_members, search_context
from train import dataset

IMAGES, VALIDATES = 4500, 10  # of a recording; one in so many validates
SEARCHED, BATCH = 50_000, 256  # natural images, and how many a bare forward pass takes
BANK_ROWS = 72_800  # of the published Gabor bank


def tell(name: str, **figures: object) -> None:
    print(json.dumps({"what": name, **figures}), flush=True)


def spread(encoder: models.Encoder, seed: int) -> models.Encoder:
    """Put the neurons all over the field: noise tells nothing of their places."""
    torch.manual_seed(seed)
    with torch.no_grad():
        encoder.readout.place.uniform_(-0.8, 0.8)
    return encoder


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Return the wall time of a call and of what it left to the GPU."""
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def training(units: int, epochs: int | None, members: int, device: torch.device) -> None:
    """Tell the time of an epoch, validation included; without `epochs`, of whole trainings."""
    data = dataset(units, IMAGES, VALIDATES)
    for seed in range(members):
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        encoder = spread(models.build_encoder(None, data, seed), seed)
        start = time.perf_counter()
        result = models.train(encoder, data, seed=seed, max_epochs=epochs, device=device)
        wall = time.perf_counter() - start
        ends = [row["seconds"] for row in result.history]
        each = np.diff(ends) if len(ends) > 1 else np.array(ends)  # the first one warms up
        more = {}
        if device.type == "cuda":
            more["peak_mib"] = round(torch.cuda.max_memory_allocated() / 2**20)
        tell(
            "training",
            units=units,
            member=seed,
            epochs=result.epochs,
            wall_s=round(wall, 2),
            epoch_s=round(float(statistics.median(each)), 3),
            validation=round(result.validation_correlation, 5),
            **more,
        )


def frozen_ensemble(members: int, device: torch.device) -> nn.Module:
    encoders = build_members(models.default_config(), SESSION, members)
    return models.Ensemble([spread(e, 0).to(device) for e in encoders]).frozen()


def synthesis(device: torch.device, neurons: int, steps: int) -> None:
    """Tell the time of MEIs, of the Gabor bank and of a search in natural images."""
    frozen = frozen_ensemble(4, device)
    scene = {"mean": frozen.image_mean, "sd": frozen.image_sd, "norm": NORM, "device": device}
    few = {"steps": 20}
    synthesize(frozen, range(neurons), params=few, **scene)  # warm
    found = {}

    def ascend() -> None:
        found["made"] = synthesize(frozen, range(neurons), params={"steps": steps}, **scene)

    wall = seconds(ascend, device)
    tell(
        "meis",
        neurons=neurons,
        steps=steps,
        members=4,
        wall_s=round(wall, 2),
        activation=round(float(np.median(found["made"].activations)), 4),
    )
    context = search_context(frozen, SEARCHED)

    @torch.no_grad()
    def bare() -> None:
        images = torch.randn(BATCH, 1, *SHAPE, device=device)
        for _ in range(40):
            frozen(images)

    bare()
    each = seconds(bare, device) / 40 / BATCH
    bank = {"shortlist": None, "refine": 0}
    for name, kind, n in (("search", "fni", SEARCHED), ("gabor bank", "gabor", BANK_ROWS)):
        params = bank if kind == "gabor" else {}
        wall = seconds(lambda k=kind, p=params: control_kinds[k](context, **p), device)
        tell(
            name,
            images=n,
            neurons=SESSION,
            wall_s=round(wall, 2),
            of_bare_forward=round(each * n / wall, 3),
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device")
    parser.add_argument("--units", type=int, nargs="*", default=[1000, 5000, 10_000])
    parser.add_argument("--epochs", type=int, default=4, help="of the timed trainings")
    parser.add_argument("--night", action="store_true", help="5,000 neurons, four members, whole")
    parser.add_argument("--neurons", type=int, default=150, help="whose MEIs are made")
    parser.add_argument("--steps", type=int, default=1000)
    arguments = parser.parse_args()
    device = pick_device(arguments.device)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    tell("device", gpu=name, torch=torch.__version__, threads=torch.get_num_threads())
    training(arguments.units[0] if arguments.units else 1000, 1, 1, device)  # warm
    for units in arguments.units:
        training(units, arguments.epochs, 1, device)
    if arguments.night:
        training(5000, None, 4, device)
    synthesis(device, arguments.neurons, arguments.steps)


if __name__ == "__main__":
    main()
