"""README's picture and table from one finished demo: `python -m workers.demo.readme DEMO`.

For maintainers. Both are made from the demo's own tables in one call, so that neither can be of
another run than the other.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import schemas
from pipeline.errors import DataError
from pipeline.plotting.style import name_of
from schemas import closed_loop, mei
from workers.queue import tables
from workers.report import day2, stimuli
from workers.report.context import LoopPage

BEGIN, END = "<!-- demo: written by `make readme` -->", "<!-- demo: end -->"
PICTURE = Path("docs", "closed_loop.png")
BEST = 4  # targets in the picture
SCAN = {"animal_id": 1, "session": 1, "scan_idx": 1}


def write(demo: Path, root: Path, home: Path | None = None) -> dict[str, Any]:
    """Write picture and table of a finished demo into a checkout; return the demo's result.

    Parameters
    ----------
    demo : path
        Folder of `inception demo`.
    root : path
        The checkout: README.md with the two marks, and docs/.
    home : path, optional
        Database and store of the demo, if it was given a home of its own.

    Raises
    ------
    DataError
        If the demo is not finished, its result is not that of its tables, or README has no marks.
    """
    path, readme = demo / "report" / "result.json", root / "README.md"
    if not path.exists():
        raise DataError("no finished demo", file=path, remedy="run `inception demo` first")
    result = json.loads(path.read_text(encoding="utf-8"))
    settings = json.loads((demo / "demo.json").read_text(encoding="utf-8"))
    text = readme.read_text(encoding="utf-8")
    if not re.search(f"{re.escape(BEGIN)}.*{re.escape(END)}", text, re.DOTALL):
        raise DataError("has no place for the table", file=readme, expected=f"{BEGIN} ... {END}")
    os.environ["INCEPTION_HOME"] = str((home or demo / "home").resolve())
    schemas.activate()
    outcome = _outcome(result, path)
    _picture(outcome, root / PICTURE)
    head, rest = text.split(BEGIN)
    block = f"{BEGIN}\n{table(result)}\n\n{_source(settings)}\n{END}"
    readme.write_text(head + block + rest.split(END)[1], encoding="utf-8")
    return result


def _outcome(result: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return the key of the demo's only outcome, after a look whether the result is of it."""
    keys = closed_loop.Outcome.keys()
    if len(keys) != 1:
        raise DataError("not one demo", file=path, found=f"{len(keys)} outcomes", expected="1")
    rows = mei.as_stimuli(pd.DataFrame((closed_loop.Population.Kind & keys[0]).to_dicts()))
    found = dict(zip(rows["kind"], rows["fraction"], strict=True))
    if found != result["mei_wins"]:
        raise DataError(
            "is of another run than the tables",
            file=path,
            field="mei_wins",
            found=result["mei_wins"],
            expected=found,
            remedy="run `inception demo` again",
        )
    return keys[0]


def _picture(outcome: dict[str, Any], path: Path) -> None:
    """Draw the stimuli of the best targets above all responses to them."""
    with tempfile.TemporaryDirectory() as folder:
        page = LoopPage((closed_loop.Loop & SCAN).fetch1(), Path(folder), "loop")
        plan = {"plan_id": (closed_loop.Presentation & outcome).fetch1("plan_id")}
        rows = mei.as_stimuli(pd.DataFrame((closed_loop.Plan.Target & plan).to_dicts()))
        file = day2.comparison(page, outcome, "readme").file
        lower = (255 * matplotlib.image.imread(Path(folder) / file)[..., :3]).round()
        upper = pixels(stimuli.best(page, rows, BEST), lower.shape[1])
    matplotlib.image.imsave(path, below(upper, lower.astype(np.uint8)))


def pixels(figure: Figure, width: int) -> np.ndarray:
    """Return what a figure looks like at a width (px), uint8 (height, width, 3)."""
    figure.set_dpi(width / figure.get_figwidth())
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()


