"""What is known about every cell of a population, whatever it looks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

KINDS = ("simple", "complex", "mixed", "normalised")


@dataclass(frozen=True)
class CellTable:
    """What is known about every cell; arrays of shape (units,) unless said otherwise."""

    threshold_from_mean: ClassVar[bool] = False

    kind: NDArray[np.str_]  # how it sums: one of KINDS
    form: NDArray[np.str_]  # what it looks for
    y_px: NDArray[np.float64]  # center of the receptive field at mean gaze (model pixels)
    x_px: NDArray[np.float64]
    sigma_px: NDArray[np.float64]
    aspect: NDArray[np.float64]
    phase_weight: NDArray[np.float64]  # 1 simple, 0 complex, between: mixed
    normalisation: NDArray[np.float64]  # 0 none, 1 full
    inhibition: NDArray[np.float64]  # by contrast, as a share of the drive of the form itself
    threshold: NDArray[np.float64]  # (natural sd) from 0, or from the mean over natural images
    power: NDArray[np.float64]
    saturation: NDArray[np.float64]  # (natural sd) drive at which half of the rate is left
    mean_hz: NDArray[np.float64]  # mean evoked rate over natural images
    base_hz: NDArray[np.float64]
    gain_pupil: NDArray[np.float64]  # log gain per relative change of the pupil radius
    gain_dilation: NDArray[np.float64]  # log gain per px/s
    gain_running: NDArray[np.float64]  # log gain of running fast against the reference
    drift_sd: NDArray[np.float64]  # log gain that wanders over a session
    noise_order: NDArray[np.int64]  # every k-th event of a Poisson process: Fano factor 1/k
    noise_gain_var: NDArray[np.float64]  # variance of the multiplicative gamma noise of a trial
    oracle: NDArray[np.float64]  # that the noise is made for; NaN: noise as drawn


@dataclass(frozen=True)
class Banks:
    """Filters of all cells, each (units, height * width): a linear one and a pair in quadrature."""

    linear: NDArray[np.float32]
    even: NDArray[np.float32]
    odd: NDArray[np.float32]


def shared_out(n: int, fractions: Mapping[str, float], known: tuple[str, ...]) -> NDArray[np.str_]:
    """Give each of `n` cells a name, in the same shares in every prefix.

    Raises
    ------
    ValueError
        If a fraction is of an unknown name, negative, or all are 0.
    """
    unknown = set(fractions) - set(known)
    if unknown:
        raise ValueError(f"unknown kinds of cell {sorted(unknown)}; there are {known}")
    share = np.array([fractions.get(name, 0.0) for name in known])
    if (share < 0).any() or not share.sum() > 0:
        raise ValueError(f"fractions of cells {dict(fractions)}; need 0 or more, and one above 0")
    # cell i takes the name that is most behind
    counts, chosen = np.zeros(len(known)), []
    for i in range(n):
        pick = int(np.argmax(share / share.sum() * (i + 1) - counts))
        counts[pick] += 1
        chosen.append(known[pick])
    return np.array(chosen, dtype="<U10")
