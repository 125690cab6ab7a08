"""Encoders and target rules judged by the truth of networks that were trained on real mice.

    python benchmarks/model/twin.py --twin FOLDER --folder F --case 26872-300-2500-0.35-0
    ... --config '{"default": {}, "flat": {"core": {"name": "divisive"}}}'  # encoders
    ... --config '{"default": {}, "ln": "ln"}' --stage make,train,truth,rules  # target rules

`FOLDER` (or INCEPTION_TWIN) holds `tools/twin_mouse.py`, `data/twin/*.pth` and
`data/natural_images.npz`. A data set is named mouse-units-train-oracle-seed. What was trained or
measured is kept in the folder and found again, so that a run that was stopped goes on.

`true_r` is the correlation of a unit's prediction at mean behavior and gaze with its true rate on
fresh natural images, `drive` the true response to its MEI over that to the best possible image.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline import dataset as datasets
from pipeline import model as models
from pipeline.dataset.moments import correlate
from pipeline.mei import synthesize
from pipeline.mei.targets import TargetData, fraction_of, gather, half_oracles, target_rules

NORM = 12.0
FRESH = 600  # natural images that no data set holds
TARGETS = 30
JUDGED = 60  # units whose MEIs are made
LN = "ln"


class Case:
    """One data set of a twin mouse, its truth, and the encoders trained on it."""

    def __init__(self, twin: Path, folder: Path, name: str) -> None:
        mouse, units, train, oracle, seed = name.split("-")
        self.name, self.mouse, self.oracle = name, mouse, float(oracle)
        self.sizes = {"units": int(units), "train": int(train), "seed": int(seed)}
        self.root, self.folder = twin, folder / name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.weights = twin / "data" / "twin" / f"mouse{mouse}_cnn.pth"
        self.file = self.folder / "data.npz"

    def make(self) -> None:
        """Simulate the data set if it is not there."""
        if not self.file.exists():
            part = self.folder / "part.npz"
            _tool(self.root).make(str(part), self.weights, oracle=self.oracle, **self.sizes)
            part.rename(self.file)

    def data(self) -> datasets.Dataset:
        """Return the data set."""
        return datasets.load(self.file)

    def twin(self) -> Any:
        """Return the network with the units and gray levels of the data set."""
        with np.load(self.file) as stored:
            ids, index = stored["unit_ids"], stored["image_id"]
            first = np.unique(index, return_index=True)[1]
            images = stored["images"][first]
        found = _tool(self.root).Twin(self.weights, units=ids)
        found.mean, found.sd = float(images.mean()), float(images.std())
        return found

    def fresh(self) -> NDArray[np.uint8]:
        """Return natural images (FRESH, 36, 64) that the data set does not hold."""
        with np.load(self.root / "data" / "natural_images.npz") as stored:
            crops = stored["images"]
        small = crops.reshape(len(crops), 36, 2, 64, 2).mean((2, 4)).round().astype(np.uint8)
        with np.load(self.file) as stored:
            used = stored["image_id"].max() + 1
        order = np.random.default_rng(self.sizes["seed"]).permutation(2 * len(small))[used:]
        order = order[:FRESH]
        return np.where(
            (order < len(small))[:, None, None],
            small[order % len(small)],
            small[order % len(small), :, ::-1],
        )

    def encoder(self, name: str, config: dict | None, seed: int, epochs: int | None) -> Any:
        """Return a trained encoder, trained now if it is not in the folder."""
        file = self.folder / f"{name}_{seed}.safetensors"
        if not file.exists():
            data = self.data()
            encoder = models.build_encoder(config, data, seed=seed)
            start = time.process_time()
            found = models.train(encoder, data, seed=seed, max_epochs=epochs)
            seconds = time.process_time() - start
            models.save_encoder(encoder, file)
            self.note(
                f"train-{name}_{seed}",
                {
                    "cpu_s": seconds,
                    "epochs": found.epochs,
                    "validation": found.validation_correlation,
                    "history": [round(h["validation_correlation"], 4) for h in found.history],
                },
            )
        return models.load_encoder(file)

    def note(self, name: str, figures: dict) -> None:
        """Keep figures as JSON and show them."""
        (self.folder / f"{name}.json").write_text(json.dumps(figures))
        shown = {k: v for k, v in figures.items() if not isinstance(v, list) or len(v) < 30}
        print(self.name, name, json.dumps(shown), flush=True)

    def known(self, name: str) -> dict | None:
        """Return figures that are kept, or None."""
        file = self.folder / f"{name}.json"
        return json.loads(file.read_text()) if file.exists() else None

    def truth(self, name: str, ensemble: models.Ensemble) -> None:
        """Note the correlation with the true rate on fresh images."""
        if self.known(f"truth-{name}"):
            return
        rates = self.folder / "fresh_rates.npy"
        fresh = self.fresh()
        if not rates.exists():
            np.save(rates, self.twin().rate(fresh))
        true_r = correlate(np.load(rates), ensemble.predict(fresh))
        self.note(
            f"truth-{name}",
            {
                "mean": float(true_r.mean()),
                "median": float(np.median(true_r)),
                "units": _list(true_r),
            },
        )

    def best(self) -> NDArray[np.float64]:
        """Return the true response to the best image of the first units (JUDGED,)."""
        name = f"best-{self.mouse}-{self.sizes['units']}-{self.sizes['train']}-{self.sizes['seed']}"
        file = self.folder.parent / f"{name}.npy"
        if not file.exists():
            found = self.twin().best(np.arange(JUDGED), NORM, starts=3, steps=60)
            np.save(file, found[1])
        return np.load(file)

    def mei(self, name: str, ensemble: models.Ensemble) -> None:
        """Note the true drive of the MEIs of the first units."""
        if self.known(f"mei-{name}"):
            return
        frozen, best, twin = ensemble.frozen(), self.best(), self.twin()
        units = np.arange(JUDGED)
        scene = {"mean": frozen.image_mean, "sd": frozen.image_sd, "norm": NORM}
        start = time.process_time()
        made = synthesize(frozen, units, seed=1, **scene)
        seconds = time.process_time() - start
        z = (made.images[:, 0] - twin.mean) / twin.sd
        z = z - z.mean((1, 2), keepdims=True)
        z *= NORM / np.sqrt((z**2).sum((1, 2), keepdims=True)).clip(1e-9)
        drive = twin.drive(z, units) / best
        self.note(
            f"mei-{name}",
            {
                "median": float(np.median(drive)),
                "lowest_tenth": float(np.quantile(drive, 0.1)),
                "below_half": float((drive < 0.5).mean()),
                "cpu_s": seconds,
                "units": _list(drive),
            },
        )

    def rules(self, cnn: tuple[str, models.Ensemble], ln: models.Ensemble) -> None:
        """Note how well targets of each rule are predicted, as a share of the best possible."""
        label, ensemble = cnn
        known = self.known(f"truth-{label}")
        if known is None:
            raise SystemExit("--stage truth comes before rules")
        true_r, data = np.array(known["units"]), self.data()
        best = np.sort(true_r)[-TARGETS:].mean()
        given = target_data(ensemble, ln, data)
        figures: dict[str, Any] = {"lots": float(true_r.mean() / best), "best": float(best)}
        for rule in target_rules:
            found = target_rules[rule](given, n_targets=TARGETS)
            chosen = true_r[found.kept]
            figures[rule] = {"share": float(chosen.mean() / best), "lowest": float(chosen.min())}
            if found.shrunken is not None:
                pairs = (("measured", given.evidence), ("expected", found.shrunken))
                for name, evidence in pairs:
                    figures[rule][name] = float(evidence.value[found.kept, 0].mean())
        self.note(f"rules-{label}", figures)


def target_data(cnn: models.Ensemble, ln: models.Ensemble, data: datasets.Dataset) -> TargetData:
    """Return what rules look at; the units have no places."""
    trials, repeated = data.trials("validation"), data.trials("test")
    images, y = data.images[data.image_index[trials]], data.responses[trials]
    state = data.behavior[trials], data.pupil_center[trials]
    scores = [correlate(y, model.predict(images, *state)) for model in (cnn, ln)]
    shown, names = data.responses[repeated], np.asarray(data.image_id)[repeated]
    oracle = half_oracles(shown, names)[0]
    nowhere = np.full(data.n_units, np.nan)
    return TargetData(
        oracle,
        *scores,
        *(fraction_of(score, oracle) for score in scores),
        nowhere,
        nowhere,
        None,
        None,
        np.zeros(data.n_units, int),
        None,
        evidence=gather(y, cnn.predict(images), ln.predict(images), shown, names),
    )


def _list(values: NDArray) -> list[float]:
    return [round(float(v), 5) for v in values]


def _tool(root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("twin_mouse", root / "tools" / "twin_mouse.py")
    if spec is None or spec.loader is None:
        raise SystemExit(f"{root}: no tools/twin_mouse.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--twin", type=Path, default=os.environ.get("INCEPTION_TWIN"))
    parser.add_argument("--folder", type=Path, required=True, help="where all is kept")
    parser.add_argument("--case", action="append", help="mouse-units-train-oracle-seed")
    parser.add_argument(
        "--config", default='{"default": {}}', help='JSON {name: configuration}; "ln" is LN'
    )
    parser.add_argument("--members", type=int, default=1)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--stage", default="make,train,truth,mei")
    arguments = parser.parse_args()
    if arguments.twin is None:
        parser.error("--twin or INCEPTION_TWIN names the folder of the twin mice")
    torch.set_num_threads(1)
    stages = arguments.stage.split(",")
    for name in arguments.case:
        case = Case(Path(arguments.twin), arguments.folder, name)
        case.make()
        if stages == ["make"]:
            continue
        trained = {}
        for label, config in json.loads(arguments.config).items():
            given = models.ln_config() if config == LN else config
            trained[label] = models.Ensemble(
                [case.encoder(label, given, s, arguments.epochs) for s in range(arguments.members)]
            )
            if "truth" in stages:
                case.truth(label, trained[label])
            if "mei" in stages:
                case.mei(label, trained[label])
        if "rules" in stages:
            case.rules(next(iter(trained.items())), trained[LN])


if __name__ == "__main__":
    main()
