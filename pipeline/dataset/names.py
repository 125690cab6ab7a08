"""What a neuron is called, in every figure, table and message."""

from __future__ import annotations


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
