"""Positions that a person gives: checked, never coerced."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray


def check_indices(given: Any, size: int, name: str = "units") -> NDArray[np.int64]:
    """Return positions as integers, from positions or from a mask.

    Parameters
    ----------
    given : int, sequence of int, or mask of bool, shape (size,)
        Whole numbers may be of any numeric type; 2.7 and "2" are no positions.
    size : int
        Number of things that there are.
    name : str
        What they are, for the message.

    Returns
    -------
    int array, shape (n,)

    Raises
    ------
    ValueError
        If a value is no whole number, lies outside of 0 to size - 1, or a mask has another length.

    Examples
    --------
    >>> check_indices([False, True, True], 3)
    array([1, 2])
    >>> check_indices([2.7], 3)
    Traceback (most recent call last):
    ValueError: units must be whole numbers in 0..2 or a mask of 3, got 2.7
    """
    expected = f"{name} must be whole numbers in 0..{size - 1} or a mask of {size}"
    if isinstance(given, Iterable) and not isinstance(given, (str, bytes, np.ndarray)):
        given = list(given)  # a range, a generator, a pandas column
    values = np.atleast_1d(np.asarray(given))
    if values.ndim != 1:
        raise ValueError(f"{expected}, got an array of shape {values.shape}")
    if values.dtype == bool:
        if len(values) != size:
            raise ValueError(f"{expected}, got a mask of {len(values)}")
        return np.flatnonzero(values)
    if not len(values):
        return np.zeros(0, np.int64)
    if values.dtype.kind not in "iuf":
        raise ValueError(f"{expected}, got {values[0]!r}")
    wrong = values[(values != np.floor(values)) | (values < 0) | (values >= size)]
    if len(wrong):
        raise ValueError(f"{expected}, got {wrong[0]}")
    return values.astype(np.int64)
