"""What a stimulus is called: its kind, and which of a neuron's images of that kind it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

SEPARATOR = ":"
LONGEST = 64  # characters of a kind, as the tables store it
MEI = "mei"
NATURAL = "natural"  # images of the source scan that a plan shows again; they belong to no neuron


def stimulus_name(kind: str, variant: int = 0) -> str:
    """Return the one name of a kind and variant: `gabor`, `gabor:1`, `gabor:2`.

    Variant 0 has the name of its kind alone, so a neuron with one image of a kind has no number.
    """
    return kind if variant == 0 else f"{kind}{SEPARATOR}{variant}"


def kind_and_variant(name: str) -> tuple[str, int]:
    """Return the kind and the variant of a name that `stimulus_name` made."""
    kind, _, variant = name.partition(SEPARATOR)
    return kind, int(variant or 0)


def stimulus_columns(name: str) -> dict[str, Any]:
    """Return a name as the columns `kind` and `variant` of a table."""
    kind, variant = kind_and_variant(name)
    return {"kind": kind, "variant": variant}


def name_of(row: Mapping[str, Any]) -> str:
    """Return the name of a row that has the columns `kind` and `variant`."""
    return stimulus_name(row["kind"], row["variant"])


def names_of(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the names of all rows, the MEI first: the first names an image that two share.

    Examples
    --------
    >>> names_of([{"kind": kind, "variant": number} for kind, number in [("rf", 1), ("mei", 0)]])
    ['mei', 'rf:1']
    """
    names = {name_of(row): kind_and_variant(name_of(row)) for row in rows}
    return sorted(names, key=lambda name: (names[name][0] != MEI, names[name]))


def check_kind(kind: str) -> str:
    """Return the name of a kind, unless tables and names of stimuli cannot hold it.

    Raises
    ------
    ValueError
        If it is empty, longer than `LONGEST`, contains `SEPARATOR`, or is `NATURAL`.
    """
    if not 0 < len(kind) <= LONGEST:
        raise ValueError(
            f"kind of control {kind!r} has {len(kind)} characters; expected 1 to {LONGEST}; "
            "register it under a shorter name"
        )
    if SEPARATOR in kind:
        raise ValueError(
            f"kind of control {kind!r} contains {SEPARATOR!r}, which separates a kind from its "
            "variant; register it under another name"
        )
    if kind == NATURAL:
        raise ValueError(
            f"kind of control {kind!r} is the name of the natural images that a plan shows again; "
            "register it under another name"
        )
    return kind
