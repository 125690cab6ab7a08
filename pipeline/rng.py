"""Seeded randomness: one independent stream for every purpose.

A stream is named by a seed and labels, so that its numbers depend neither on what was drawn before
nor on the number of workers, threads or batches.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def derive_seed(seed: int, *labels: object) -> int:
    """Return a 63-bit seed that depends on `seed` and every label."""
    text = "/".join([str(int(seed)), *(str(label) for label in labels)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *labels: object) -> np.random.Generator:
    """Return the numpy generator of a named stream."""
    return np.random.default_rng(derive_seed(seed, *labels))


def torch_generator(seed: int, *labels: object) -> torch.Generator:
    """Return the torch generator (on the CPU, so that all devices see the same numbers)."""
    import torch

    return torch.Generator().manual_seed(derive_seed(seed, *labels))
