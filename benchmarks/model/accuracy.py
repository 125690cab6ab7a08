"""Accuracy of encoders on simulated populations whose true rates are known.

    python benchmarks/model/accuracy.py             # 200 cells x 3,000 images at three noise levels
    python benchmarks/model/accuracy.py --cells 70 --images 1500 --noise 0.75
    python benchmarks/model/accuracy.py --quick     # a minute, to see that it works
    python benchmarks/model/accuracy.py --folder F  # stopped at any time, it goes on from there
    python benchmarks/model/accuracy.py --controls  # what images alone explain: ridge, a small CNN

Every figure is on the test tier. `share` is a mean single-trial correlation divided by that of the
true rate, `*_by_kind` the same for one kind of cell.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline import model
from pipeline.dataset import Dataset
from pipeline.dataset.moments import correlate
from pipeline.model.evaluate import slope_through_origin
from pipeline.simulate import Population, simulate_dataset

OFTEN = 20  # repeats of further test images, with which the true rate has a fraction of about 1
NOISE = (0.35, 0.75, 1.5)  # sd of spike inference (counts); 0.75 is the simulator's own


def train(
    config: dict, data: Dataset, seeds: range, checkpoints: Path, epochs: int | None
) -> tuple[model.Ensemble, float]:
    """Train one member per seed; return the ensemble and the mean CPU seconds of a member.

    Names of checkpoints start as `checkpoints` does; a training that was stopped goes on, and its
    seconds too.
    """
    encoders, total = [], 0.0
    for seed in seeds:
        start = time.process_time()
        encoder = model.build_encoder(config, data, seed)
        checkpoint = checkpoints.with_name(f"{checkpoints.name}-{seed}.safetensors")
        spent = checkpoint.with_suffix(".seconds")
        if spent.exists():
            start -= float(spent.read_text())

        def note(epoch: int, info: dict, start=start, spent=spent) -> None:
            spent.write_text(f"{time.process_time() - start}")

        model.train(
            encoder, data, seed=seed, checkpoint=checkpoint, progress=note, max_epochs=epochs
        )
        total += float(spent.read_text())
        encoders.append(encoder)
    return model.Ensemble(encoders), total / len(encoders)


IMAGE_ONLY = {  # two layers, no gaze, no behavior
    "core": {"hidden_kernels": [3]},
    "shifter": {"name": "none"},
    "modulator": {"name": "none"},
}


def ridge_single_trial(data: Dataset) -> NDArray[np.float64]:
    """Return the single-trial correlation per unit of linear regression on the images' pixels.

    Its penalty is the one that predicts the validation tier best.
    """
    pixels = data.images.reshape(len(data.images), -1)[data.image_index].astype(np.float64)
    train, validation, test = (data.trials(tier) for tier in ("train", "validation", "test"))
    pixels = (pixels - pixels[train].mean()) / pixels[train].std()
    mean = data.responses[train].mean(0)
    vectors, values, basis = np.linalg.svd(pixels[train], full_matrices=False)
    target = vectors.T @ (data.responses[train] - mean)

    def predict(trials: NDArray, penalty: float) -> NDArray:
        return pixels[trials] @ basis.T @ (target * (values / (values**2 + penalty))[:, None])

    def found(trials: NDArray, penalty: float) -> NDArray:
        return correlate(data.responses[trials], predict(trials, penalty))

    penalties = np.geomspace(1e2, 1e7, 11)
    best = max(penalties, key=lambda penalty: np.nanmean(found(validation, penalty)))
    return found(test, best)


def controls(data: Dataset, checkpoints: Path, epochs: int | None) -> dict[str, float]:
    """Return mean single-trial correlations of models of the image alone."""
    small, _ = train(IMAGE_ONLY, data, range(1), checkpoints, epochs)
    return {
        "single_trial_ridge": float(np.nanmean(ridge_single_trial(data))),
        "single_trial_image_only": model.evaluate(small, data).per_scan["single_trial"],
    }


def kind_shares(found: np.ndarray, ceiling: np.ndarray, kind: np.ndarray) -> dict[str, float]:
    return {str(k): _share(found[kind == k], ceiling[kind == k]) for k in np.unique(kind)}


def _share(found: np.ndarray, ceiling: np.ndarray) -> float:
    known = np.isfinite(found) & np.isfinite(ceiling)
    return float(found[known].mean() / ceiling[known].mean())


@torch.no_grad()
def state_figures(encoder: model.Encoder, data: Dataset, population, simulated) -> dict:
    """Compare one member's places, shifts and gains with the true ones."""
    test = data.trials("test")
    true_px = np.stack([population.cells.y_px, population.cells.x_px], 1)
    distance = np.hypot(*(model.field_centers_px(encoder) - true_px).T)
    reading = np.hypot(*(encoder.readout_px() - true_px).T)
    gaze = encoder.zscore_state("pupil", data.pupil_center[test], len(test))
    height, width = encoder.input_shape
    shift = encoder.shifter(gaze).double().numpy() * np.array([width, height]) / 2
    true_shift = simulated.gaze_shift_px[test]
    behavior = encoder.zscore_state("behavior", data.behavior[test], len(test))
    log_gain = encoder.modulator(behavior).double().log().numpy()
    centred, true = shift - shift.mean(0), true_shift - true_shift.mean(0)
    return {
        "places_error_px": float(np.median(distance)),
        "readout_error_px": float(np.median(reading)),
        "places_within_3_px": float((distance <= 3).mean()),
        "gaze_r": float(correlate(shift, true_shift).mean()),
        "gaze_slope": float((centred * true).sum() / (true**2).sum()),
        "log_gain_r": float(np.nanmean(correlate(log_gain, simulated.log_gain[test]))),
    }


