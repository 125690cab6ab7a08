"""What a report is made of, and its HTML page."""

from __future__ import annotations

import base64
import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, select_autoescape

from workers.version import code_version

SHOWN_ROWS = 30  # of a table on the page; the CSV has all of them


@dataclass
class Picture:
    """A figure of the report."""

    title: str
    file: str  # name of the PNG beside index.html
    caption: str = ""


@dataclass
class Section:
    """A chapter: pictures, tables of numbers, remarks."""

    title: str
    pictures: list[Picture] = field(default_factory=list)
    tables: list[tuple[str, pd.DataFrame]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def text_of(value: Any) -> str:
    """Return a figure as people read it: three decimals, small ones as powers of ten."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {text_of(item)}" for name, item in value.items())
    if isinstance(value, float):
        return f"{value:.3f}" if value == 0 or abs(value) >= 0.001 else f"{value:.1e}"
    return str(value)


def write_html(out: Path, sections: Sequence[Section], headline: Mapping[str, Any] | None) -> Path:
    """Write `index.html` with all pictures inside of it; return its path."""
    environment = Environment(
        loader=PackageLoader("workers"), autoescape=select_autoescape(["html", "j2"])
    )
    pieces = environment.get_template("report.html.j2").stream(
        sections=(_Rendered(section, out) for section in sections),
        headline={name: text_of(value) for name, value in (headline or {}).items()},
        version=code_version(),
        written=datetime.datetime.now().isoformat(" ", "seconds"),
    )
    path = out / "index.html"
    with path.open("wb") as file:  # piece by piece: a page is as large as all its pictures
        pieces.dump(file, encoding="utf-8")
    return path


class _Rendered:
    """A section with its tables as HTML and its pictures as data, read when they are written."""

    def __init__(self, section: Section, out: Path) -> None:
        self.title, self.remarks = section.title, section.remarks
        self.pictures = (
            {
                "title": picture.title,
                "file": picture.file,
                "caption": picture.caption,
                "data": base64.b64encode((out / picture.file).read_bytes()).decode(),
            }
            for picture in section.pictures
        )
        self.tables = [(title, _html(frame)) for title, frame in section.tables]


def _html(frame: pd.DataFrame) -> str:
    shown = frame.head(SHOWN_ROWS)
    text = shown.to_html(index=False, float_format=lambda v: f"{v:.4g}", border=0, na_rep="")
    if len(frame) > SHOWN_ROWS:
        text += f"<p class='meta'>{SHOWN_ROWS} of {len(frame)} rows; the CSV has all.</p>"
    return text
