"""What the images of trained ensembles do to the simulated cells that the training data came from.

    python benchmarks/mei/trained.py --folder KEPT               # 200 cells x 3,000 images
    python benchmarks/mei/trained.py --folder KEPT --cells 70 --images 1500
    python benchmarks/mei/trained.py --folder KEPT --combination none    # the CNN alone
    python benchmarks/mei/trained.py --folder KEPT --train 2     # only train member 2, and keep it

Images are made from CNN and LN model combined, as in a loop; the RF is the LN model's own.
Drive is the cell's true response over that to the best image of the same norm. Similarity is the
correlation with the nearest of the images that are as good as the best: a cell that does not care
for phase has one for every phase. `over_gaze` is the mean response while the eye moves as it did
in the training data, over the best one at mean gaze. `twin` asks a member about MEIs that the
others made, and about 400 natural images of the same contrast, for the 24 cells that are predicted
best. Trained encoders are kept in the folder and found again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from pipeline import model as models
from pipeline.dataset import Dataset
from pipeline.mei import synthesize
from pipeline.mei.climb import climb, on_sphere
from pipeline.mei.controls import ControlContext, control_kinds
from pipeline.mei.masks import mask_methods
from pipeline.mei.parts import Scene
from pipeline.mei.search import match_full, responses
from pipeline.rng import generator
from pipeline.simulate import Population, natural_images, simulate_dataset
from pipeline.simulate.brain.behavior import simulate_animal
from pipeline.simulate.brain.filters import shift_receptive_fields

NORM = 12.0
PHASES, AS_GOOD = 16, 0.985  # of the optima that a cell has, and how good one must be
TWINS, TWIN_IMAGES = 24, 400
STARTS_OF = 60  # neurons that are started five times
CONTROLS = ("rf", "gabor", "mni", "fni")
MOVING = {"objective": "over_gaze"}
MADE_FOR_GAZE = {"mei": {"params": MOVING}, "rf": {"params": MOVING}, "gabor": MOVING}
GAZES, GAZE_S = 300, 3000.0  # gazes of an animal watched for so long


class Trained:
    """A population, the data that it gave, and the encoders trained on them."""

    def __init__(self, folder: Path, seed: int, cells: int, images: int) -> None:
        self.seed = seed
        self.folder = folder / f"{cells}x{images}_seed{seed}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.population = Population(seed, cells)
        self.data = Dataset(**simulate_dataset(self.population, images, seed=seed).arguments())
        self.units = np.arange(cells)
        center = tuple(self.population.pupil_mean_px)
        animal = simulate_animal(GAZE_S, generator(seed, "gaze"), pupil_mean_px=center)
        gaze = animal.gaze(np.linspace(0, GAZE_S, GAZES + 2)[1:-1])
        gaze = gaze[np.isfinite(gaze).all(1)]  # not in a blink
        shift = self.population.gaze_shift_px(gaze, len(gaze))
        self.shifts = torch.as_tensor(shift, dtype=torch.float32)

    def encoder(self, member: int, config: dict | None = None, name: str = "cnn"):
        """Return a member, trained now if it is not in the folder."""
        file = self.folder / f"{name}_{member}.safetensors"
        if not file.exists():
            start = time.process_time()
            encoder = models.build_encoder(config, self.data, seed=member)
            models.train(encoder, self.data, seed=member)
            models.save_encoder(encoder, file)
            print(f"trained {file.name}: {time.process_time() - start:.0f} CPU s", flush=True)
        return models.load_encoder(file)

    def ensemble(self, members: int, combination: str) -> models.Ensemble:
        """Return the first members, combined with the LN model unless `combination` is 'none'."""
        alone = models.Ensemble([self.encoder(i) for i in range(members)])
        if combination == "none":
            return alone
        both = models.Ensemble([*alone.encoders, *self.linear().encoders])
        return models.Ensemble(both.encoders, models.fit_shares(both, self.data, combination))

    def linear(self) -> models.Ensemble:
        """Return the LN model."""
        return models.Ensemble([self.encoder(0, models.ln_config(), "ln")])

    def zscored(self, grey: NDArray) -> NDArray[np.float32]:
        """Return images (n, h, w) as the cells see them: no mean, one norm."""
        z = self.population.zscore(grey)
        z = z - z.mean((1, 2), keepdims=True)
        return z * (NORM / np.sqrt((z**2).sum((1, 2), keepdims=True)).clip(1e-9))

    def rates(self, z: NDArray) -> NDArray:
        """Return the true response of cell i to image i."""
        with torch.no_grad():
            images = torch.as_tensor(z, dtype=torch.float32)
            return self.population.module.forward_units(images, torch.as_tensor(self.units)).numpy()

    def rates_over_gaze(self, z: NDArray) -> NDArray[np.float64]:
        """Return the true response of cell i to image i, the mean over gazes of the animal."""
        mean = np.empty(len(z))
        with torch.no_grad():
            for i, image in enumerate(torch.as_tensor(z, dtype=torch.float32)):
                seen = shift_receptive_fields(image.expand(len(self.shifts), -1, -1), self.shifts)
                unit = torch.full((len(seen),), int(self.units[i]))
                mean[i] = self.population.module.forward_units(seen, unit).mean()
        return mean

    def best(self) -> tuple[NDArray, NDArray]:
        """Return images (phases, cells, h, w) as good as the best, and the best rates (cells,)."""
        single, best = self.population.optimal_images(NORM)
        module, units = self.population.module, torch.as_tensor(self.units)
        scene = Scene((1, *single.shape[1:]), 0.0, 1.0, NORM)
        images = [single]
        for angle in 2 * np.pi * np.arange(PHASES) / PHASES:
            filters = module.weight[:, None] * functional.normalize(module.linear, dim=1)
            filters = filters + np.cos(angle) * functional.normalize(module.even, dim=1)
            filters = filters + np.sin(angle) * functional.normalize(module.odd, dim=1)
            found = climb(
                filters.reshape(-1, *scene.shape),
                lambda x: module.forward_units(x, units),
                on_sphere(NORM),
                scene,
                steps=80,
                step_start=0.1,
                step_end=0.002,
            ).numpy()[:, 0]
            as_good = self.rates(found) >= AS_GOOD * best
            images.append(np.where(as_good[:, None, None], found, single))
        return np.stack(images), best


def nearest(z: NDArray, optima: NDArray) -> NDArray[np.float64]:
    """Return the correlation of image i (n, h, w) with the nearest of its optima (m, n, h, w)."""
    product = (z * optima).sum((2, 3)) / np.sqrt((z**2).sum((1, 2)) * (optima**2).sum((2, 3)))
    return product.max(0)


def twin(trained: Trained, ensemble: models.Ensemble, scene: dict) -> dict:
    """Return how often the MEI of the others beats natural images in the member left out."""
    others, asked = ensemble.leave_out()
    found = models.evaluate(others, trained.data).per_unit["single_trial"]
    units = np.argsort(-found)[:TWINS]
    made = synthesize(others.frozen(), units, seed=1, held_out=asked.frozen(), **scene)
    natural = natural_images(TWIN_IMAGES, trained.population.shape, seed=trained.seed + 104729)
    z = torch.as_tensor((natural - scene["mean"]) / scene["sd"], dtype=torch.float32)[:, None]
    best = responses(asked.frozen(), match_full(z, NORM), units).max(0)
    return {
        "neurons": len(units),
        "mei_above_best_natural": float((made.held_out > best).mean()),
        "ratio_median": float(np.median(made.held_out / best)),
        "ratio_lowest": float((made.held_out / best).min()),
    }


def figures(
    trained: Trained, ensemble: models.Ensemble, variants: dict[str, dict], pool: int
) -> dict:
    """Return the figures of every variant of synthesis, and of the controls."""
    frozen = ensemble.frozen()
    optima, best = trained.best()
    scene = {"mean": frozen.image_mean, "sd": frozen.image_sd, "norm": NORM}
    result, moving = {}, {}
    for name, options in variants.items():
        start = time.process_time()
        made = synthesize(frozen, trained.units, **scene, **{"seed": 1, **options})
        seconds = time.process_time() - start
        z = trained.zscored(made.images[:, 0])
        drive = trained.rates(z) / best
        moving[name] = made, drive, trained.rates_over_gaze(z) / best
        result[name] = {
            "drive_median": float(np.median(drive)),
            "drive_lowest_tenth": float(np.quantile(drive, 0.1)),
            "drive_below_half": float((drive < 0.5).mean()),
            "similarity_median": float(np.median(nearest(z, optima))),
            "similarity_one_optimum": float(np.median(nearest(z, optima[:1]))),
            "drive_by_kind": _by_kind(trained, drive),
            "similarity_by_kind": _by_kind(trained, nearest(z, optima)),
            "over_gaze_median": float(np.median(moving[name][2])),
            "over_gaze_lowest_tenth": float(np.quantile(moving[name][2], 0.1)),
            "predicted_median": float(np.median(made.activations)),
            "silent": int(made.silent.sum()),
            "cpu_s": seconds,
        }
    if len(ensemble) > 1:
        result["twin"] = twin(trained, ensemble, scene)
    result["five_starts"] = stability(frozen, scene, trained.units[:STARTS_OF])
    if not pool:
        return result
    natural = natural_images(pool, trained.population.shape, seed=trained.seed + 7919)
    for name, params in (("mei", {}), ("mei_over_gaze", MADE_FOR_GAZE)):
        made, drive, shown = moving[name]
        context = ControlContext(
            cnn=frozen,
            ln=trained.linear().frozen(),
            units=trained.units,
            mei_images=made.images[:, 0],
            mei_masks=mask_methods["zscore"](made.images[:, 0], frozen.image_mean),
            image_mean=frozen.image_mean,
            image_sd=frozen.image_sd,
            natural=natural,
            norm=NORM,
            seed=1,
        )
        for kind in CONTROLS:
            z = trained.zscored(control_kinds[kind](context, **params.get(kind, {})).images)
            other, moved = trained.rates(z) / best, trained.rates_over_gaze(z) / best
            result[f"{kind} against {name}"] = {
                "drive_median": float(np.median(other)),
                "mei_above": float((drive > other).mean()),
                "mei_above_by_kind": _by_kind(trained, drive > other, np.mean),
                "over_gaze_median": float(np.median(moved)),
                "mei_above_over_gaze": float((shown > moved).mean()),
            }
    return result


def stability(frozen: models.FrozenModel, scene: dict, units: NDArray) -> dict:
    """Return how alike the images of five starts are, of some units."""
    made = synthesize(frozen, units, starts=5, seed=2, **scene)
    masks = mask_methods["zscore"](made.images[:, 0], frozen.image_mean) > 0.5
    alike = []
    for images, mask in zip(made.all_images[:, :, 0], masks, strict=True):
        r = np.corrcoef(images[:, mask])
        alike.append(np.median(r[np.triu_indices(len(r), 1)]))
    ratio = made.all_activations.min(1) / made.all_activations.max(1)
    return {
        "neurons": len(units),
        "correlation_median": float(np.median(alike)),
        "correlation_lowest_tenth": float(np.quantile(alike, 0.1)),
        "lowest_over_highest_median": float(np.median(ratio)),
        "lowest_over_highest_lowest_tenth": float(np.quantile(ratio, 0.1)),
    }


def _by_kind(
    trained: Trained, values: NDArray, middle: Callable[[NDArray], float] = np.median
) -> dict[str, float]:
    kinds = trained.population.cells.kind
    return {str(kind): float(middle(values[kinds == kind])) for kind in np.unique(kinds)}


def _spoken(trained: Trained, ensemble: models.Ensemble) -> dict:
    """Return the share of cells about which the LN model, the last member, has a say."""
    return {"ln_speaks_by_kind": _by_kind(trained, ensemble.shares[-1] > 0, np.mean)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="where encoders are kept")
    parser.add_argument("--seed", type=int, default=402, help="of population, images, noise")
    parser.add_argument("--cells", type=int, default=200)
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--members", type=int, default=4)
    parser.add_argument("--combination", default="peers", help="with the LN model, or 'none'")
    parser.add_argument("--pool", type=int, default=5000, help="natural images to search; 0: none")
    parser.add_argument("--variants", default="{}", help='JSON {name: {"method":, "params":}}')
    parser.add_argument("--train", type=int, help="only train this member; -1 is the LN model")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    sizes = arguments.seed, arguments.cells, arguments.images
    trained = Trained(arguments.folder, *sizes)
    if arguments.train is not None:
        trained.linear() if arguments.train < 0 else trained.encoder(arguments.train)
        return
    variants = {"mei": {}, "mei_over_gaze": MADE_FOR_GAZE["mei"], **json.loads(arguments.variants)}
    ensemble = trained.ensemble(arguments.members, arguments.combination)
    result = {} if ensemble.shares is None else {"combination": _spoken(trained, ensemble)}
    result |= figures(trained, ensemble, variants, arguments.pool)
    if arguments.json:
        print(json.dumps(result))
        return
    for name, row in result.items():
        shown = " ".join(
            f"{key} {value if isinstance(value, dict) else round(value, 4)}"
            for key, value in row.items()
        )
        print(f"{name:26s} {shown}", flush=True)


if __name__ == "__main__":
    main()
