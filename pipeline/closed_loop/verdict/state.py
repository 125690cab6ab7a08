"""The state of an animal on one day, told to a model of another day."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def as_on_another_day(state: ArrayLike, before: ArrayLike | None) -> NDArray[np.float64] | None:
    """Bring every column to mean and standard deviation of another day.

    A camera that stands elsewhere moves all gazes and resizes all pupils: what a state is to a
    model is how far it is from the usual one.

    Parameters
    ----------
    state : array, shape (trials, columns)
        NaN where not known.
    before : array, shape (trials of that day, columns), or None
        What the model was trained on; None if it knows no state.

    Returns
    -------
    array, shape (trials, columns), or None
        A column of which less than half is known is that day's mean; NaN elsewhere as given.
    """
    if before is None:
        return None
    now, past = np.asarray(state, np.float64), np.asarray(before, np.float64)
    if now.shape[1:] != past.shape[1:]:
        raise ValueError(f"states {now.shape} and {past.shape} have different columns")
    result = np.empty(now.shape)
    for column, (values, old) in enumerate(zip(now.T, past.T, strict=True)):
        old = old[np.isfinite(old)]
        center, scale = (old.mean(), old.std()) if len(old) else (0.0, 0.0)
        known = values[np.isfinite(values)]
        if len(known) < 0.5 * len(values) or not len(known) or known.std() == 0:
            result[:, column] = center
        else:
            result[:, column] = center + (values - known.mean()) * scale / known.std()
    return result
