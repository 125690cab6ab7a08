"""What is drawn at random about every cell of a population."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.rng import generator

KINDS = ("simple", "complex", "mixed", "normalised")


@dataclass(frozen=True)
class CellTable:
    """What is known about every cell; arrays of shape (units,) unless said otherwise."""

    kind: NDArray[np.str_]
    y_px: NDArray[np.float64]  # center of the receptive field at mean gaze (model pixels)
    x_px: NDArray[np.float64]
    sigma_px: NDArray[np.float64]
    aspect: NDArray[np.float64]
    wavelength_px: NDArray[np.float64]
    orientation_rad: NDArray[np.float64]
    phase_rad: NDArray[np.float64]
    bend_rad: NDArray[np.float64]  # orientation of the second Gabor against the first
    reach_px: NDArray[np.float64]  # distance between the two, along the stripes of the first
    second_phase_rad: NDArray[np.float64]
    second_weight: NDArray[np.float64]  # amplitude of the second Gabor against the first
    phase_weight: NDArray[np.float64]  # 1 simple, 0 complex, between: mixed
    normalisation: NDArray[np.float64]  # 0 none, 1 full
    threshold: NDArray[np.float64]  # (natural sd)
    power: NDArray[np.float64]
    mean_hz: NDArray[np.float64]  # mean evoked rate over natural images
    base_hz: NDArray[np.float64]
    gain_pupil: NDArray[np.float64]  # log gain per relative change of the pupil radius
    gain_dilation: NDArray[np.float64]  # log gain per px/s
    gain_running: NDArray[np.float64]  # log gain of running fast against the reference
    noise_order: NDArray[np.int64]  # every k-th event of a Poisson process: Fano factor 1/k
    noise_gain_var: NDArray[np.float64]  # variance of the multiplicative gamma noise of a trial


def draw_cells(
    n: int, seed: int, shape: tuple[int, int], kinds: dict[str, float] | None = None
) -> CellTable:
    """Draw the properties of `n` cells; `kinds` are the fractions of the four kinds."""
    rng = generator(seed, "cells")
    fractions = kinds or {"simple": 0.15, "complex": 0.3, "mixed": 0.3, "normalised": 0.25}
    unknown = set(fractions) - set(KINDS)
    if unknown:
        raise ValueError(f"unknown kinds of cell {sorted(unknown)}; there are {KINDS}")
    share = np.array([fractions.get(kind, 0.0) for kind in KINDS])
    # the same share in every prefix: cell i takes the kind that is most behind
    counts, chosen = np.zeros(len(KINDS)), []
    for i in range(n):
        pick = int(np.argmax(share / share.sum() * (i + 1) - counts))
        counts[pick] += 1
        chosen.append(KINDS[pick])
    kind = np.array(chosen, dtype="<U10")
    scale = shape[0] / 36
    margin = 7.5 * scale
    sigma = np.clip(rng.lognormal(np.log(2.0), 0.18, n), 1.5, 2.9) * scale
    phase_weight = np.select(
        [kind == "simple", kind == "complex", kind == "mixed"],
        [1.0, 0.0, rng.uniform(0.4, 0.6, n)],
        default=rng.choice([0.5, 0.0], n),
    )
    aspect = rng.uniform(1.0, 1.4, n)
    return CellTable(
        kind=kind,
        y_px=rng.uniform(margin, shape[0] - 1 - margin, n),
        x_px=rng.uniform(margin, shape[1] - 1 - margin, n),
        sigma_px=sigma,
        aspect=aspect,
        wavelength_px=sigma * rng.uniform(2.2, 3.6, n),
        orientation_rad=rng.uniform(0, np.pi, n),
        phase_rad=rng.uniform(0, 2 * np.pi, n),
        bend_rad=np.deg2rad(rng.uniform(40, 85, n)) * rng.choice([-1, 1], n),
        reach_px=sigma * aspect * rng.uniform(1.1, 1.7, n),
        second_phase_rad=rng.uniform(0, 2 * np.pi, n),
        second_weight=rng.uniform(0.75, 1.0, n),
        phase_weight=phase_weight,
        normalisation=np.where(kind == "normalised", 1.0, 0.0),
        threshold=rng.uniform(0.2, 0.8, n),
        power=rng.uniform(1.0, 1.4, n),
        mean_hz=np.clip(rng.lognormal(np.log(2.6), 0.45, n), 0.8, 8.0),
        base_hz=rng.uniform(0.02, 0.3, n),
        gain_pupil=rng.normal(1.3, 0.7, n),
        gain_dilation=rng.normal(0.06, 0.04, n),
        gain_running=rng.normal(0.8, 0.5, n),
        noise_order=rng.choice([1, 1, 1, 2, 3], n),
        noise_gain_var=rng.choice([0.0, 0.05, 0.15, 0.4], n),
    )
