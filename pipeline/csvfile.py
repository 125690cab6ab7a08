"""Comma-separated files of a recording, checked while they are read."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError


def read_text_columns(
    path: str | Path, columns: Sequence[str], optional: Sequence[str] = ()
) -> dict[str, list[str]]:
    """Return the named columns as text; optional ones only if they are there.

    Raises
    ------
    DataError
        If the file cannot be read as UTF-8 text, or lacks a column or a value.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as stream:
            rows = csv.DictReader(stream, skipinitialspace=True)
            header = [str(name).strip() for name in rows.fieldnames or []]
            rows.fieldnames = header
            missing = [name for name in columns if name not in header]
            if missing:
                raise DataError(
                    "column is missing",
                    file=path,
                    field=missing[0],
                    found=header,
                    expected=list(columns),
                )
            names = [*columns, *(name for name in optional if name in header)]
            found: dict[str, list[str]] = {name: [] for name in names}
            for row in rows:
                for name in names:
                    if row[name] is None:
                        raise DataError(
                            "line is too short", file=path, field=f"line {rows.line_num}"
                        )
                    found[name].append(row[name].strip())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            "cannot be read", file=path, found=error, expected="comma-separated UTF-8 text"
        ) from error
    return found


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
    texts = read_text_columns(path, columns, optional)
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
