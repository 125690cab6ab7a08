"""What a stimulus is called: its kind, and which of a neuron's images of that kind it is."""

from __future__ import annotations

SEPARATOR = ":"
LONGEST = 64  # characters of a kind, as the tables store it


def stimulus_name(kind: str, variant: int = 0) -> str:
    """Return the one name of a kind and variant: `gabor`, `gabor:1`, `gabor:2`.

    Variant 0 has the name of its kind alone, so a neuron with one image of a kind has no number.
    """
    return kind if variant == 0 else f"{kind}{SEPARATOR}{variant}"


def kind_and_variant(name: str) -> tuple[str, int]:
    """Return the kind and the variant of a name that `stimulus_name` made."""
    kind, _, variant = name.partition(SEPARATOR)
    return kind, int(variant or 0)
