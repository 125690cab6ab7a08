"""The verdict of a loop on simulated days whose truth is known.

Null control: day-2 responses unrelated to the images, so that every positive is false. Prints the
share of neurons with an uncorrected p below alpha, of neurons and of days with any neuron that is
significant after correction, and of days on which the population tests are significant.

Power: an animal whose MEIs drive its neurons a known factor better than a control. From the
natural images of day 1 (100 images, 10 repeats within 90 minutes) the share of neurons that will
be significant is predicted, and compared with what simulated days show. The neurons' noise (sub-
to super-Poisson counts under measurement noise, a gain of pupil and running that wanders, gaze
that moves the receptive fields, rates that saturate) is not the noise that the prediction assumes.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates, spline_filter
from scipy.stats import binomtest

from pipeline.closed_loop.planning.noise import NoiseModel, fit_noise
from pipeline.closed_loop.planning.power import relative_effect, simulate_power
from pipeline.closed_loop.verdict.outcome import outcome_methods
from pipeline.rng import generator
from pipeline.simulate.brain.behavior import simulate_animal
from pipeline.simulate.brain.filters import shift_receptive_fields
from pipeline.simulate.brain.population import Population
from pipeline.simulate.brain.responses import gamma_poisson, simulate_dataset

ALPHA = 0.05
MEASUREMENT_SD = 0.5
TRIAL_S, DURATION_S = 0.9, 0.5
NORM = 10.0  # of the best images, in z-scored pixels
CALIBRATION_TRIALS = 60
MODEL_ERROR = 0.2  # sd of the log of a prediction over the true response
MODEL_GAIN = 0.8  # share of the true log gain that the model knows
MAP_PX, MAP_STEP_PX = 7.0, 0.7  # reach and step of the gaze shifts at which rates are tabulated
PLAN_STATES = 200  # of day 1, in which the plan asks the model
DAY1 = {"test_images": 100, "repeats": 10, "trial_s": 5.4}  # the single images between: not needed
DESIGNS = ((60, 10, 1.0), (60, 20, 1.0), (30, 40, 1.0), (60, 20, 0.8))  # neurons, repeats, matches


def noisy(animal: Population, mean: NDArray, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw responses (trials, neurons) of given expected counts, never negative as activity is."""
    cells = animal.cells
    counts = gamma_poisson(mean, cells.noise_order, cells.noise_gain_var, rng)
    return np.maximum(counts + MEASUREMENT_SD * rng.normal(size=counts.shape), 0)


def states(animal: Population, n: int, rng: np.random.Generator) -> tuple[NDArray, NDArray]:
    """Return behavior (n, 3) and gaze (n, 2) of an animal that runs, rests and looks around."""
    onset = TRIAL_S * np.arange(n)
    state = simulate_animal(onset[-1] + TRIAL_S, rng, pupil_mean_px=tuple(animal.pupil_mean_px))
    return state.behavior(onset + 0.3), state.gaze(onset + 0.3)