def frozen_fractions(
    found: model.Evaluation, data: Dataset, population: Population, which: str = ""
) -> dict[str, float]:
    """Return fractions of the oracle at mean behavior and gaze: the model's, the true rate's."""
    test = data.trials("test")
    still = population.drive(data.images[data.image_index[test]])
    truth = model.metrics(data.responses[test], still, data.image_id[test])
    name = f"fraction_oracle_frozen{which}"
    return {
        name: found.per_scan["fraction_oracle_frozen"],
        f"{name}_of_true_rate": slope_through_origin(truth["oracle"], truth["single_trial"]),
    }


def often_shown(cnn: model.Ensemble, population: Population, noise: float, seed: int) -> dict:
    """Return `frozen_fractions` on further images that are shown often.

    The oracle of ten repeats is a noisy mean of nine, and so low that the true rate passes 1.
    """
    shown = simulate_dataset(population, 40, repeats=OFTEN, seed=seed, measurement_sd=noise)
    data = Dataset(**shown.arguments())
    return frozen_fractions(model.evaluate(cnn, data), data, population, f"_{OFTEN}")


def figures(
    cells: int,
    images: int,
    noise: float,
    members: int,
    seed: int,
    folder: Path,
    epochs: int | None = None,
    with_controls: bool = False,
) -> dict:
    population = Population(seed, cells)
    simulated = simulate_dataset(population, images, seed=seed, measurement_sd=noise)
    data = Dataset(**simulated.arguments())
    test, kind = data.trials("test"), population.cells.kind
    truth = model.metrics(data.responses[test], simulated.rates[test], data.image_id[test])
    ceiling = truth["single_trial"]
    names = [folder / f"{kind}-{cells}-{images}-{noise}-{seed}" for kind in ("cnn", "ln", "image")]
    cnn, cnn_seconds = train(model.default_config(), data, range(members), names[0], epochs)
    ln, ln_seconds = train(model.ln_config(), data, range(1), names[1], epochs)
    found, linear = (model.evaluate(ensemble, data) for ensemble in (cnn, ln))
    states = [state_figures(e, data, population, simulated) for e in cnn.encoders]
    member = [_share(r, ceiling) for r in found.per_unit["member_single_trial"]]
    return {
        "cells": cells,
        "images": images,
        "noise": noise,
        "members": members,
        "oracle": found.per_scan["oracle"],
        "single_trial_of_true_rate": float(np.nanmean(ceiling)),
        "to_average_of_true_rate": float(np.nanmean(truth["to_average"])),
        "single_trial": found.per_scan["single_trial"],
        "to_average": found.per_scan["to_average"],
        "member_single_trial": found.per_scan["member_single_trial"],
        "share_ensemble": _share(found.per_unit["single_trial"], ceiling),
        "share_member": float(np.mean(member)),
        "share_worst_member": min(member),
        "share_ln": _share(linear.per_unit["single_trial"], ceiling),
        **frozen_fractions(found, data, population),
        **often_shown(cnn, population, noise, seed + 1_000_000),
        "feve_median": float(np.nanmedian(found.per_unit["feve"])),
        "cc_norm": found.per_scan["cc_norm"],
        **{name: float(np.mean([s[name] for s in states])) for name in states[0]},
        "cnn_by_kind": kind_shares(found.per_unit["single_trial"], ceiling, kind),
        "ln_by_kind": kind_shares(linear.per_unit["single_trial"], ceiling, kind),
        "cpu_s_per_member": cnn_seconds,
        "cpu_s_ln": ln_seconds,
        **(controls(data, names[2], epochs) if with_controls else {}),
    }


def show(row: dict) -> None:
    for name, value in row.items():
        by_kind = value.items() if isinstance(value, dict) else [("", value)]
        print(f"{name:28s}", "  ".join(f"{kind} {share:.4g}".strip() for kind, share in by_kind))
    print(flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=200)
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--noise", type=float, nargs="+", default=NOISE)
    parser.add_argument("--members", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1, help="of population, images, noise")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="keeps trained networks; default none")
    parser.add_argument("--controls", action="store_true", help="ridge and an image-only CNN")
    parser.add_argument("--quick", action="store_true", help="30 cells, 400 images, 2 members")
    parser.add_argument("--json", action="store_true", help="print JSON only")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    epochs = None
    if options.quick:
        options.cells, options.images, options.noise, options.members = 30, 400, (0.75,), 2
        epochs = 30
    rows = []
    with tempfile.TemporaryDirectory() as passing:
        folder = options.folder or Path(passing)
        for noise in options.noise:
            sizes = (options.cells, options.images, noise, options.members)
            rows.append(figures(*sizes, options.seed, folder, epochs, options.controls))
            if not options.json:
                show(rows[-1])
    if options.json:
        print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
