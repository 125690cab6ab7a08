"""The verdict of a loop on simulated days whose truth is known.

Null control: day-2 responses unrelated to the images, so that every positive is false. Prints the
share of neurons with an uncorrected p below alpha, of days on which any neuron is significant
after correction, and of days on which the population tests are significant.

Power: an animal whose MEIs drive its neurons a known factor better than a control. From the
natural images of day 1 the share of neurons that will be significant is predicted, and compared
with what simulated days show. The neurons' noise (sub- to super-Poisson counts under measurement
noise) is not the gamma noise that the prediction assumes.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np
from numpy.typing import NDArray

from pipeline.closed_loop.outcome import outcome_methods
from pipeline.closed_loop.power import fit_noise, simulate_power
from pipeline.rng import generator
from pipeline.simulate.behaviour import simulate_animal
from pipeline.simulate.population import IMAGE_MEAN, IMAGE_SD, Population
from pipeline.simulate.responses import gamma_poisson, simulate_dataset

ALPHA = 0.05
MEASUREMENT_SD = 0.5
TRIAL_S, DURATION_S = 0.9, 0.5
NORM = 10.0  # of the best images, in z-scored pixels
CALIBRATION_TRIALS = 200


def noisy(animal: Population, mean: NDArray, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw responses (trials, neurons) of given expected counts, never negative as activity is."""
    cells = animal.cells
    counts = gamma_poisson(mean, cells.noise_order, cells.noise_gain_var, rng)
    return np.maximum(counts + MEASUREMENT_SD * rng.normal(size=counts.shape), 0)


def states(animal: Population, n: int, rng: np.random.Generator) -> tuple[NDArray, NDArray]:
    """Return behaviour (n, 3) and gaze (n, 2) of an animal that runs, rests and looks around."""
    onset = TRIAL_S * np.arange(n)
    state = simulate_animal(onset[-1] + TRIAL_S, rng, pupil_mean_px=tuple(animal.pupil_mean_px))
    return state.behavior(onset + 0.3), state.gaze(onset + 0.3)