def own_counts(
    animal: Population, pictures: NDArray, unit: NDArray, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return the response of one unit a trial to its z-scored image, in a wandering state."""
    behavior, gaze = states(animal, len(unit), rng)
    rates = seen_rates(animal, pictures, unit, animal.gaze_shift_px(gaze, len(unit)))
    return counted(animal, rates, unit, behavior, rng)


def seen_rates(
    animal: Population, pictures: NDArray, unit: NDArray, shift_px: NDArray
) -> NDArray[np.float64]:
    """Return the rate of one unit a trial to its z-scored image at a shift of receptive fields."""
    shift, rates = torch.as_tensor(shift_px, dtype=torch.float32), np.empty(len(unit))
    with torch.no_grad():
        for start in range(0, len(unit), 512):
            part = slice(start, start + 512)
            seen = shift_receptive_fields(torch.as_tensor(pictures[part]), shift[part])
            rates[part] = animal.module.forward_units(seen, torch.as_tensor(unit[part])).numpy()
    return rates


def rate_maps(animal: Population, pictures: NDArray, unit: NDArray) -> NDArray[np.float64]:
    """Return splines (images, y, x) of every image's rate over gaze: many days ask for it."""
    axis = np.arange(-MAP_PX, MAP_PX + MAP_STEP_PX / 2, MAP_STEP_PX)
    yy, xx = (grid.ravel() for grid in np.meshgrid(axis, axis, indexing="ij"))
    shift = np.stack([xx, yy], 1)
    maps = [
        seen_rates(animal, np.repeat(picture[None], len(shift), 0), np.full(len(shift), u), shift)
        for picture, u in zip(pictures, unit, strict=True)
    ]
    return np.array([spline_filter(m.reshape(len(axis), len(axis))) for m in maps])


def mapped_rates(maps: NDArray, index: NDArray, shift_px: NDArray) -> NDArray[np.float64]:
    """Read the maps of images `index` at shifts (x, y) of the receptive fields."""
    place = (np.clip(shift_px, -MAP_PX, MAP_PX).T[::-1] + MAP_PX) / MAP_STEP_PX
    rates = np.empty(len(index))
    for k in np.unique(index):
        here = index == k
        rates[here] = map_coordinates(maps[k], place[:, here], prefilter=False, mode="mirror")
    return np.maximum(rates, 0)


def counted(
    animal: Population, rates: NDArray, unit: NDArray, behavior: NDArray, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return noisy responses of one unit a trial at its rate, with the gain of the behavior."""
    gain = np.exp(animal.log_gain(behavior, len(unit))[np.arange(len(unit)), unit])
    cells = animal.cells
    mean = DURATION_S * rates * gain
    counts = gamma_poisson(mean, cells.noise_order[unit], cells.noise_gain_var[unit], rng)
    return np.maximum(counts + MEASUREMENT_SD * rng.normal(size=counts.shape), 0)


def weaker(
    animal: Population, best: NDArray, ratios: Sequence[float], rng: np.random.Generator
) -> list[NDArray[np.float32]]:
    """Return every neuron's best image at contrasts at which it answers `ratios` times less.

    Parameters
    ----------
    best : array, shape (neurons, h, w)
        Best images, z-scored.
    ratios : sequence of float
    """
    neurons, contrast = len(best), np.array([0.1, 0.2, 0.3, 0.4, 0.55, 0.7, 0.85, 1.0])
    rows = np.repeat(np.arange(neurons), CALIBRATION_TRIALS)
    order = rng.permutation(len(rows))
    reached = np.empty((len(contrast), neurons))
    for k, factor in enumerate(contrast):
        answer = own_counts(animal, np.float32(factor) * best[rows[order]], rows[order], rng)
        reached[k] = answer[np.argsort(order)].reshape(neurons, -1).mean(1)
    reached = np.maximum.accumulate(reached, 0) + 1e-9 * np.arange(len(contrast))[:, None]
    made = []
    for ratio in ratios:
        factor = [np.interp(r[-1] / ratio, r, contrast) for r in reached.T]
        made.append(np.asarray(factor, np.float32)[:, None, None] * best)
    return made


def images_of(neurons: int, kinds: tuple[str, ...] = ("mei", "rf")) -> dict[str, list[str]]:
    return {kind: [f"{kind}{i}" for i in range(neurons)] for kind in kinds}


def null_control(days: int, neurons: int, repeats: int, seed: int) -> dict[str, float]:
    """Score days whose responses do not know the image."""
    score = outcome_methods[outcome_methods.default]
    animal = Population(seed, neurons)
    own = images_of(neurons)
    shown = np.repeat(np.concatenate(list(own.values())), repeats)
    uncorrected, corrected, any_neuron, wilcoxon, bootstrap = [], [], [], [], []
    for day in range(days):
        rng = generator(seed, "null", day)
        level = rng.gamma(2.0, 0.5, neurons)
        responses = noisy(animal, np.broadcast_to(level, (len(shown), neurons)), rng)
        result = score(responses, rng.permutation(shown), own, alpha=ALPHA, n_bootstrap=500)
        uncorrected.append((result.comparisons.p < ALPHA).mean())
        corrected.append(result.comparisons.significant.mean())
        any_neuron.append(bool(result.comparisons.significant.any()))
        row = result.populations.iloc[0]
        wilcoxon.append(row.wilcoxon_p < ALPHA)
        bootstrap.append(row.bootstrap_p < ALPHA)
    return {
        "null_days": days,
        "null_neurons_uncorrected": float(np.mean(uncorrected)),
        "null_neurons_corrected": float(np.mean(corrected)),
        "null_days_any_neuron": float(np.mean(any_neuron)),
        "null_days_wilcoxon": float(np.mean(wilcoxon)),
        "null_days_bootstrap": float(np.mean(bootstrap)),
    }


def power(
    days: int, ratios: Sequence[float], seed: int, model_gain: float = MODEL_GAIN
) -> list[dict[str, float]]:
    """Predict the power of an animal from its day 1, and count what its days 2 show.

    The MEI is the neuron's best image at the contrast of day 2, its control drives it `ratio`
    times less; the plan knows the control's response as well as a model does.
    """
    most = max(neurons for neurons, _, _ in DESIGNS)
    animal = Population(seed, most)
    natural = simulate_dataset(animal, 0, seed=seed, measurement_sd=MEASUREMENT_SD, **DAY1)
    responses = np.maximum(natural.responses, 0)
    known = natural.rates * np.exp((model_gain - 1) * natural.log_gain)
    rng = generator(seed, "contrast")
    best, _ = animal.optimal_images(NORM)
    best_maps = rate_maps(animal, best, np.arange(most))
    rows = []
    states_of_day1 = np.linspace(0, len(responses) - 1, PLAN_STATES).astype(int)
    shift = natural.gaze_shift_px[states_of_day1]
    in_states = np.stack(
        [mapped_rates(best_maps, np.full(PLAN_STATES, k), shift) for k in range(most)], 1
    )
    in_states *= np.exp(model_gain * natural.log_gain[states_of_day1])
    noise = fit_noise(responses, natural.image_id, known, in_states)
    for ratio, control in zip(ratios, weaker(animal, best, ratios, rng), strict=True):
        made = (best_maps, rate_maps(animal, control, np.arange(most)))
        for design in DESIGNS:
            rows.append(_one_design(days, design, made, animal, noise, seed, ratio))
    return rows


def _one_design(
    days: int,
    design: tuple[int, int, float],
    made: tuple[NDArray, NDArray],
    animal: Population,
    noise: NoiseModel,
    seed: int,
    ratio: float,
) -> dict[str, float]:
    score = outcome_methods[outcome_methods.default]
    neurons, repeats, precision = design
    own = images_of(neurons)
    right = np.arange(neurons) < round(precision * neurons)
    # the wrong cell sees two images that mean nothing to it
    best, control = (maps[:neurons] for maps in made)
    maps = np.concatenate([np.where(right[:, None, None], best, control), control])
    names = np.concatenate(list(own.values()))
    index = np.repeat(np.arange(len(names)), repeats)
    found, whole, means = [], [], []
    for day in range(days):
        rng = generator(seed, "effect", day, neurons, repeats)
        shown = rng.permutation(index)
        column = shown % neurons
        responses = np.full((len(shown), neurons), np.nan)
        behavior, gaze = states(animal, len(shown), rng)
        rates = mapped_rates(maps, shown, animal.gaze_shift_px(gaze, len(shown)))
        responses[np.arange(len(shown)), column] = counted(animal, rates, column, behavior, rng)
        result = score(responses, names[shown], own, alpha=ALPHA, n_bootstrap=1)
        row = result.populations.iloc[0]
        found.append(row.fraction_significant)
        whole.append(row.wilcoxon_p < ALPHA and row.median_difference > 0)
        table = result.responses.pivot(index="neuron", columns="kind", values="raw_mean")
        means.append(table[["mei", "rf"]].to_numpy())
    # what the images really do is measured, not what was asked
    mei, rf = np.mean(means, axis=0).T
    true_ratio = float(np.median((mei / rf)[right]))
    error = np.exp(MODEL_ERROR * generator(seed, "model").normal(size=neurons))
    mei_known, rf_known = np.where(right, (mei, rf), np.nan) * error  # a model errs in both alike
    plan = simulate_power(
        noise.take(np.arange(neurons)).with_controls(rf * error),
        effect=relative_effect(mei_known, rf_known),
        n_neurons=neurons,
        repeats=repeats,
        ratios=[true_ratio],
        match_precision=precision,
        n_simulations=1000,
        seed=seed,
    )
    low, high = binomtest(int(np.sum(whole)), days).proportion_ci(0.95, method="wilson")
    return {
        "neurons": neurons,
        "repeats": repeats,
        "match_precision": precision,
        "ratio_asked": ratio,
        "ratio": true_ratio,
        "power_planned": float(plan.per_neuron[0]),
        "power_achieved": float(np.mean(found)),
        "population_planned": float(plan.population[0]),
        "population_achieved": float(np.mean(whole)),
        "population_low": float(low),  # 95 % interval of what so many days show
        "population_high": float(high),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--days", type=int, default=200)
    parser.add_argument("--neurons", type=int, default=150)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--ratios", type=float, nargs="*", default=[1.3, 1.6, 2.0, 3.0])
    parser.add_argument("--power-days", type=int, default=100)
    parser.add_argument("--animals", type=int, default=2)
    parser.add_argument("--model-gain", type=float, default=MODEL_GAIN)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    start = time.perf_counter()
    result = null_control(given.days, given.neurons, given.repeats, given.seed)
    result["power"] = [
        {"animal": seed, **row}
        for seed in range(given.seed, given.seed + given.animals)
        for row in power(given.power_days, given.ratios, seed, given.model_gain)
    ]
    for name in ("power", "population"):
        gaps = [abs(row[f"{name}_planned"] - row[f"{name}_achieved"]) for row in result["power"]]
        result[f"largest_{name}_gap"] = max(gaps, default=0.0)
        result[f"{name}_within_10_points"] = sum(gap <= 0.1 for gap in gaps)
    # designs that so many days tell apart from a plan within 10 points
    result["population_surely_outside"] = sum(
        row["population_planned"] < row["population_low"] - 0.1
        or row["population_planned"] > row["population_high"] + 0.1
        for row in result["power"]
    )
    result["designs"] = len(result["power"])
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
