"""Train the network on simulated recordings: `python -m pipeline.imaging.deconvolution.train`.

About seven minutes on one core. The same seed on the same machine gives the same weights; no
recording is read.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch.nn import functional

from pipeline.rng import derive_seed, generator

from .baseline import prepare
from .network import SpikeNetwork, describe
from .spiking import draw

WEIGHTS = Path(__file__).with_name("network.safetensors")
SLOWEST, FASTEST = 4.0, 60.0  # frames per second
CUT = 0.9  # share of the cosine after which training stops: the rate is 2 % of its highest there


def batch(
    seed: int, step: int, units: int, frames: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, float]:
    """Simulate one batch: normal trace, description, spikes, clean trace (noise units), fps.

    Every other batch is of recordings a quarter or twice as long, of as many samples in all.
    """
    rng = generator(seed, "deconvolution training", step)
    longer = rng.choice([0.25, 1, 1, 2])
    units, frames = max(1, int(units / longer)), int(frames * longer)
    fps = float(np.exp(rng.uniform(np.log(SLOWEST), np.log(FASTEST))))
    recording = draw(rng, units, frames, fps)
    ready = prepare(recording.trace, fps)
    told = describe(ready.normal, fps)
    known = rng.random(units) < 0.4
    precise = np.exp(rng.normal(0, 0.15, (2, units)))  # tables of kinetics are not exact
    full = describe(
        ready.normal,
        fps,
        recording.rise_s * precise[0],
        recording.decay_s * precise[1],
    )
    told[known] = full[known]
    noise = np.maximum(ready.noise, 1e-6)[:, None]
    clean = (recording.clean - np.median(recording.clean, axis=1, keepdims=True)) / noise
    arrays = (ready.normal, told, recording.spikes, clean.astype(np.float32))
    trace, features, spikes, calcium = (torch.from_numpy(array) for array in arrays)
    return trace, features, spikes, calcium, fps


def correlation(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return Pearson's r of rows."""
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    return (a * b).sum(1) / torch.sqrt((a**2).sum(1) * (b**2).sum(1) + 1e-6)


def loss_of(
    rate: torch.Tensor,
    clean: torch.Tensor,
    spikes: torch.Tensor,
    truth: torch.Tensor,
    fps: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the loss and the mean correlation with the spikes.

    Poisson likelihood for the scale; correlation of every unit, in frames and in bins of 100 ms,
    because that is what users compare; squared error of the trace without noise (any offset).
    """
    fires = spikes.sum(1) > 0
    r = correlation(rate, spikes)[fires].mean()
    width = max(1, round(0.1 * fps))
    coarse = [functional.avg_pool1d(x[:, None], width)[:, 0] for x in (rate, spikes)]
    r_coarse = correlation(*coarse)[fires].mean()
    poisson = (rate - spikes * torch.log(rate + 1e-4)).mean(1) / (spikes.mean(1) + 0.02)
    error = clean - truth
    error = error - error.mean(1, keepdim=True)
    squared = (error**2).mean(1) / (truth.var(1) + 1.0)
    fit = 0.2 * poisson.mean() + 0.15 * squared.clamp(max=5).mean()
    return (1 - r) + (1 - r_coarse) + fit, r


def train(
    *,
    steps: int = 2250,
    units: int = 48,
    frames: int = 1024,
    rate: float = 4e-3,
    seed: int = 0,
    log: bool = True,
) -> SpikeNetwork:
    """Train a network from nothing.

    Parameters
    ----------
    steps, units, frames : int
        Batches, and their size.
    rate : float
        Highest learning rate of Adam, reached after 5 % of the steps, falling as a cosine of which
        the share `CUT` is gone through.
    seed : int
    log : bool
        Print progress.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "deconvolution weights"))
        network = SpikeNetwork()
    optimizer = torch.optim.Adam(network.parameters(), lr=rate)

    def schedule(step: int) -> float:
        x = step * CUT / steps
        return min(1.0, (step + 1) * CUT / (0.05 * steps)) * (0.5 + 0.5 * np.cos(np.pi * x)) + 1e-3

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule)
    begin, average = time.process_time(), 0.0
    for step in range(steps):
        normal, told, spikes, truth, fps = batch(seed, step, units, frames)
        guess, clean = network(normal, told, fps)
        loss, r = loss_of(guess, clean, spikes, truth, fps)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0, error_if_nonfinite=True)
        optimizer.step()
        scheduler.step()
        average += (r.item() - average) / min(step + 1, 100)
        if log and (step + 1) % 100 == 0:
            spent = time.process_time() - begin
            print(f"step {step + 1}: r {average:.3f}, {spent:.0f} CPU s", flush=True)
    return network


def main() -> None:
    """Train and write the weights beside this file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=2250)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    network = train(steps=args.steps, seed=args.seed)
    weights = {name: value.detach().contiguous() for name, value in network.state_dict().items()}
    save_file(weights, args.out, metadata={"steps": str(args.steps), "seed": str(args.seed)})


if __name__ == "__main__":
    main()
