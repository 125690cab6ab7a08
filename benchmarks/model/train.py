"""Time of one training step of each encoder, alternating in one run; medians and ratios.

    python benchmarks/model/train.py                # speed of a step
    python benchmarks/model/train.py --accuracy     # both cores trained on simulated cells

The references are the SENSORIUM baseline (4 x 64 channels, depth-separable, 9x9 and 7x7 kernels,
Gaussian readout) and the convolutional model of Walker et al. (2019), as the published layer
library builds and lays them out. Where it cannot be imported (`pip install neuralpredictors`; this
project does not need it) both are built from this project's layers, channels first as there.
"""

from __future__ import annotations

import argparse
import collections
import collections.abc
import importlib.util
import json
import statistics
import sys
import time
import types
import warnings
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from pipeline import model
from pipeline.dataset import Dataset
from pipeline.simulate import Population, simulate_dataset

BATCH = 64
BASELINE = {"core": {"name": "separable"}}


def dataset(units: int, trials: int = 256, every: int = 8) -> Dataset:
    """Return noise; one image in so many validates, the others train."""
    rng = np.random.default_rng(0)
    return Dataset(
        images=rng.integers(0, 256, (trials, 36, 64), dtype=np.uint8),
        image_index=np.arange(trials),
        image_id=np.arange(trials),
        responses=rng.gamma(1.0, size=(trials, units)).astype(np.float32),
        tiers=np.where(np.arange(trials) % every == 0, "validation", "train"),
        behavior=rng.normal(size=(trials, 3)),
        pupil_center=rng.normal(size=(trials, 2)),
    )


def descend(predict: Callable, penalty: Callable, parameters: list, units: int) -> Callable:
    """Return a function that does one step: forward, Poisson loss, backward, Adam."""
    optimizer = torch.optim.Adam(parameters, lr=1e-4)
    images, responses = torch.randn(BATCH, 1, 36, 64), torch.rand(BATCH, units)
    behavior, pupil = torch.randn(BATCH, 3), torch.randn(BATCH, 2)

    def step() -> None:
        rate = predict(images, behavior, pupil)
        optimizer.zero_grad(set_to_none=True)
        loss = (rate - responses * torch.log(rate + 1e-8)).mean()
        (loss + penalty()).backward()
        optimizer.step()

    return step


def own(config: dict, units: int, channels_first: bool = False) -> Callable:
    """Return the step of an encoder of this project."""
    encoder = model.build_encoder(config, dataset(units)).train()
    if channels_first:
        encoder = encoder.to(memory_format=torch.contiguous_format)

    def predict(images, behavior, pupil):
        return encoder(images, behavior, pupil, torch.randn)

    return descend(predict, encoder.regulariser, list(encoder.parameters()), units)


def library():
    """Return cores, readouts and shifters of the published layer library, or None."""
    # its 0.3.0 predates Python 3.10, and names torchvision for a core that is not used here
    collections.Iterable = collections.abc.Iterable
    if "torchvision" not in sys.modules and importlib.util.find_spec("torchvision") is None:
        sys.modules["torchvision"] = types.ModuleType("torchvision")
    warnings.simplefilter("ignore")
    try:
        names = ("cores", "readouts", "shifters")
        return [importlib.import_module(f"neuralpredictors.layers.{name}") for name in names]
    except ImportError as error:
        print(f"written-out references: {error}", file=sys.stderr)
        return None


