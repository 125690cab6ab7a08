"""A loop at the paper's scale from plan to report: 150 neurons, MEI and RF, 20 repeats.

Responses are simulated without movies: both days come as extracted traces of a simulated cortex.
What a night computes before (models, MEIs) is made with the smallest configurations and timed
apart. Prints seconds per step, and CPU seconds (without the database server's) since others may
compute beside it; `loop_s` and `loop_cpu_s` add plan, package, audit, outcome and report.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.rng import generator
from pipeline.simulate.brain.population import Population
from pipeline.simulate.photographs import natural_images
from pipeline.stimulus.images import write_png

FPS, DECAY_S, FIELD_PX = 8.0, 0.5, 256
SETTINGS = {"training": {"epochs": 3, "min_steps": 30}}
RECIPE: dict[str, Any] = {
    "imaging": {"deconvolution": {"method": "derivative", "params": {}}},
    "model": {
        "cnn": {"core": {"name": "linear"}, **SETTINGS},
        "ln": {"core": {"name": "linear"}, **SETTINGS},
        "cnn_seeds": [1],
        "ln_seeds": [1],
    },
    "targets": {
        "params": {
            "edge_um": 0.0,
            "distance_um": 0.0,
            "min_score": -1.0,
            "share_of_best": -1.0,
            "min_oracle": -1.0,
        },
    },
    "mei": {"starts": 1, "batch_size": 150, "params": {"steps": 20}},
    "controls": [{"method": kind, "params": {}} for kind in ("mei", "rf")],
    "analyses": [{"method": "spectrum_difference", "params": {}}],  # the others belong to the night
    "plan": {"n_natural": 20, "params": {"repeats": 20}},
}
LISTED = ("plan", "package", "audit", "outcome", "report")
STEPS = {
    "audit": ("Audit",),
    "outcome": (
        "Outcome",
        "Confusion",
        "Comparison",
        "Population",
        "Sensitivity",
        "PooledOutcome",
        "CellMatchOracleCorrelation",
        "Prediction",
    ),
}


def masks_of(neurons: int, day: int) -> np.ndarray:
    """Return square cells on a jittered grid; day 2 is shifted by (3, -2) pixels."""
    side = int(np.ceil(np.sqrt(neurons)))
    step = (FIELD_PX - 24) // side
    rng = generator(0, "places")
    masks = np.zeros((neurons, FIELD_PX, FIELD_PX), bool)
    for unit in range(neurons):
        y, x = 10 + step * np.array(divmod(unit, side)) + rng.integers(0, max(1, step - 8), 2)
        y, x = y + 3 * (day - 1), x - 2 * (day - 1)
        masks[unit, y : y + 6, x : x + 6] = True
    return masks


def record(
    folder: Path,
    animal: Population,
    day: int,
    images: dict[str, np.ndarray],
    trials: pd.DataFrame,
    plan: str | None,
) -> Path:
    """Write a bundle of extracted traces: responses in every window, then calcium and noise."""
    (folder / "images").mkdir(parents=True)
    for name, image in images.items():
        write_png(folder / "images" / f"{name}.png", image)
    names = list(images)
    rates = animal.drive(np.stack(list(images.values())))
    rng = generator(day, "record")
    n = int((trials.offset_s.max() + 3) * FPS)
    time_s = np.arange(n) / FPS
    activity = np.zeros((n, animal.n_cells), np.float32)
    row = {name: k for k, name in enumerate(names)}
    first = np.searchsorted(time_s, trials.onset_s.to_numpy() + 0.05)
    for start, image in zip(first, trials.image, strict=True):
        activity[start : start + 4] += rates[row[image]] / FPS
    activity = rng.poisson(activity).astype(np.float32)
    for k in range(1, n):
        activity[k] += activity[k - 1] * np.exp(-1 / FPS / DECAY_S)
    traces = (activity + 0.1 * rng.normal(size=activity.shape)).T.astype(np.float32)
    masks = masks_of(animal.n_cells, day)
    texture = generator(0, "texture").random((FIELD_PX + 8, FIELD_PX + 8))
    mean = np.roll(texture, (3 * (day - 1), -2 * (day - 1)), (0, 1))[:FIELD_PX, :FIELD_PX]
    np.savez(folder / "traces.npz", time_s=time_s, fluorescence=traces)
    np.savez(folder / "masks.npz", masks=masks, mean_image=(mean + masks.any(0)).astype(np.float32))
    trials.assign(image=trials.image + ".png").to_csv(folder / "trials.csv", index=False)
    pixel = np.arange(0, 256, 5)
    curve = {"pixel_value": pixel, "luminance_cd_m2": 0.3 + 40 * (pixel / 255) ** 2.0}
    pd.DataFrame(curve).to_csv(folder / "monitor.csv", index=False)
    content = {
        "format": "inception-recording/1",
        "animal_id": 1,
        "session": day,
        "scan_idx": 1,
        "scan_ts": f"2026-11-2{day}T09:00:00",
        "rig": "benchmark",
        "indicator": "GCaMP6s",
        "imaging": {"traces": "traces.npz", "masks": "masks.npz", "um_per_px": [1.5, 1.5]},
        "monitor": {"width_px": 64, "height_px": 36, "calibration": "monitor.csv"},
        "plan": plan,
    }
    (folder / "recording.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def timed_table(trials: pd.DataFrame, blank_s: np.ndarray) -> pd.DataFrame:
    """Give trials their times on the rig clock."""
    onset = 2 + np.cumsum(blank_s + 0.02) + 0.5 * np.arange(len(trials))
    return trials.assign(
        onset_s=onset.round(4), offset_s=(onset + 0.5).round(4), blank_before_s=blank_s
    )


class Clock:
    """Seconds of every step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.cpu: dict[str, float] = {}

    def run(self, step: str, work: Any, *args: Any, **kwargs: Any) -> Any:
        """Call and add up the time."""
        start, cpu = time.perf_counter(), time.process_time()
        result = work(*args, **kwargs)
        self.seconds[step] = self.seconds.get(step, 0.0) + time.perf_counter() - start
        self.cpu[step] = self.cpu.get(step, 0.0) + time.process_time() - cpu
        return result


