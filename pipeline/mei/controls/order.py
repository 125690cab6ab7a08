"""The order in which stimuli are shown, in every figure and table."""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.stimulus.kinds import kind_and_variant

from .base import control_kinds

PUBLISHED = ("mei", "rf", "gabor", "mni", "fni")
"""The kinds of the paper, in the order in which they are shown; all others follow."""


def in_order(names: Iterable[str]) -> list[str]:
    """Return the names of stimuli once each, in the order in which they are shown.

    The published kinds come first, the other registered ones follow in the order of their
    registration, then those that are not registered, by name; the images of one kind stand
    together, by variant.

    Parameters
    ----------
    names : iterable of str
        As `pipeline.stimulus.kinds.stimulus_name` makes them.

    Examples
    --------
    >>> in_order(["gabor", "mei", "gabor:1"])
    ['mei', 'gabor', 'gabor:1']
    """
    ranks = {kind: rank for rank, kind in enumerate(dict.fromkeys([*PUBLISHED, *control_kinds]))}

    def place(name: str) -> tuple[int, str, int]:
        kind, variant = kind_and_variant(name)
        return ranks.get(kind, len(ranks)), kind, variant

    return sorted(set(names), key=place)
