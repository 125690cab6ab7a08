"""What a neuron is called, in every figure, table and message."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def unit_name(unit_id: int | None, field: int | None = None, *, output: int | None = None) -> str:
    """Return the one name of a neuron: `unit 12`, `unit 12 (field 2)`, `output 7`.

    Parameters
    ----------
    unit_id : int or None
        Its number in the scan; None in a prepared data set, whose units have no scan.
    field : int, optional
        Field that it lies in, given if its scan has several.
    output : int, optional
        Column of the responses; names a unit without `unit_id`.

    Raises
    ------
    ValueError
        If there is neither a `unit_id` nor an `output`.
    """
    if unit_id is not None:
        return f"unit {int(unit_id)}" + ("" if field is None else f" (field {int(field)})")
    if output is None:
        raise ValueError("a unit without unit_id is named by its output; got neither")
    return f"output {int(output)}"


def unit_numbers(unit_ids: NDArray) -> list[int]:
    """Return the whole numbers that stand for units in tables.

    Parameters
    ----------
    unit_ids : array, shape (units,)
        Whole numbers, also written as text, are kept; if any is something else, units are
        numbered 0, 1, ... in their order and their names stay in the file.
    """
    try:
        numbers = np.asarray(unit_ids).astype(np.float64)
    except (TypeError, ValueError):
        return list(range(len(unit_ids)))
    if not (
        np.isfinite(numbers).all() and (numbers % 1 == 0).all() and np.abs(numbers).max() < 2**53
    ):
        return list(range(len(unit_ids)))
    return [int(number) for number in numbers]
