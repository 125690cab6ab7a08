"""Cells that look for a corner or a bend: two Gabor patches side by side at an angle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.rng import generator

from .cells import KINDS, Banks, CellTable, shared_out
from .filters import gabors

SATURATION = 5.0  # (natural sd)


@dataclass(frozen=True)
class BentCells(CellTable):
    """Cells of two patches each."""

    wavelength_px: NDArray[np.float64]
    orientation_rad: NDArray[np.float64]
    phase_rad: NDArray[np.float64]
    bend_rad: NDArray[np.float64]  # orientation of the second Gabor against the first
    reach_px: NDArray[np.float64]  # distance between the two, along the stripes of the first
    second_phase_rad: NDArray[np.float64]
    second_weight: NDArray[np.float64]  # amplitude of the second Gabor against the first


def draw_bends(
    n: int, seed: int, shape: tuple[int, int], kinds: Mapping[str, float] | None = None
) -> tuple[BentCells, Banks]:
    """Draw `n` cells and their filters; `kinds` are the fractions of the four kinds."""
    rng = generator(seed, "cells")
    fractions = kinds or {"simple": 0.15, "complex": 0.3, "mixed": 0.3, "normalised": 0.25}
    kind = shared_out(n, fractions, KINDS)
    scale = shape[0] / 36
    margin = 7.5 * scale
    sigma = np.clip(rng.lognormal(np.log(2.0), 0.18, n), 1.5, 2.9) * scale
    phase_weight = np.select(
        [kind == "simple", kind == "complex", kind == "mixed"],
        [1.0, 0.0, rng.uniform(0.4, 0.6, n)],
        default=rng.choice([0.5, 0.0], n),
    )
    aspect = rng.uniform(1.0, 1.4, n)
    cells = BentCells(
        kind=kind,
        form=np.full(n, "bend", dtype="<U10"),
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
        inhibition=np.zeros(n),
        saturation=np.full(n, SATURATION),
        drift_sd=np.zeros(n),
        oracle=np.full(n, np.nan),
    )
    return cells, _filters(cells, shape)


def _filters(cells: BentCells, shape: tuple[int, int]) -> Banks:
    """Draw the filters of two patches at an angle."""
    n = len(cells.kind)
    # the second patch continues the stripes of the first and bends away
    along_y = np.cos(cells.orientation_rad) * cells.reach_px / 2
    along_x = -np.sin(cells.orientation_rad) * cells.reach_px / 2
    size: dict[str, Any] = {
        "sigma_px": cells.sigma_px,
        "aspect": cells.aspect,
        "wavelength_px": cells.wavelength_px,
        "shape": shape,
    }

    def patch(which: int, quadrature: float) -> NDArray:
        sign = 2 * which - 1
        phase = (cells.phase_rad, cells.second_phase_rad)[which]
        return gabors(
            y_px=cells.y_px + sign * along_y,
            x_px=cells.x_px + sign * along_x,
            orientation_rad=cells.orientation_rad + which * cells.bend_rad,
            phase_rad=phase + quadrature,
            **size,
        ).reshape(n, -1)

    weight = cells.second_weight[:, None].astype(np.float32)
    apart = ((cells.phase_weight > 0) & (cells.phase_weight < 1))[:, None]
    linear = np.zeros(0, np.float32)
    banks = []
    for quadrature in (0.0, -np.pi / 2):
        first, second = patch(0, quadrature), patch(1, quadrature)
        both = first + weight * second
        banks.append(np.where(apart, second, both))
        if quadrature == 0:
            linear = np.where(apart, first, both)
    even, odd = banks
    return Banks(linear, even, odd)
