"""`inception demo`: a simulated mouse, both days, from TIFF files to the scored report.

Every step leaves its result under the demo folder and is skipped if that is there, so that the
same command continues after Ctrl-C, a kill or a lost database.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

import schemas
from pipeline.errors import DataError
from pipeline.simulate import Mouse
from pipeline.simulate.photographs import natural_images
from schemas.decisions import other_day, tasks
from schemas.decisions.ingest import ingest_bundle
from workers.demo.score import score_demo, truth_section
from workers.insight import status
from workers.package import write
from workers.report import text_of, write_report

CORES = 2  # jobs at a time; each computes on one core
POLL_S = 2.0
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
    recipe : str
        Name of the recipe in `schemas.closed_loop.RECIPES`.
    """

    cells: int = 60
    singles: int = 1600
    repeated: int = 36
    repeats: int = 8
    targets: int = 12
    minutes: float = 60.0
    other_day: bool = True
    recipe: str = "demo"


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
    scale, console = scale or Scale(), console or Console()
    os.environ["INCEPTION_HOME"] = str(Path(home).resolve() if home else folder / "home")
    _same_demo(folder, {"seed": seed, **scale.__dict__})
    clock = _Clock(folder / "seconds.json")
    bundles = {day: folder / f"day{day}" for day in (1, 2)}
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=28),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        with clock("simulate day 1"):
            once(
                bundles[1],
                lambda part: simulate_day1(part, seed, scale, _frames(progress, "simulate day 1")),
            )
        _open_database()
        with clock("day 1 to package"):
            _ingest_day1(bundles[1], scale)
            _work(folder, progress, 1, "scan to package")
            key = {"animal_id": 1, "session": 1, "scan_idx": 1}
            once(folder / "package", lambda part: _write_package(key, part))
        with clock("simulate day 2"):
            once(
                bundles[2],
                lambda part: _simulate_day2(part, folder / "package", seed, scale, progress),
            )
            if scale.other_day:
                once(folder / "day3", lambda part: _simulate_day3(part, seed, scale))
        with clock("day 2 to outcome"):
            _ingest(bundles[2])
            if scale.other_day:
                _ingest_day3(folder / "day3")
            _work(folder, progress, 2, "scan to outcome")
        with clock("report"):
            task = progress.add_task("report", total=1, note="")
            report, mouse = folder / "report", _mouse(seed, scale)
            report.mkdir(exist_ok=True)
            result = score_demo(bundles, mouse, seconds=clock.total)
            chapters = [truth_section(bundles[1], report)]
            write_report(report, extra=chapters, headline=result)
            progress.update(task, completed=1, total=1, note="done")
    result["seconds"] = round(clock.total, 1)
    text = json.dumps(result, indent=2)
    (report / "result.json").write_text(text + "\n", encoding="utf-8")
    console.print(_result_table(result))
    console.print(f"report: {folder / 'report' / 'index.html'}")
    return result


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
    return Mouse(seed, n_cells=scale.cells)


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


def _simulate_day2(part: Path, package: Path, seed: int, scale: Scale, progress: Progress) -> None:
    _mouse(seed, scale).record(package, part, day=2, progress=_frames(progress, "simulate day 2"))


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


def _frames(progress: Progress, name: str) -> Callable[[int, int], None]:
    task = progress.add_task(name, total=None, note="")
    start = time.monotonic()

    def show(done: int, total: int) -> None:
        left = (time.monotonic() - start) * (total - done) / max(done, 1)
        note = f"{done}/{total} frames, {_minutes(left)} left"
        progress.update(task, completed=done, total=total, note=note)

    return show


def _open_database() -> None:
    schemas.activate()


def _ingest(bundle: Path) -> dict[str, Any]:
    return ingest_bundle(bundle)


def _ingest_day1(bundle: Path, scale: Scale) -> None:
    key = _ingest(bundle)
    tasks.register_loop(key, recipe=scale.recipe, targets=scale.targets, minutes=scale.minutes)


def _ingest_day3(bundle: Path) -> None:
    source = {"animal_id": 1, "session": 1, "scan_idx": 1}
    other_day.register_other_day(_ingest(bundle), source, seeds=OTHER_SEEDS)


def _write_package(key: dict[str, int], part: Path) -> None:
    write(key, part)


def _work(folder: Path, progress: Progress, day: int, title: str) -> None:
    """Run a worker until it is idle, and show what it does."""
    command = [sys.executable, "-m", "workers.cli", "worker", "--exit-when-idle"]
    command += ["--processes", str(CORES), "--sleep-duration", "0.5"]
    overall = progress.add_task(f"day {day}: {title}", total=None, note="starting")
    with (folder / "worker.log").open("a", encoding="utf-8") as log:
        # a session of its own: Ctrl-C reaches this process only, which then asks the worker to end
        worker = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            while worker.poll() is None:
                _show_jobs(progress, overall, day)
                time.sleep(POLL_S)
        except BaseException:
            worker.terminate()
            worker.wait(timeout=60)
            raise
    _show_jobs(progress, overall, day, finished=True)
    if worker.returncode != 0:
        raise RuntimeError(
            f"the worker ended with exit code {worker.returncode}; see {folder / 'worker.log'} "
            f"and `inception errors --home {os.environ['INCEPTION_HOME']}`"
        )


def _show_jobs(progress: Progress, overall: int, day: int, *, finished: bool = False) -> None:
    done, waiting, running = status.tally()
    jobs = sum(count for count, _ in done.values())
    if finished:
        progress.update(overall, total=1, completed=1, note=f"{jobs} jobs done")
        return
    expected = TYPICAL_S[day]
    spent = sum(min(done.get(table, (0, 0.0))[1], most) for table, most in expected.items())
    total = sum(expected.values())
    names = ", ".join(sorted(set(running))) or "looking for work"
    left = _minutes((total - spent) / CORES)
    note = f"{jobs} jobs done, {waiting} waiting, about {left} left; {names}"
    progress.update(overall, total=total, completed=spent, note=note)


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def _result_table(result: dict[str, Any]) -> Table:
    table = Table(title="inception demo", box=None)
    table.add_column("figure")
    table.add_column("value", justify="right")
    for name, value in result.items():
        table.add_row(name, text_of(value))
    return table
