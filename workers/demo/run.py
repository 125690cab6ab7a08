"""`inception demo`: a simulated mouse, both days, from TIFF files to the scored report.

Every step leaves its result under the demo folder and is skipped if that is there, so that the
same command continues after Ctrl-C, a kill or a lost database.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import schemas
from pipeline.errors import DataError
from pipeline.simulate import Mouse
from pipeline.simulate.photographs import natural_images
from schemas.decisions import other_day, tasks
from schemas.decisions.ingest import ingest_bundle
from workers.database import embedded
from workers.demo.progress import Steps, duration
from workers.demo.score import score_demo, truth_section
from workers.insight import status
from workers.package import write
from workers.report import text_of, write_report

CORES = 2  # jobs at a time; each computes on one core
POLL_S = 1.0
END_S = 10.0  # for a worker to hand its jobs back
SIMULATED_FAULTS = "The simulated rig drops, delays and repeats some images, as real ones do:"
OTHER_IMAGES, OTHER_SEEDS = 5000, [1]  # of the third day: seed of its images, and of its model

# seconds of work per table until the end of each day, on one core of the reference machine:
# lengths of the progress bar and of the time left, never results
TYPICAL_S: dict[int, dict[str, float]] = {
    1: {
        "imaging.Motion": 6,
        "imaging.SummaryImages": 12,
        "imaging.Segmentation": 30,
        "imaging.Fluorescence": 5,
        "behavior.Pupil": 50,
        "model.TrainedModel": 330,
        "mei.MEI": 15,
        "mei.Control": 20,
    },
    2: {
        "imaging.Motion": 15,
        "imaging.SummaryImages": 30,
        "imaging.Segmentation": 70,
        "imaging.Fluorescence": 12,
        "behavior.Pupil": 120,
        "model.TrainedModel": 80,
        "closed_loop.MEIDayStability": 15,
    },
}


@dataclass(frozen=True)
class Scale:
    """How large the simulated experiment is.

    Attributes
    ----------
    cells : int
        Responsive cells in the field.
    singles, repeated, repeats : int
        Images shown once; images shown again and again, and how often.
    targets : int
        Neurons whose stimuli are synthesized.
    minutes : float
        Length of the second day.
    other_day : bool
        Record natural images on a third day too (extracted traces), and compare the MEIs.
    like : str
        What the cells are like; see `pipeline.simulate.Population`.
    oracle : float, optional
        Median oracle correlation of the cells, of kinds that can be told.
    recipe : str or dict
        Name of the recipe in `schemas.closed_loop.RECIPES`, or what differs from the default.
    """

    cells: int = 60
    singles: int = 1600
    repeated: int = 36
    repeats: int = 8
    targets: int = 12
    minutes: float = 60.0
    other_day: bool = True
    like: str = "bends"
    oracle: float | None = None
    recipe: str | dict[str, Any] = "demo"


QUICK = Scale(
    cells=24,
    singles=400,
    repeated=20,
    repeats=6,
    targets=5,
    minutes=6.0,
    other_day=False,
    recipe={
        "model": {
            "cnn": {"training": {"epochs": 8, "min_steps": 60}},
            "ln": {"core": {"name": "linear"}, "training": {"epochs": 6, "min_steps": 60}},
            "cnn_seeds": [1],
            "ln_seeds": [1],
        },
        "plan": {"n_natural": 6},
    },
)
"""Everything once in two and a half minutes, for teaching and tests; little noise, few images."""


def run_demo(
    folder: str | Path = "demo",
    *,
    seed: int = 0,
    home: str | Path | None = None,
    scale: Scale | None = None,
    console: Console | None = None,
) -> dict[str, Any]:
    """Simulate a mouse and close one loop on it.

    Parameters
    ----------
    folder : path
        Bundles, package, database, log and report go here.
    seed : int
        The mouse.
    home : path, optional
        Database and store; by default `folder/home`.
    scale : Scale, optional
        Size of the experiment.
    console : rich.console.Console, optional
        Where progress is shown.

    Returns
    -------
    dict
        What is written to `report/result.json`.

    Raises
    ------
    DataError
        If the folder belongs to another demo, or a job failed.
    """
    folder = Path(folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    scale, steps = scale or Scale(), Steps(console)
    os.environ["INCEPTION_HOME"] = str(Path(home).resolve() if home else folder / "home")
    _same_demo(folder, {"seed": seed, **scale.__dict__})
    clock = _Clock(folder / "seconds.json")
    ours = embedded.is_embedded() and not embedded.status()["running"]
    try:
        with steps:
            result, report = _run(folder, seed, scale, clock, steps)
    except KeyboardInterrupt:
        steps.say(f"stopped after {duration(clock.total)} in all; the same command goes on")
        if ours:
            embedded.stop()
        raise
    result["seconds"] = round(clock.total, 1)
    text = json.dumps(result, indent=2)
    (report / "result.json").write_text(text + "\n", encoding="utf-8")
    steps.console.print(_result_table(result))
    steps.say(f"report: {folder / 'report' / 'index.html'}")
    steps.say(f"look at it in a browser: inception open --home {os.environ['INCEPTION_HOME']}")
    return result


def _run(
    folder: Path, seed: int, scale: Scale, clock: _Clock, steps: Steps
) -> tuple[dict[str, Any], Path]:
    """Take all steps that are not done yet; return the score and the folder of the report."""
    bundles = {day: folder / f"day{day}" for day in (1, 2)}
    key = {"animal_id": 1, "session": 1, "scan_idx": 1}
    with clock("simulate day 1"), steps.step("simulate day 1"):
        once(bundles[1], lambda part: simulate_day1(part, seed, scale, steps.frames()))
    with clock("day 1 to package"), steps.step("day 1: scan to package"):
        steps.note("starting the database")
        schemas.activate()
        _ingest_day1(bundles[1], scale)
        _work(folder, steps, 1)
        once(folder / "package", lambda part: write(key, part))
    with clock("simulate day 2"):
        with steps.step("simulate day 2"):
            once(
                bundles[2],
                lambda part: _mouse(seed, scale).record(
                    folder / "package", part, day=2, progress=steps.frames()
                ),
            )
        if scale.other_day:
            with steps.step("simulate day 3"):
                once(folder / "day3", lambda part: _simulate_day3(part, seed, scale))
    with clock("day 2 to outcome"), steps.step("day 2: scan to outcome"):
        steps.say(SIMULATED_FAULTS)
        ingest_bundle(bundles[2])
        if scale.other_day:
            _ingest_day3(folder / "day3")
        _work(folder, steps, 2)
    with clock("report"), steps.step("report"):
        report, mouse = folder / "report", _mouse(seed, scale)
        report.mkdir(exist_ok=True)
        result = score_demo(bundles, mouse, seconds=clock.total)
        write_report(report, extra=[truth_section(bundles[1], report)], headline=result)
    return result, report


class _Clock:
    """Adds up the seconds of every step over all runs of the demo."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._seconds = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}

    def __call__(self, step: str) -> _Clock:
        self._step = step
        return self

    def __enter__(self) -> None:
        self._start = time.monotonic()

    def __exit__(self, *_: object) -> None:
        spent = time.monotonic() - self._start
        self._seconds[self._step] = self._seconds.get(self._step, 0.0) + spent
        self._file.write_text(json.dumps(self._seconds), encoding="utf-8")

    @property
    def total(self) -> float:
        """Seconds spent in all steps."""
        return sum(self._seconds.values())


