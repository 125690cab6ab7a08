"""Seeded randomness: one independent stream for every purpose.

A stream is named by a seed and labels, so that its numbers depend neither on what was drawn before
nor on the number of workers, threads or batches.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch


def derive_seed(seed: int, *labels: object) -> int:
    """Return a 63-bit seed that depends on `seed` and every label."""
    text = "/".join([str(int(seed)), *(str(label) for label in labels)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *labels: object) -> np.random.Generator:
    """Return the numpy generator of a named stream.

    Examples
    --------
    >>> a, b = generator(7, "noise", 3), generator(7, "noise", 3)
    >>> float(a.random()) == float(b.random()) != float(generator(7, "noise", 4).random())
    True
    """
    return np.random.default_rng(derive_seed(seed, *labels))


def torch_generator(seed: int, *labels: object) -> torch.Generator:
    """Return the torch generator (on the CPU, so that all devices see the same numbers)."""
    import torch

    return torch.Generator().manual_seed(derive_seed(seed, *labels))


def normal_rows(
    seed: int, label: str, names: Sequence[int] | NDArray, shape: tuple[int, ...]
) -> NDArray[np.float64]:
    """Draw normal numbers, shape (names, *shape): every row from the stream of its own name."""
    rows = np.empty((len(names), *shape))
    for row, name in zip(rows, names, strict=True):
        row[...] = generator(seed, label, name).normal(size=shape)
    return rows
