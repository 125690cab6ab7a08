"""Time of one training step of each encoder, alternating in one run; medians and ratios.

    python benchmarks/train.py --json            # speed of a step
    python benchmarks/train.py --accuracy        # and accuracy on a simulated population

The reference is the SENSORIUM baseline's architecture (4 x 64 channels, depth-separable, 9x9 and
7x7 kernels, Gaussian readout) built from this project's layers; where the published layer library
(neuralpredictors) is installed in the environment, its own is timed as well.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import numpy as np
import torch

from pipeline import model
from pipeline.dataset import Dataset

BATCH = 64


def dataset(units: int, trials: int = 256) -> Dataset:
    rng = np.random.default_rng(0)
    tiers = np.where(np.arange(trials) % 8 == 0, "validation", "train")
    return Dataset(
        images=rng.integers(0, 256, (trials, 36, 64), dtype=np.uint8),
        image_index=np.arange(trials),
        image_id=np.arange(trials),
        responses=rng.gamma(1.0, size=(trials, units)).astype(np.float32),
        tiers=tiers,
        behavior=rng.normal(size=(trials, 3)),
        pupil_center=rng.normal(size=(trials, 2)),
    )


CONFIGS = {
    "default": model.default_config,
    "linear": model.ln_config,
    "paper": model.paper_config,
    "baseline": lambda: model.complete_config({"core": {"name": "separable"}}),
}


def stepper(config: dict, units: int):
    """Return a function that does one training step, optimiser included."""
    data = dataset(units)
    encoder = model.build_encoder(config, data).train()
    loss = model.config.losses[config["loss"]["name"]]()
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=1e-4, weight_decay=0.0)
    images = encoder.zscore_images(data.images[:BATCH])
    behavior, pupil = torch.randn(BATCH, 3), torch.randn(BATCH, 2)
    responses = torch.as_tensor(data.responses[:BATCH])

    def step() -> None:
        rate = encoder(images, behavior, pupil, torch.randn)
        optimizer.zero_grad(set_to_none=True)
        (loss(rate, responses) + encoder.regulariser()).backward()
        optimizer.step()

    return step


def peer_stepper(units: int):
    """Return the step of the published layer library's baseline, or None if not installed."""
    try:
        from neuralpredictors.layers.cores import Stacked2dCore
        from neuralpredictors.layers.readouts import FullGaussian2d
    except ImportError:
        return None
    core = Stacked2dCore(
        1, 64, 9, 7, layers=4, depth_separable=True, pad_input=False, stack=-1, gamma_input=6.3831
    )
    with torch.no_grad():
        shape = core(torch.zeros(1, 1, 36, 64)).shape[1:]
    readout = FullGaussian2d(shape, units, bias=True, init_sigma=0.1)
    parameters = [*core.parameters(), *readout.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=1e-4)
    images, responses = torch.randn(BATCH, 1, 36, 64), torch.rand(BATCH, units)

    def step() -> None:
        rate = torch.nn.functional.elu(readout(core(images))) + 1
        optimizer.zero_grad(set_to_none=True)
        loss = (rate - responses * torch.log(rate + 1e-8)).mean()
        (loss + core.regularizer() + 1e-4 * readout.regularizer()).backward()
        optimizer.step()

    return step


def speed(rounds: int) -> dict[str, float]:
    steps = {f"{name}_1000": stepper(make(), 1000) for name, make in CONFIGS.items()}
    steps["default_5000"] = stepper(CONFIGS["default"](), 5000)
    peer = peer_stepper(1000)
    if peer is not None:
        steps["published_library_1000"] = peer
    for step in steps.values():
        step()
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            start = time.process_time()
            step()
            seconds[name].append(time.process_time() - start)
    medians = {f"cpu_s_{name}": statistics.median(times) for name, times in seconds.items()}
    reference = medians.get("cpu_s_published_library_1000", medians["cpu_s_baseline_1000"])
    return medians | {
        "default_over_baseline": medians["cpu_s_default_1000"] / reference,
        "linear_over_default": medians["cpu_s_linear_1000"] / medians["cpu_s_default_1000"],
        "units_5000_over_1000": medians["cpu_s_default_5000"] / medians["cpu_s_default_1000"],
    }


def accuracy(cells: int, images: int, members: int) -> dict[str, float]:
    from pipeline.simulate import Population, simulate_dataset

    simulated = simulate_dataset(Population(1, cells), images, seed=1)
    data = Dataset(**simulated.arguments())
    start = time.process_time()
    encoders = [model.build_encoder(None, data, seed) for seed in range(members)]
    for seed, encoder in enumerate(encoders):
        model.train(encoder, data, seed=seed)
    seconds = time.process_time() - start
    test = data.trials("test")
    truth = model.metrics(data.responses[test], simulated.rates[test], data.image_id[test])
    ceiling = float(np.nanmean(truth["single_trial"]))
    found = model.evaluate(model.Ensemble(encoders), data).per_scan
    return {
        "ceiling_single_trial": ceiling,
        "ensemble_of_ceiling": found["single_trial"] / ceiling,
        "member_of_ceiling": found["member_single_trial"] / ceiling,
        "fraction_oracle_frozen": found["fraction_oracle_frozen"],
        "cpu_s_per_member": seconds / members,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON only")
    parser.add_argument("--rounds", type=int, default=7, help="timed steps of each encoder")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--accuracy", action="store_true", help="train on simulated responses too")
    parser.add_argument("--cells", type=int, default=200)
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--members", type=int, default=4)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    result = speed(options.rounds)
    if options.accuracy:
        result |= accuracy(options.cells, options.images, options.members)
    if options.json:
        print(json.dumps(result, indent=1))
    else:
        for name, value in result.items():
            print(f"{name:28s} {value:10.4f}")


if __name__ == "__main__":
    main()