def _same_demo(folder: Path, settings: dict[str, Any]) -> None:
    file = folder / "demo.json"
    if file.exists():
        found = json.loads(file.read_text(encoding="utf-8"))
        if found != settings:
            raise DataError(
                "holds a demo with other settings",
                file=folder,
                found=found,
                expected=settings,
                remedy="give another folder, or delete this one",
            )
    else:
        file.write_text(json.dumps(settings), encoding="utf-8")


def once(target: Path, make: Callable[[Path], Any]) -> None:
    """Make a folder whole or not at all: under another name, then renamed."""
    if target.exists():
        return
    part = target.with_name(target.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    make(part)
    part.rename(target)


def _mouse(seed: int, scale: Scale) -> Any:
    return Mouse(seed, n_cells=scale.cells, like=scale.like, oracle=scale.oracle)


def simulate_day1(
    part: Path, seed: int, scale: Scale, progress: Callable[[int, int], None] | None = None
) -> None:
    """Record natural images in a simulated mouse.

    Parameters
    ----------
    part : path
        The bundle is written here.
    seed, scale
        As in `run_demo`.
    progress : callable, optional
        Called with frames written and frames in total.
    """
    mouse = _mouse(seed, scale)
    images = natural_images(scale.singles + scale.repeated, mouse.monitor_px, seed=seed)
    mouse.record(
        images, part, day=1, repeated=scale.repeated, repeats=scale.repeats, progress=progress
    )


def _simulate_day3(part: Path, seed: int, scale: Scale) -> None:
    """Record other natural images of the same cells, extracted elsewhere."""
    mouse = _mouse(seed, scale)
    n = scale.singles + scale.repeated
    images = natural_images(n, mouse.monitor_px, seed=seed + OTHER_IMAGES)
    mouse.record(
        images,
        part,
        day=3,
        repeated=scale.repeated,
        repeats=scale.repeats,
        imaging="traces",
        eye="csv",
    )


def _ingest_day1(bundle: Path, scale: Scale) -> None:
    key = ingest_bundle(bundle)
    tasks.register_loop(key, recipe=scale.recipe, targets=scale.targets, minutes=scale.minutes)


def _ingest_day3(bundle: Path) -> None:
    source = {"animal_id": 1, "session": 1, "scan_idx": 1}
    other_day.register_other_day(ingest_bundle(bundle), source, seeds=OTHER_SEEDS)


def _work(folder: Path, steps: Steps, day: int) -> None:
    """Run a worker until it is idle, and show what it does."""
    command = [sys.executable, "-m", "workers.cli", "worker", "--exit-when-idle"]
    command += ["--processes", str(CORES), "--sleep-duration", "0.5"]
    with (folder / "worker.log").open("a", encoding="utf-8") as log:
        # a session of its own: Ctrl-C reaches this process only, which then asks the worker to end
        worker = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            while worker.poll() is None:
                _show_jobs(steps, day)
                time.sleep(POLL_S)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                steps.say("stopping: jobs under way are handed back")
            _end(worker)
            raise
    if worker.returncode != 0:
        raise RuntimeError(
            f"the worker ended with exit code {worker.returncode}; see {folder / 'worker.log'} "
            f"and `inception errors --home {os.environ['INCEPTION_HOME']}`"
        )
    done, _, _ = status.tally()
    steps.note(f"{sum(count for count, _ in done.values())} jobs done")


def _end(worker: subprocess.Popen) -> None:
    """End a worker now: the second signal is that of somebody who does not wait for jobs."""
    for _ in range(2):
        worker.terminate()
        time.sleep(0.3)  # two at once would be one
    try:
        worker.wait(timeout=END_S)
    except subprocess.TimeoutExpired:
        os.killpg(worker.pid, signal.SIGKILL)  # its leases run out
        worker.wait()


def _show_jobs(steps: Steps, day: int) -> None:
    done, waiting, running = status.tally()
    jobs = sum(count for count, _ in done.values())
    expected = TYPICAL_S[day]
    spent = sum(min(done.get(table, (0, 0.0))[1], most) for table, most in expected.items())
    total = sum(expected.values())
    names = ", ".join(sorted({name.split(".")[-1] for name in running})) or "looking"
    left = duration((total - spent) / CORES)
    steps.note(f"{jobs}/{jobs + waiting + len(running)} jobs, {left}: {names}", spent, total)


def _result_table(result: dict[str, Any]) -> Table:
    table = Table(title="inception demo", box=None)
    table.add_column("figure")
    table.add_column("value", justify="right")
    for name, value in result.items():
        table.add_row(name, text_of(value))
    return table