def counts(animal: Population, z: NDArray, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return responses (trials, neurons) to z-scored images, one a trial, in a wandering state."""
    behavior, gaze = states(animal, len(z), rng)
    grey = IMAGE_MEAN + IMAGE_SD * z
    rates = animal.drive(grey, behavior=behavior, gaze=gaze)
    return noisy(animal, DURATION_S * rates, rng)


def of_strength(
    animal: Population, best: NDArray, wanted: NDArray, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return every neuron's best image at the contrast at which it responds as wanted on average.

    The second array says which neurons ever do: rates saturate.

    Parameters
    ----------
    best : array, shape (neurons, h, w)
        Best images, z-scored.
    wanted : array, shape (neurons,)
        Mean response over trials.
    """
    neurons, contrast = len(best), np.geomspace(0.2, 4.0, 9)
    rows = np.repeat(np.arange(neurons), CALIBRATION_TRIALS)
    order = rng.permutation(len(rows))
    reached = np.empty((len(contrast), neurons))
    for k, factor in enumerate(contrast):
        answer = counts(animal, factor * best[rows[order]], rng)
        own = answer[np.argsort(order), rows].reshape(neurons, -1)
        reached[k] = own.mean(1)
    reached = np.maximum.accumulate(reached, 0) + 1e-9 * np.arange(len(contrast))[:, None]
    factor = [np.interp(w, r, contrast) for w, r in zip(wanted, reached.T, strict=True)]
    return np.asarray(factor, np.float32)[:, None, None] * best, wanted <= reached[-1]


def images_of(neurons: int, kinds: tuple[str, ...] = ("mei", "rf")) -> dict[str, list[str]]:
    return {kind: [f"{kind}{i}" for i in range(neurons)] for kind in kinds}


def null_control(days: int, neurons: int, repeats: int, seed: int) -> dict[str, float]:
    """Score days whose responses do not know the image."""
    score = outcome_methods[outcome_methods.default]
    animal = Population(seed, neurons)
    own = images_of(neurons)
    shown = np.repeat(np.concatenate(list(own.values())), repeats)
    uncorrected, any_neuron, wilcoxon, bootstrap = [], [], [], []
    for day in range(days):
        rng = generator(seed, "null", day)
        level = rng.gamma(2.0, 0.5, neurons)
        responses = noisy(animal, np.broadcast_to(level, (len(shown), neurons)), rng)
        result = score(responses, rng.permutation(shown), own, alpha=ALPHA, n_bootstrap=500)
        uncorrected.append((result.comparisons.p < ALPHA).mean())
        any_neuron.append(bool(result.comparisons.significant.any()))
        row = result.populations.iloc[0]
        wilcoxon.append(row.wilcoxon_p < ALPHA)
        bootstrap.append(row.bootstrap_p < ALPHA)
    return {
        "null_days": days,
        "null_neurons_uncorrected": float(np.mean(uncorrected)),
        "null_days_any_neuron": float(np.mean(any_neuron)),
        "null_days_wilcoxon": float(np.mean(wilcoxon)),
        "null_days_bootstrap": float(np.mean(bootstrap)),
    }


def power(days: int, neurons: int, repeats: int, ratio: float, seed: int) -> dict[str, float]:
    """Predict the power of an animal from its day 1, and count what its day 2 shows."""
    score = outcome_methods[outcome_methods.default]
    animal = Population(seed, neurons)
    natural = simulate_dataset(
        animal, 200, test_images=60, repeats=10, seed=seed, measurement_sd=MEASUREMENT_SD
    )
    test = natural.tiers == "test"
    noise = fit_noise(np.maximum(natural.responses[test], 0), natural.image_id[test])
    own = images_of(neurons)
    shown = np.repeat(np.concatenate(list(own.values())), repeats)
    images = np.repeat(np.arange(2 * neurons), repeats)
    rng = generator(seed, "contrast")
    best, _ = animal.optimal_images(NORM)
    strength = {"mei": ratio * noise.control_mean, "rf": noise.control_mean}
    made = [of_strength(animal, best, strength[kind], rng) for kind in own]
    pictures = np.concatenate([images_ for images_, _ in made])
    able = np.flatnonzero(made[0][1] & made[1][1])
    found, whole, ratios = [], [], []
    for day in range(days):
        rng = generator(seed, "effect", day)
        order = rng.permutation(len(images))
        responses = counts(animal, pictures[images[order]], rng)
        chosen = {kind: [ids[i] for i in able] for kind, ids in own.items()}
        result = score(responses[:, able], shown[order], chosen, alpha=ALPHA, n_bootstrap=1)
        row = result.populations.iloc[0]
        found.append(row.fraction_significant)
        ratios.append(row.median_ratio)
        whole.append(row.wilcoxon_p < ALPHA and row.median_difference > 0)
    # rates saturate and gaze wanders: what the images really do is measured, not what was asked
    true_ratio = float(np.mean(ratios))
    plan = simulate_power(
        noise.take(able),
        n_neurons=len(able),
        repeats=repeats,
        ratios=[true_ratio],
        n_simulations=100,
        seed=seed,
    )
    return {
        "ratio_asked": ratio,
        "ratio_true": true_ratio,
        "neurons": len(able),
        "power_planned": float(plan.per_neuron[0]),
        "power_achieved": float(np.mean(found)),
        "population_planned": float(plan.population[0]),
        "population_achieved": float(np.mean(whole)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--days", type=int, default=200)
    parser.add_argument("--neurons", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--ratios", type=float, nargs="+", default=[1.5, 2.0, 3.0])
    parser.add_argument("--power-days", type=int, default=6)
    parser.add_argument("--animals", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    start = time.perf_counter()
    result = null_control(given.days, given.neurons, given.repeats, given.seed)
    result["power"] = [
        {"animal": seed, **power(given.power_days, given.neurons, given.repeats, ratio, seed)}
        for seed in range(given.seed, given.seed + given.animals)
        for ratio in given.ratios
    ]
    gaps = [abs(row["power_planned"] - row["power_achieved"]) for row in result["power"]]
    result["largest_power_gap"] = max(gaps)
    result["seconds"] = time.perf_counter() - start
    if given.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        for row in value if isinstance(value, list) else []:
            print("  ".join(f"{k} {v:.3g}" for k, v in row.items()))
        if not isinstance(value, list):
            print(f"{name:28s} {value:.4g}")


if __name__ == "__main__":
    main()
