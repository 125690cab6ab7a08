"""Outcome methods beside each other: false positives without an effect, power with one.

Two populations of neurons see their own MEI and a control in random order while their gain
wanders. "heavy" draws trials as `tools/twin_mouse.py` does: zero or exponential, with a squared
coefficient of variation (noise) that differs between neurons. "counts" draws gamma-Poisson counts
(noise: variance of their fast gain) under additive measurement noise, as the simulator's rigs do.
The slow gain follows pupil-like and running-like signals, each neuron by its own weights; the
comparison is told a part of its logarithm, with an error.

Prints for every population and noise: the share of neurons at p < 0.05 (uncorrected), of
experiments with any neuron significant after correction, of experiments whose test over neurons
(Wilcoxon) is significant and favors the MEI, or (no effect) is significant either way.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pipeline.closed_loop.verdict.outcome import outcome_methods
from pipeline.rng import generator

NOISES = {"heavy": (5.2, 2.2, 1.1, 0.4), "counts": (1.0, 0.3, 0.1)}
RATES = {"heavy": 2.0, "counts": 6.0}
GAIN_SD, KNOWN, ERROR_SD = 0.35, 0.8, 0.1  # of the log; share that is known; error of it
SPREAD = 0.15  # sd of the log ratio over neurons
METHODS = {
    "welch_bh": ("welch_bh", False, {}),
    "permutation, gain unknown": ("gain_permutation", False, {"n_permutations": 999}),
    "gain_permutation": ("gain_permutation", True, {"n_permutations": 999}),
}


def slow(rng: np.random.Generator, n: int, trials: int) -> NDArray[np.float64]:
    """Return a signal of unit variance that wanders over so many trials."""
    decay = np.exp(-np.arange(8 * trials) / trials)
    signal = np.convolve(rng.standard_normal(n + 8 * trials), decay, "valid")[:n]
    return signal / signal.std()


def heavy(rate: NDArray, noise: NDArray, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw trials that are 0 or gamma, of this mean and squared coefficient of variation."""
    active = np.minimum(1, 2 / (noise + 1))
    order = np.where(noise < 1, 1 / np.maximum(noise, 1e-6), 1.0)
    size = rng.gamma(np.broadcast_to(order, rate.shape)) / order * rate / active
    return np.where(rng.random(rate.shape) < active, size, 0.0)


def counts(rate: NDArray, noise: NDArray, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw counts under a fast gain of this variance, with measurement noise, never negative."""
    fast = rng.gamma(np.broadcast_to(1 / noise, rate.shape)) * noise
    return np.maximum(rng.poisson(rate * fast) + 0.5 * rng.normal(size=rate.shape), 0)


def experiment(
    rng: np.random.Generator, population: str, noise: float, ratio: float, n: int, repeats: int
) -> tuple[NDArray, NDArray, dict[str, list[str]], NDArray]:
    """Return responses (trials, neurons), images, own images and known gains of one day 2."""
    own = {kind: [f"{kind}{i}" for i in range(n)] for kind in ("mei", "gabor")}
    index = rng.permutation(np.repeat(np.arange(2 * n), repeats))
    trials = len(index)
    arousal, running = slow(rng, trials, 12), np.clip(slow(rng, trials, 6) - 0.3, 0, None)
    log_gain = (
        GAIN_SD
        / 1.3
        * (np.outer(arousal, rng.normal(1, 0.5, n)) + np.outer(running, rng.normal(0.4, 0.3, n)))
    )
    effect = np.log(ratio) + (SPREAD * rng.normal(size=n) if ratio != 1 else 0)
    rate = np.full((trials, n), 0.4)
    rate[np.arange(trials), index % n] = 1.0
    is_mei = index < n
    rate[is_mei, index[is_mei]] = np.exp(np.broadcast_to(effect, n))[index[is_mei]]
    level = RATES[population] * np.exp(0.3 * rng.normal(size=n))
    every = noise * np.exp(0.4 * rng.normal(size=n))
    draw = {"heavy": heavy, "counts": counts}[population]
    responses = draw(rate * level * np.exp(log_gain), every, rng)
    known = np.exp(KNOWN * log_gain + ERROR_SD * rng.normal(size=log_gain.shape))
    return responses, np.concatenate(list(own.values()))[index], own, known


def results(
    population: str, noise: float, ratio: float, n: int, repeats: int, days: int, seed: int
) -> Iterator[tuple[str, tuple[float, float, float]]]:
    found: dict[str, list] = {name: [] for name in METHODS}
    for day in range(days):
        rng = generator(seed, population, noise, ratio, day)
        responses, shown, own, known = experiment(rng, population, noise, ratio, n, repeats)
        for name, (method, told, params) in METHODS.items():
            more = {"gain": known} if told else {}
            result = outcome_methods[method](
                responses, shown, own, **more, n_bootstrap=1, seed=day, **params
            )
            row, each = result.populations.iloc[0], result.comparisons
            whole = row.wilcoxon_p < 0.05 and (ratio == 1 or row.median_difference > 0)
            hit = each.p < 0.05
            if ratio != 1:
                hit &= each.difference > 0
            found[name].append((hit.mean(), each.significant.any(), whole))
    for name, values in found.items():
        yield name, tuple(np.mean(np.array(values, float), axis=0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--neurons", type=int, default=30)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--days", type=int, default=300)
    parser.add_argument("--ratios", type=float, nargs="+", default=[1.0, 1.1, 1.3, 1.6])
    parser.add_argument("--population", choices=NOISES, nargs="+", default=list(NOISES))
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    print("population noise ratio method: neurons p < 0.05, any corrected, population")
    for population in given.population:
        for ratio in given.ratios:
            for noise in NOISES[population]:
                row = (population, noise, ratio, given.neurons, given.repeats, given.days)
                for name, (each, some, whole) in results(*row, given.seed):
                    print(
                        f"{population:7s} {noise:4g} {ratio:4g}  {name:26s} "
                        f"{each:.4f}  {some:.3f}  {whole:.3f}",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
