"""The smaller files of a rig: clocks, treadmill, monitor calibration."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.simulate.brain.behavior import AnimalState

TREADMILL = {"diameter_cm": 16.5, "counts_per_rev": 4096}
TREADMILL_HZ = 50.0


@dataclass(frozen=True)
class Clock:
    """A clock that started at another time and runs fast by `ppm`."""

    offset_s: float = 0.0
    ppm: float = 0.0

    def from_rig(self, rig_s: NDArray) -> NDArray[np.float64]:
        """Return the clock's reading at times on the rig's clock."""
        return np.asarray(rig_s) * (1 + self.ppm * 1e-6) + self.offset_s


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table; floats are to be formatted by the caller."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def monitor_curve(seed_rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Measure a monitor: pixel values and luminance (cd/m2), gamma about 2 and black above 0."""
    pixel = np.unique(np.r_[np.arange(0, 256, 15), 255])
    gamma = seed_rng.uniform(1.9, 2.2)
    luminance = 0.3 + 27.0 * (pixel / 255) ** gamma
    luminance = luminance * (1 + 0.004 * seed_rng.normal(size=len(pixel)))
    return pixel, np.maximum.accumulate(luminance + 1e-6 * np.arange(len(pixel)))


def treadmill_counts(
    state: AnimalState, time_s: NDArray, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return readings of a 32-bit counter at given times; it starts close to its wrap."""
    step = np.diff(time_s, prepend=time_s[0])
    distance_cm = np.cumsum(state.at(time_s, "speed_cm_s") * step)
    counts = distance_cm / (np.pi * TREADMILL["diameter_cm"]) * TREADMILL["counts_per_rev"]
    first = 2**32 - int(rng.integers(500, 4000))
    return (first + np.floor(counts).astype(np.int64)) % 2**32


def clock_pairs(
    clock: Clock, start_s: float, end_s: float, rng: np.random.Generator, every_s: float = 5.0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (stream, rig) times of shared pulses, with a tenth of a millisecond of jitter."""
    rig = np.arange(start_s, end_s, every_s)
    return clock.from_rig(rig) + rng.normal(0, 1e-4, len(rig)), rig
