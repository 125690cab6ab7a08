"""The report as one PDF: text and tables on pages of their own, figures as they are."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.image
import pandas as pd
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure

from workers.report.page import Section, text_of
from workers.version import code_version

PAGE = (8.27, 11.69)  # inches: A4
LINES, WIDTH = 68, 100
TABLE_ROWS = 24


def write_pdf(
    path: Path, folder: Path, sections: Sequence[Section], headline: Mapping[str, Any] | None
) -> Path:
    """Write all sections; pictures are read from `folder`."""
    with PdfPages(path, metadata={"Title": "Inception loop report"}) as pdf:
        lines = [f"inception-loop {code_version()}", ""]
        lines += [f"{name}: {text_of(value)}" for name, value in (headline or {}).items()]
        _text_pages(pdf, "Inception loop report", lines)
        for section in sections:
            lines = [line for remark in section.remarks for line in (*_wrapped(remark), "")]
            for title, table in section.tables:
                lines += ["", title, *_table(table)]
            if lines:
                _text_pages(pdf, section.title, lines)
            for picture in section.pictures:
                _picture_page(pdf, section.title, picture, folder)
    return path


def _wrapped(text: str) -> list[str]:
    return [line for part in text.splitlines() for line in textwrap.wrap(part, WIDTH) or [""]]


def _table(frame: pd.DataFrame) -> list[str]:
    text = frame.head(TABLE_ROWS).to_string(
        index=False, float_format=lambda v: f"{v:.3g}", max_colwidth=40, line_width=WIDTH, na_rep=""
    )
    more = len(frame) - TABLE_ROWS
    return [*text.splitlines(), *([f"... {more} more rows in the CSV"] if more > 0 else [])]


def _text_pages(pdf: PdfPages, title: str, lines: Sequence[str]) -> None:
    for start in range(0, max(len(lines), 1), LINES):
        figure = Figure(figsize=PAGE)
        figure.text(0.08, 0.955, title, fontsize=14, weight="bold")
        body = "\n".join(line[: WIDTH + 8] for line in lines[start : start + LINES])
        figure.text(0.08, 0.93, body, fontsize=7.5, family="monospace", va="top",
                    parse_math=False)  # fmt: skip
        pdf.savefig(figure)


def _picture_page(pdf: PdfPages, section: str, picture: Any, folder: Path) -> None:
    image = matplotlib.image.imread(folder / picture.file)
    figure = Figure(figsize=PAGE)
    figure.text(0.08, 0.955, f"{section}: {picture.title}", fontsize=11, weight="bold")
    height, width = image.shape[:2]
    across = 0.86
    down = min(0.78, across * PAGE[0] / PAGE[1] * height / width)
    axes = figure.add_axes((0.07, 0.93 - down, across, down))
    axes.imshow(image, interpolation="antialiased")
    axes.set_axis_off()
    caption = "\n".join(textwrap.wrap(picture.caption, WIDTH))
    figure.text(0.08, 0.91 - down, caption, fontsize=8, va="top", parse_math=False)
    pdf.savefig(figure, dpi=200)
