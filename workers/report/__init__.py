"""`inception report`: figures, numbers, methods and statistics of every loop, as HTML and PDF."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline import plotting
from pipeline.errors import DataError
from schemas import MODULES, closed_loop, experiment
from workers.insight import status
from workers.report import day1, day2, methods, recording, stimuli, together
from workers.report.context import LoopPage
from workers.report.numbers import write_numbers
from workers.report.page import Picture, Section, text_of, write_html
from workers.report.pdf import write_pdf

__all__ = ["Picture", "Section", "text_of", "write_report"]


def write_report(
    out: str | Path,
    *,
    scans: Sequence[Mapping[str, int]] = (),
    extra: Sequence[Section] = (),
    headline: dict[str, Any] | None = None,
    pdf: bool = True,
    numbers: bool = True,
) -> dict[str, Any]:
    """Write `index.html`, `report.pdf`, PNG figures and CSV tables of loops.

    Parameters
    ----------
    out : path
        Folder; files in it are replaced.
    scans : sequence of keys
        Loops on these scans only; default all loops.
    extra : sequence of Section
        Further chapters (their pictures lie in `out` already).
    headline : dict, optional
        Figures shown at the top.
    pdf : bool
        Write the PDF too.
    numbers : bool
        Write every table of the loops as CSV, under `numbers/`.

    Returns
    -------
    dict
        `folder`, `loops`, `figures`, `missing` (figures of the paper without data) and, per loop,
        what was found.

    Raises
    ------
    DataError
        If there is no loop to report.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    chosen = closed_loop.Loop & [dict(scan) for scan in scans] if scans else closed_loop.Loop()
    loops = chosen.to_dicts(order_by=["registered", "recipe_hash"])
    if not loops:
        where = (
            "" if not scans else f" on {' or '.join(experiment.scan_name(scan) for scan in scans)}"
        )
        raise DataError(f"no loop is registered{where}", remedy="run `inception loop SCAN` first")
    pages = [
        LoopPage(loop, out, f"loop{number}", f"Loop {number}")
        if len(loops) > 1
        else LoopPage(loop, out, "loop")
        for number, loop in enumerate(loops, start=1)
    ]
    sections, missing = [], []
    for page in pages:
        chapters = _chapters(page)
        left = _missing([*chapters, *extra])
        for chapter in chapters if page.label else ():
            _say_whose(chapter, page)
        sections += chapters
        missing += [f"{page.label}, {line}" if page.label else line for line in left]
    everyone = together.animals(pages, out)
    sections += [*([everyone] if everyone else []), *extra, _timing(out)]
    if missing:
        sections.append(Section("Figures without data", remarks=missing))
    found = [page.summary for page in pages]
    write_html(out, sections, headline)
    if pdf:
        write_pdf(out / "report.pdf", out, sections, headline)
    if numbers:
        write_numbers(out / "numbers")
    figures = [picture.file for section in sections for picture in section.pictures]
    return {"folder": str(out), "loops": found, "figures": figures, "missing": missing}


def _say_whose(chapter: Section, page: LoopPage) -> None:
    """Name the loop in the title of a chapter and below each of its pictures."""
    if not chapter.title.startswith(page.label):
        chapter.title = f"{page.label}: {chapter.title}"
    for picture in chapter.pictures:
        picture.caption = f"{page.label}, {page.name}. {picture.caption}".rstrip()


def _chapters(page: LoopPage) -> list[Section]:
    """Return the chapters for which there are results."""
    chapters = [
        day1.overview(page),
        day1.field(page),
        recording.recording(
            page, page.scan, (page.imaging or {}).get("imaging_hash"), "day1", "The recording"
        ),
        day1.models(page),
        day1.selection(page),
        stimuli.stimuli(page),
        stimuli.analyses(page),
        *stimuli.other_days(page),
    ]
    told = set()
    for match in page.presentations():
        place = (match["session"], match["scan_idx"])
        if place not in told:  # a recording may be matched in several ways
            tag, day = (
                f"day{place[0]}_{place[1]}",
                f"{page.scan['animal_id']}/{place[0]}/{place[1]}",
            )
            title = f"The recording of {day}"
            chapters.append(recording.recording(page, match, match["imaging_hash"], tag, title))
            told.add(place)
        chapters += day2.presentation(page, match)
    chapters.append(methods.methods(page))
    return [chapter for chapter in chapters if chapter is not None]


PAPER = {
    "Figure 1": "needs trained models",
    "Figure 2": "needs a plan",
    "Figure 3": "needs a plan",
    "Figure 4": "needs a recording of day 2",
    "S1a": "needs the analysis `stability`, of MEIs with several starts",
    "S1b": "needs a recording of day 2",
    "S1c": "needs natural images of another day, see `inception loop --other-day-of`",
    "S2": "needs five natural images with five repeats on both days",
    "S3": "needs the analysis `gradient_spectrum`",
    "S4": "needs a plan",
    "S5": "needs the analysis `stability`, of MEIs with several starts",
    "S6": "needs a recording of day 2",
    "S7": "needs the analysis `spectrum_difference`",
    "S8": "needs receptive fields among the stimuli",
    "S9": "needs the analysis `linear_filter`",
    "S10": "needs the analysis `linearised`",
    "S11": "needs a plan",
}
"""Figures of Walker et al. (2019), and what each is made from."""


def _missing(sections: Sequence[Section]) -> list[str]:
    titles = " ".join(
        title.split(":")[0].replace("Figures", "Figure").replace(" and ", ", Figure ") + " "
        for section in sections
        for title in (picture.title for picture in section.pictures)
    )
    words = {word.strip(",") for word in titles.split()}
    return [
        f"{name if name.startswith('Figure') else 'Figure ' + name}: {why}."
        for name, why in PAPER.items()
        if name.removeprefix("Figure ") not in words
    ]


def _timing(out: Path) -> Section:
    """Draw how long every table took, from the workers' log of attempts."""
    done, _, _ = status.tally()
    order = {name: rank for rank, name in enumerate(MODULES)}
    stages = sorted(
        ((name, count, seconds) for name, (count, seconds) in done.items()),
        key=lambda row: (order.get(row[0].split(".")[0], len(order)), row[0]),
    )
    plotting.save(plotting.timing_figure(stages), out / "timing.png")
    frame = pd.DataFrame(stages, columns=["table", "jobs", "seconds"])
    frame.to_csv(out / "timing.csv", index=False)
    return Section("Time", [Picture("Work per table", "timing.png")])
