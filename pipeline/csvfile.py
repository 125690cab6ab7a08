"""Comma-separated files of a recording, checked while they are read."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.npy import check_regular

ENCODINGS = {  # by the bytes that a file begins with
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
DELIMITERS = (",", ";", "\t")
_EXPECTED = "comma-separated UTF-8 text"


def read_text_columns(
    path: str | Path, columns: Sequence[str], optional: Sequence[str] = ()
) -> dict[str, list[str]]:
    """Return the named columns as text; optional ones only if they are there.

    Text is UTF-8, UTF-16 with its mark, or Latin-1; columns are set apart by commas, semicolons
    or tabs. A decimal comma becomes a point where columns are not set apart by commas.

    Raises
    ------
    DataError
        If the file cannot be read as text, lacks a column or a value, or has a line with more
        values than columns.
    """
    return _read(path, columns, optional)[0]


def _read(
    path: str | Path, columns: Sequence[str], optional: Sequence[str]
) -> tuple[dict[str, list[str]], bool]:
    """Return the columns, and whether a comma in a value may be a decimal one."""
    try:
        lines, mark = _lines(path)
        rows = csv.reader(lines, delimiter=mark, skipinitialspace=True)
        header = [name.strip() for name in next(rows, [])]
        missing = [name for name in columns if name not in header]
        if missing:
            raise DataError(
                "column is missing",
                file=path,
                field=missing[0],
                found=[name[:40] for name in header[:20]],
                expected=list(columns),
            )
        names = [*columns, *(name for name in optional if name in header)]
        twice = [name for name in names if header.count(name) > 1]
        if twice:
            raise DataError("column comes twice", file=path, field=twice[0])
        places = {name: header.index(name) for name in names}
        found: dict[str, list[str]] = {name: [] for name in names}
        for row in rows:
            if not row:
                continue
            if len(row) > len(header) and any(cell.strip() for cell in row[len(header) :]):
                raise DataError(
                    "line has more values than columns",
                    file=path,
                    field=f"line {rows.line_num}",
                    found=f"{len(row)} values",
                    expected=f"{len(header)} columns",
                    remedy="write decimal points, or set columns apart by semicolons",
                )
            for name, place in places.items():
                if place >= len(row):
                    raise DataError("line is too short", file=path, field=f"line {rows.line_num}")
                found[name].append(row[place].strip())
    except (OSError, UnicodeError, csv.Error) as error:
        raise DataError("cannot be read", file=path, found=error, expected=_EXPECTED) from error
    return found, mark != ","


def _lines(path: str | Path) -> tuple[Iterator[str], str]:
    """Return the lines of a file as text, and what sets its columns apart."""
    check_regular(path)
    data = Path(path).read_bytes()
    encoding = next((name for mark, name in ENCODINGS.items() if data.startswith(mark)), None)
    if encoding is None:
        if b"\0" in data[:1024]:
            raise DataError("is no text, or UTF-16 without its mark", file=path, expected=_EXPECTED)
        encoding = "utf-8"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        if encoding != "utf-8":
            raise
        text = data.decode("latin-1")
    head = text.split("\n", 1)[0]
    if head.lower().startswith("sep=") and len(head.strip()) == 5:  # Excel's
        text = text.partition("\n")[2]
        head = text.split("\n", 1)[0]
    mark = max(DELIMITERS, key=head.count)
    return iter(io.StringIO(text, newline="")), mark


def read_columns(
    path: str | Path,
    columns: Sequence[str],
    *,
    optional: Sequence[str] = (),
    rising: str | None = None,
    nan: Sequence[str] = (),
    at_least: int = 2,
) -> dict[str, NDArray[np.float64]]:
    """Return named columns of numbers.

    Parameters
    ----------
    path : path
    columns, optional : sequence of str
        Columns that must, and that may, be there.
    rising : str, optional
        Column that must increase from line to line.
    nan : sequence of str
        Columns in which an empty value or NaN is allowed.
    at_least : int
        Fewest lines.

    Raises
    ------
    DataError
        If any of that does not hold.
    """
    texts, commas = _read(path, columns, optional)
    if commas:
        texts = {name: [item.replace(",", ".") for item in text] for name, text in texts.items()}
    arrays = {name: _numbers(path, name, text, name in nan) for name, text in texts.items()}
    count = len(next(iter(arrays.values())))
    if count < at_least:
        raise DataError("too few lines", file=path, found=count, expected=f"at least {at_least}")
    if rising is not None:
        steps = np.diff(arrays[rising])
        if (steps <= 0).any():
            line = int(np.argmax(steps <= 0)) + 3  # 1-based, after the header
            raise DataError(
                "times do not increase",
                file=path,
                field=f"{rising}, line {line}",
                found=f"{arrays[rising][line - 2]:g} s",
                expected="rising times",
                remedy="write more digits if times are equal; a clock that goes back was restarted",
            )
    return arrays


def _numbers(path: str | Path, name: str, text: list[str], nan: bool) -> NDArray[np.float64]:
    try:
        values = np.array([float(item) if item else np.nan for item in text], np.float64)
    except ValueError:
        line, item = next((i, t) for i, t in enumerate(text) if not _is_number(t))
        raise DataError(
            "not a number",
            file=path,
            field=f"{name}, line {line + 2}",
            found=repr(item[:40]),
            expected="a number",
        ) from None
    bad = np.isinf(values) | (np.isnan(values) if not nan else False)
    if bad.any():
        line = int(np.argmax(bad))
        raise DataError(
            "value is missing or not finite",
            file=path,
            field=f"{name}, line {line + 2}",
            found=repr(text[line]),
            expected="a finite number",
        )
    return values


def _is_number(text: str) -> bool:
    try:
        float(text or "nan")
    except ValueError:
        return False
    return True
