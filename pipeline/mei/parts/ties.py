"""Choices between values that differ by rounding: their order decides, never the last bit.

Near a maximum the response is flat: two images whose responses differ in the seventh digit differ
in the third. The last bit of a response depends on the processor and on the shape of the batch, so
a choice by the last bit would bring both into the image.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

Values = TypeVar("Values", NDArray, torch.Tensor)

TIE = 1e-5  # relative: ten times the rounding of a network's float32 sums


def reaches(values: Values, best: Values) -> Values:
    """Return where values are as large as `best`, up to rounding."""
    with np.errstate(invalid="ignore"):  # of an infinite best the second comparison is False
        return (values >= best) | (values >= best - TIE * abs(best))


def first_best(values: Values) -> Values:
    """Return, along the last axis, the place of the first value that reaches the largest.

    A NaN counts as the largest, as in `argmax`.
    """
    if isinstance(values, torch.Tensor):
        reached = reaches(values, values.amax(-1, keepdim=True)) | values.isnan()
        return reached.int().argmax(-1)
    return (reaches(values, values.max(-1, keepdims=True)) | np.isnan(values)).argmax(-1)