def populate(clock: Clock, plan: Any, step_of: dict[str, str], rest: str) -> None:
    for task in plan:
        stage, name = task.name.split(".")
        step = step_of.get(name, rest) if stage == "closed_loop" else rest
        clock.run(step, task.table.populate)


def measure(folder: Path, neurons: int, singles: int) -> dict[str, float]:
    """Close the loop in a fresh home and return the seconds of every step."""
    os.environ["INCEPTION_HOME"] = str(folder / "home")
    from schemas import closed_loop, stimulus
    from schemas.decisions import tasks
    from schemas.decisions.ingest import ingest_bundle
    from workers import package, report
    from workers.database import embedded
    from workers.queue import order as plan

    embedded.connect()
    from workers.queue import tables

    order = plan.load("schemas", "inception")
    tables.activate("inception")
    clock = Clock()
    animal = Population(0, neurons)
    shown = natural_images(singles + 20, (36, 64), seed=1)
    pictures = {f"n{k}": image for k, image in enumerate(shown)}
    rng = generator(0, "order")
    index = rng.permutation([*range(singles), *np.repeat(np.arange(singles, singles + 20), 8)])
    trials = pd.DataFrame({"trial_idx": range(len(index)), "image": [f"n{k}" for k in index]})
    spaced = timed_table(trials, rng.uniform(0.3, 0.5, len(trials)).round(4))
    day1 = record(folder / "day1", animal, 1, pictures, spaced, None)
    key = clock.run("prepare", ingest_bundle, day1)
    made = tasks.register_loop(key, RECIPE, targets=neurons, minutes=120)
    steps = {name: step for step, names in STEPS.items() for name in names}
    steps |= {"Plan": "plan", "AnalysisPlan": "plan", "PlanPower": "plan"}
    populate(clock, order, steps, "prepare")
    clock.run("package", package.write, key, folder / "package")
    planned = pd.DataFrame(
        (closed_loop.Plan.Trial & {"plan_id": made["plan_id"]}).to_dicts(order_by="trial_idx")
    ).rename(columns={"image_hash": "image"})
    stored = stimulus.load_images(stimulus.ImageSet.locate(sorted(set(planned.image))))
    pictures = {name: np.asarray(image) for name, image in stored.items()}
    trials = timed_table(planned[["trial_idx", "image"]], planned.blank_before_s.to_numpy())
    day2 = record(folder / "day2", animal, 2, pictures, trials, made["plan_id"])
    clock.run("day 2 to responses", ingest_bundle, day2)
    populate(clock, order, steps, "day 2 to responses")
    found = clock.run("report", report.write_report, folder / "report")
    outcome = (closed_loop.Outcome & {"session": 2}).fetch1()
    embedded.stop(folder / "home")
    return {
        "neurons": neurons,
        "trials": len(trials),
        "scored": outcome["n_scored"],
        "figures": len(found["figures"]),
        **{f"{name}_s": round(seconds, 1) for name, seconds in clock.seconds.items()},
        **{f"{name}_cpu_s": round(clock.cpu[name], 1) for name in LISTED},
        "loop_s": round(sum(clock.seconds[name] for name in LISTED), 1),
        "loop_cpu_s": round(sum(clock.cpu[name] for name in LISTED), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--neurons", type=int, default=150)
    parser.add_argument("--singles", type=int, default=600)
    parser.add_argument("--folder", type=Path, help="keep everything here [a temporary folder]")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        result = measure(folder, given.neurons, given.singles)
    if given.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name:24s} {value}")


if __name__ == "__main__":
    main()
