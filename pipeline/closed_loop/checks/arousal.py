"""Trials of one arousal: a control of the comparison for the animal's state."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from pipeline.rng import generator


def arousal_matched(
    kind: ArrayLike, arousal: ArrayLike, *, n_bins: int = 5, seed: int = 0
) -> NDArray[np.bool_]:
    """Choose trials so that every kind has the same distribution of arousal.

    Parameters
    ----------
    kind : array, shape (trials,)
        Kind of the image on each trial.
    arousal : array, shape (trials,)
        Pupil radius or running speed; a trial with NaN is not chosen.
    n_bins : int
        Quantiles of arousal; within each, every kind keeps as many trials as the rarest kind has.

    Returns
    -------
    array of bool, shape (trials,)
    """
    names, values = np.asarray(kind).astype(str), np.asarray(arousal, np.float64)
    if names.shape != values.shape:
        raise ValueError(f"kinds {names.shape} and arousal {values.shape} differ in trials")
    keep = np.zeros(len(names), bool)
    known = np.flatnonzero(np.isfinite(values))
    if not len(known):
        return keep
    kinds = np.unique(names[known])
    bins = pd.qcut(values[known], n_bins, labels=False, duplicates="drop")
    rng = generator(seed, "arousal")
    for b in np.unique(bins):
        members = [known[(bins == b) & (names[known] == name)] for name in kinds]
        fewest = min(len(m) for m in members)
        for member in members:
            keep[rng.choice(member, fewest, replace=False)] = True
    return keep