def below(*images: np.ndarray) -> np.ndarray:
    """Put pictures (height, width, 3) one below the other, in the middle of white."""
    width = max(image.shape[1] for image in images)
    padded = []
    for image in images:
        left = (width - image.shape[1]) // 2
        sides = ((0, 0), (left, width - image.shape[1] - left), (0, 0))
        padded.append(np.pad(image, sides, constant_values=255))
    return np.concatenate(padded)


def table(result: Mapping[str, Any]) -> str:
    """Return the figures of a demo as a markdown table; what misses its target is bold.

    Parameters
    ----------
    result : mapping
        `report/result.json` of the demo.
    """
    wins = result["mei_wins"]
    minutes, seconds = divmod(round(result["seconds"]), 60)
    names = ", ".join(name_of(kind) for kind in wins)
    found = f"{result['n_scored']} of {result['n_targets']} neurons found again"
    rows = [
        (
            "time, both days, report",
            [_number(result["seconds"], f"{minutes} min {seconds} s", most=900)],
            "< 15 min",
        ),
        ("jobs in error", [_number(result["jobs_error"], "{:d}", most=0)], "0"),
        ("motion error", [_number(result["motion_rms_px"], "{:.3f} px rms", most=0.2)], "<= 0.2"),
        (
            "cells: precision, recall",
            [_number(result[f"cell_{name}"], least=0.8) for name in ("precision", "recall")],
            ">= 0.8",
        ),
        ("traces, median r with true calcium", [_number(result["trace_r"], least=0.8)], ">= 0.8"),
        (
            "cells found again: precision, recall",
            [
                _number(result["match_precision"], least=0.9),
                _number(result["match_recall"], least=0.7),
            ],
            ">= 0.9, >= 0.7",
        ),
        (
            "fraction oracle, behavior frozen: CNN, LN",
            [
                _number(
                    result["cnn_fraction_oracle"], least=max(0.7, result["ln_fraction_oracle"])
                ),
                _number(result["ln_fraction_oracle"]),
            ],
            ">= 0.7, CNN above LN",
        ),
        (
            "how close the MEIs come to the best possible image (1: optimal; eye at rest)",
            [_number(result["mei_true_drive"])],
            "",
        ),
        (
            f"day 2: share of neurons with MEI above {names} ({found})",
            [_number(value, least=0.75) for value in wins.values()],
            ">= 0.75 each",
        ),
    ]
    lines = ["| figure | this run | target |", "|---|---|---|"]
    lines += [f"| {name} | {', '.join(values)} | {target} |" for name, values, target in rows]
    return "\n".join(lines)


def _number(
    value: float, form: str = "{:.2f}", *, least: float = -math.inf, most: float = math.inf
) -> str:
    text = form.format(value)
    return text if least <= value <= most else f"**{text}**"


def _source(settings: Mapping[str, Any]) -> str:
    """Return which run it was: seed, day and code, as the workers wrote them down."""
    tables.activate()
    done = (tables.Attempt & "outcome = 'done'").to_dicts()
    code = ", ".join(sorted({row["version"] for row in done}))
    day = max(row["ended_at"] for row in done).date().isoformat()
    return (
        f"(`make demo`, seed {settings['seed']}, {day}, {code}; picture and table are of this run, "
        "`demo/report/result.json` has the figures of yours.)"
    )


def main() -> None:
    """Write README's picture and table, from the folder that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m workers.demo.readme", description=main.__doc__)
    parser.add_argument("demo", type=Path, help="folder of a finished `inception demo`")
    parser.add_argument("--root", type=Path, default=Path(), help="the checkout (default: here)")
    parser.add_argument("--home", type=Path, help="its database and store (default: DEMO/home)")
    given = parser.parse_args()
    try:
        result = write(given.demo, given.root, given.home)
    except DataError as error:
        sys.exit(f"readme: {error}")
    print(f"README.md and {PICTURE}: {result['n_scored']} of {result['n_targets']} neurons scored")


if __name__ == "__main__":
    main()
