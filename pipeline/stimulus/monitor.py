"""The calibrated monitor: pixel values to luminance and back."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import PchipInterpolator
from scipy.optimize import isotonic_regression, minimize_scalar, nnls

from pipeline.csvfile import read_columns
from pipeline.errors import DataError
from pipeline.registry import config_hash

MIN_STEP_CD_M2 = 0.05  # (mean step) below it nothing was measured, as published
MAX_WOBBLE = 0.02  # share of the range by which a measured curve may go down, or below 0
LEAST_LEVEL = 160  # that a calibration reaches: one in percent, or of 7 bits, ends below
GRID_PER_PIXEL = 64  # resolution of the inverse
HEADER = ["pixel_value", "luminance_cd_m2"]


@dataclass(frozen=True)
class GammaFit:
    """``luminance = amplitude * (pixel / 255) ** gamma + offset``, in cd/m2."""

    amplitude: float
    gamma: float
    offset: float
    rmse: float


class MonitorCurve:
    """A measured luminance curve with monotone interpolation both ways.

    Parameters
    ----------
    pixel_value : array, shape (points,)
        Gray levels 0-255; a level measured several times is averaged.
    luminance_cd_m2 : array, shape (points,)
        Slightly negative readings, the noise of a photometer in the dark, are 0.

    Raises
    ------
    DataError
        If values are missing or out of range, luminance hardly rises (the photometer saw nothing)
        or falls by more than 2 % of the range.
    """

    def __init__(self, pixel_value: ArrayLike, luminance_cd_m2: ArrayLike) -> None:
        pixel = np.asarray(pixel_value, np.float64).ravel()
        luminance = np.asarray(luminance_cd_m2, np.float64).ravel()
        where = {"field": "monitor calibration"}
        if len(pixel) != len(luminance) or not np.isfinite([*pixel, *luminance]).all():
            raise DataError("missing values", **where, expected="finite pairs")
        if len(pixel) and (pixel.min() < 0 or pixel.max() > 255):
            raise DataError(
                "pixel values are on another scale",
                **where,
                found=f"{pixel.min():g} to {pixel.max():g}",
                expected="0-255",
                remedy="write the 8-bit gray levels that were shown",
            )
        if len(pixel) and luminance.min() < -MAX_WOBBLE * np.ptp(luminance):
            raise DataError(
                "luminance is negative",
                **where,
                found=f"{luminance.min():g}",
                expected="cd/m2 >= 0",
                remedy="subtract no background",
            )
        luminance = np.maximum(luminance, 0)
        levels, index = np.unique(pixel, return_inverse=True)
        if len(levels) < 3:
            raise DataError("too few points", **where, found=len(levels), expected=">= 3 levels")
        measured = np.bincount(index, luminance) / np.bincount(index)
        if (measured[-1] - measured[0]) / (len(levels) - 1) < MIN_STEP_CD_M2:
            raise DataError(
                "no luminance measured",
                **where,
                found=f"{measured[0]:g}-{measured[-1]:g} cd/m2",
                remedy="repeat the calibration with the photometer on the screen",
            )
        rising = isotonic_regression(measured).x
        if np.abs(rising - measured).max() > MAX_WOBBLE * np.ptp(measured):
            raise DataError("luminance falls with pixel value", **where, expected="a rising curve")
        self.pixel_value, self.luminance_cd_m2 = levels, measured
        self._rising = rising

    @cached_property
    def _forward(self) -> PchipInterpolator:
        return PchipInterpolator(self.pixel_value, self._rising)

    @cached_property
    def _inverse(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        low, high = self.pixel_range
        grid = np.linspace(low, high, round((high - low) * GRID_PER_PIXEL) + 1)
        luminance, first = np.unique(self._forward(grid), return_index=True)
        return luminance, grid[first]

    @property
    def pixel_range(self) -> tuple[float, float]:
        """Darkest and brightest level that was measured; nothing beyond is ever shown."""
        return float(self.pixel_value[0]), float(self.pixel_value[-1])

    @property
    def luminance_range(self) -> tuple[float, float]:
        """Luminance of the darkest and the brightest measured level (cd/m2)."""
        return float(self._rising[0]), float(self._rising[-1])

    def to_luminance(self, pixel: ArrayLike) -> NDArray[np.float64]:
        """Return luminance (cd/m2) of pixel values; beyond the measured range that of its end."""
        return self._forward(np.clip(np.asarray(pixel, np.float64), *self.pixel_range))

    def to_pixel(self, luminance_cd_m2: ArrayLike) -> NDArray[np.float64]:
        """Return the pixel value (not rounded) of a luminance, clipped to the measured range."""
        return np.interp(np.asarray(luminance_cd_m2, np.float64), *self._inverse)

    @cached_property
    def table(self) -> NDArray[np.float64]:
        """Luminance of every 8-bit level, shape (256,)."""
        return self.to_luminance(np.arange(256))

    def gamma_fit(self) -> GammaFit:
        """Fit a gamma function by least squares; deterministic, no restarts.

        For a given exponent amplitude and offset are linear (and kept >= 0), so that only the
        exponent is searched, in [0.1, 20].
        """
        x, y = self.pixel_value / 255, self.luminance_cd_m2

        def solve(gamma: float) -> tuple[NDArray, float]:
            return nnls(np.column_stack([x**gamma, np.ones_like(x)]), y)

        grid = np.geomspace(0.1, 20, 60)
        best = int(np.argmin([solve(g)[1] for g in grid]))
        bounds = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
        found = minimize_scalar(
            lambda g: solve(g)[1], bounds=bounds, method="bounded", options={"xatol": 1e-9}
        )
        (amplitude, offset), residual = solve(found.x)
        return GammaFit(
            float(amplitude), float(found.x), float(offset), float(residual / np.sqrt(len(x)))
        )

    def digest(self) -> str:
        """Return a hash of the measured points."""
        return config_hash([self.pixel_value, self.luminance_cd_m2])

    @classmethod
    def read_csv(cls, path: str | Path) -> MonitorCurve:
        """Read ``pixel_value,luminance_cd_m2`` rows.

        Raises
        ------
        DataError
            If a column is missing, a value is no number, the curve is not usable, or pixel values
            or luminance are on another scale: of 0-1, in percent, of 16 bits.
        """
        points = read_columns(path, HEADER, at_least=0)
        try:
            _check_scale(*(points[name] for name in HEADER))
            return cls(*(points[name] for name in HEADER))
        except DataError as error:
            raise DataError(str(error), file=path) from None

    def write_csv(self, path: str | Path) -> None:
        """Write the measured points so that `read_csv` returns the same curve."""
        with open(path, "w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(HEADER)
            points = zip(self.pixel_value.tolist(), self.luminance_cd_m2.tolist(), strict=True)
            writer.writerows(points)


def _check_scale(pixel: NDArray[np.float64], luminance: NDArray[np.float64]) -> None:
    """Raise DataError if a calibration is on another scale than 8 bits and cd/m2."""
    if len(pixel) and pixel.max() < LEAST_LEVEL:
        raise DataError(
            "pixel values are on another scale, or end too early",
            field="pixel_value",
            found=f"{pixel.min():g} to {pixel.max():g}",
            expected="8-bit levels, measured from 0 up to 255",
            remedy="multiply levels of 0-1 by 255, percent by 2.55; measure up to white",
        )
    if len(luminance) and luminance.max() <= 1:
        raise DataError(
            "luminance is on a scale of its own",
            field="luminance_cd_m2",
            found=f"{luminance.min():g} to {luminance.max():g}",
            expected="cd/m2 as a photometer reads them",
            remedy="multiply a relative curve by the luminance of white",
        )
