"""The report as one PDF: chapters that flow over A4 pages, pictures between their text."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from workers.report.page import Picture, Section, text_of
from workers.version import code_version

PAGE = (8.27, 11.69)  # inches: A4
LEFT, TOP, BOTTOM = 0.7, 0.8, 0.8  # margins (inches)
ACROSS = PAGE[0] - 2 * LEFT
TALLEST = PAGE[1] - TOP - BOTTOM - 1.4  # of a picture, with its title and two lines below it
DOTS = 130  # per inch of a picture that need not shrink to fit
PRINTED = 200  # dots per inch on paper
TABLE_ROWS, TABLE_WIDTH = 24, 106


def write_pdf(
    path: Path, folder: Path, sections: Sequence[Section], headline: Mapping[str, Any] | None
) -> Path:
    """Write all sections; pictures are read from `folder`."""
    with PdfPages(path, metadata={"Title": "Inception loop report"}) as pdf:
        flow = _Flow(pdf)
        flow.heading("Inception loop report", 18)
        flow.text(f"inception-loop {code_version()}")
        width = max(map(len, headline or {}), default=0)
        flow.table([f"{name:{width}}  {text_of(v)}" for name, v in (headline or {}).items()])
        for section in sections:
            flow.chapter(section)
            for remark in section.remarks:
                flow.text(remark)
            for title, frame in section.tables:
                if title:
                    flow.heading(title, 9)
                flow.table(_table(frame))
            for picture in section.pictures:
                flow.picture(picture, folder)
        flow.end()
    return path


class _Flow:
    """Pages that fill from the top; what does not fit goes to the next."""

    def __init__(self, pdf: PdfPages) -> None:
        self.pdf, self.page = pdf, 0
        self._begin()

    def _begin(self) -> None:
        self.page += 1
        self.figure = Figure(figsize=PAGE)
        self.y = TOP  # inches from the top of the page
        self.figure.text(0.5, 0.4 / PAGE[1], str(self.page), fontsize=8, ha="center")

    def end(self) -> None:
        """Write the page that is being filled."""
        self.pdf.savefig(self.figure, dpi=PRINTED)
        self.figure.clear()  # its pictures would stay in memory

    def need(self, inches: float) -> None:
        """Turn the page unless so much is left of it."""
        if self.y + inches > PAGE[1] - BOTTOM and self.y > TOP:
            self.end()
            self._begin()

    def _line(self, line: str, size: float, **style: Any) -> None:
        place = (LEFT / PAGE[0], 1 - self.y / PAGE[1])
        self.figure.text(*place, line, fontsize=size, va="top", parse_math=False, **style)
        self.y += 1.35 * size / 72

    def heading(self, title: str, size: float) -> None:
        """Write a bold line with space around it."""
        for line in textwrap.wrap(title, round(850 / size)):
            self._line(line, size, weight="bold")
        self.y += 0.05

    def chapter(self, section: Section) -> None:
        """Begin a section; its title stays with what follows."""
        first = 2.0 if section.remarks or section.tables or not section.pictures else 4.0
        self.y += 0.25 if self.y > TOP else 0.0
        self.need(first)
        self.heading(section.title, 14)

    def text(self, paragraph: str, size: float = 8.5) -> None:
        """Write a paragraph."""
        for part in paragraph.splitlines():
            for line in textwrap.wrap(part, round(890 / size)) or [""]:
                self.need(1.35 * size / 72)
                self._line(line, size)
        self.y += 0.08

    def table(self, lines: Sequence[str]) -> None:
        """Write lines of equal character width, on one page where they fit on one."""
        size = 7.5
        self.need(min(len(lines) * 1.35 * size / 72, PAGE[1] - TOP - BOTTOM))
        for line in lines:
            self.need(1.35 * size / 72)
            self._line(line[: TABLE_WIDTH + 2], size, family="monospace")
        self.y += 0.12

    def picture(self, picture: Picture, folder: Path) -> None:
        """Draw a picture with title and caption."""
        with Image.open(folder / picture.file) as opened:
            width, height = opened.size
            inches = min(width / DOTS, ACROSS, TALLEST * width / height)
            image = _printed(opened, inches)
        down = inches * height / width
        caption = [line for p in picture.caption.splitlines() for line in textwrap.wrap(p, 105)]
        self.need(0.35 + down + 0.16 * len(caption))
        self.heading(picture.title, 10)
        box = (LEFT / PAGE[0], 1 - (self.y + down) / PAGE[1], inches / PAGE[0], down / PAGE[1])
        axes = self.figure.add_axes(box)
        axes.imshow(image, interpolation="antialiased", aspect="auto")
        axes.set_axis_off()
        self.y += down + 0.06
        self.text("\n".join(caption), 8)
        self.y += 0.15


def _printed(opened: Image.Image, inches: float) -> NDArray[np.uint8]:
    """Return the pixels of a picture, no more of them than print at that width."""
    width = round(PRINTED * inches)
    if opened.width > width:
        size = (width, max(1, round(opened.height * width / opened.width)))
        return np.asarray(opened.convert("RGB").resize(size, Image.Resampling.LANCZOS))
    return np.asarray(opened.convert("RGB"))


def _table(frame: pd.DataFrame) -> list[str]:
    text = frame.head(TABLE_ROWS).to_string(
        index=False,
        float_format=lambda v: f"{v:.3g}",
        max_colwidth=40,
        line_width=TABLE_WIDTH,
        na_rep="",
    )
    more = len(frame) - TABLE_ROWS
    lines = [line.rstrip(" \\") for line in text.splitlines()]  # a wide table goes on below
    return [*lines, *([f"... {more} more rows in the CSV"] if more > 0 else [])]