def published(which: str, units: int) -> tuple[Callable, bool]:
    """Return the step of 'baseline' or 'paper', and whether the library built it."""
    layers = library()
    if layers is None:
        config = model.complete_config(BASELINE) if which == "baseline" else model.paper_config()
        return own(config, units, channels_first=True), False
    cores, readouts, shifters = layers
    if which == "baseline":
        core = cores.Stacked2dCore(
            1, 64, 9, 7, layers=4, depth_separable=True, pad_input=False, stack=-1, gamma_input=6.4
        )
    else:
        core = cores.Stacked2dCore(
            1,
            32,
            15,
            7,
            layers=3,
            skip=3,
            pad_input=False,
            laplace_padding=1,
            gamma_input=50,
            gamma_hidden=0.1,
            input_regularizer="GaussianLaplaceL2",
        )
    with torch.no_grad():
        shape = core(torch.zeros(1, 1, 36, 64)).shape[1:]
    if which == "baseline":
        readout = readouts.FullGaussian2d(shape, units, bias=True, init_sigma=0.1)
    else:
        readout = readouts.PointPyramid2d(
            shape,
            units,
            scale_n=5,
            positive=False,
            bias=True,
            init_range=0.1,
            downsample=True,
            type="gauss5x5",
            mean_activity=torch.ones(units),
        )
    shifter = shifters.MLP(2, 5, 3)
    gain = nn.Sequential(nn.Linear(3, 10), nn.ReLU(), nn.Linear(10, 10), nn.ReLU())
    gain.append(nn.Linear(10, units))

    def predict(images, behavior, pupil):
        read = readout(core(images), shift=shifter(pupil))
        return nn.functional.elu(read * gain(behavior).exp()) + 1

    def penalty():
        return core.regularizer() + readout.regularizer()

    modules = nn.ModuleList([core, readout, shifter, gain])
    return descend(predict, penalty, list(modules.parameters()), units), True


def speed(rounds: int) -> dict[str, float]:
    baseline, from_library = published("baseline", 1000)
    steps = {
        "default_1000": own(model.default_config(), 1000),
        "default_5000": own(model.default_config(), 5000),
        "linear_1000": own(model.ln_config(), 1000),
        "paper_1000": own(model.paper_config(), 1000),
        "baseline_1000": own(model.complete_config(BASELINE), 1000),
        "published_baseline_1000": baseline,
        "published_paper_1000": published("paper", 1000)[0],
    }
    for step in steps.values():
        step()
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            start = time.process_time()
            step()
            seconds[name].append(time.process_time() - start)
    medians = {f"cpu_s_{name}": statistics.median(times) for name, times in seconds.items()}

    def ratio(a: str, b: str) -> float:
        pairs = zip(seconds[a], seconds[b], strict=True)
        return statistics.median(x / y for x, y in pairs)

    return medians | {
        "published_from_library": float(from_library),
        "default_over_published_baseline": ratio("default_1000", "published_baseline_1000"),
        "paper_over_published_paper": ratio("paper_1000", "published_paper_1000"),
        "linear_over_default": ratio("linear_1000", "default_1000"),
        "units_5000_over_1000": ratio("default_5000", "default_1000"),
    }


def accuracy(cells: int, images: int) -> dict[str, float]:
    """Train the default and the baseline's core to convergence; shares of the true rate's."""
    simulated = simulate_dataset(Population(1, cells), images, seed=1)
    data = Dataset(**simulated.arguments())
    test = data.trials("test")
    truth = model.metrics(data.responses[test], simulated.rates[test], data.image_id[test])
    ceiling = float(np.nanmean(truth["single_trial"]))
    result, curves = {}, {}
    for name, config in (("default", None), ("baseline", BASELINE)):
        encoder, curve = model.build_encoder(config, data), []
        start = time.process_time()

        def note(epoch: int, info: dict, start=start, curve=curve) -> None:
            curve.append((time.process_time() - start, info["best"]))

        model.train(encoder, data, progress=note)
        found = model.evaluate(model.Ensemble([encoder]), data).per_scan["single_trial"]
        result[f"{name}_of_ceiling_at_convergence"] = found / ceiling
        result[f"{name}_cpu_s"] = curve[-1][0]
        curves[name] = curve
    spent = curves["default"][-1][0]
    early = [best for seconds, best in curves["baseline"] if seconds <= spent]
    return result | {
        "default_validation": curves["default"][-1][1],
        "baseline_validation": curves["baseline"][-1][1],
        "baseline_validation_in_the_default_s": early[-1] if early else float("nan"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON only")
    parser.add_argument("--rounds", type=int, default=7, help="timed steps of each encoder")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--accuracy", action="store_true", help="train on simulated responses too")
    parser.add_argument("--cells", type=int, default=60)
    parser.add_argument("--images", type=int, default=800)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    result = speed(options.rounds)
    if options.accuracy:
        result |= accuracy(options.cells, options.images)
    if options.json:
        print(json.dumps(result, indent=1))
    else:
        for name, value in result.items():
            print(f"{name:38s} {value:10.4f}")


if __name__ == "__main__":
    main()
